// A call of a handler as XLA makes it, its arrays in memory of their own: what reads or writes past an end is found.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "xla/ffi/api/c_api.h"

namespace hpjax::tests {

using Sizes = std::vector<int64_t>;
using Handler = XLA_FFI_Error*(XLA_FFI_CallFrame*);

// An operand or a result: memory of exactly its size, every byte 0xff, which is NaN in any floating-point type.
struct Array {
  XLA_FFI_DataType type;
  Sizes sizes;
  std::shared_ptr<void> memory;

  int64_t count() const;
  size_t bytes() const;
  // An element of a float32, bfloat16 or uint8 array.
  double operator[](int64_t i) const;
  // Writes one of a float32 or bfloat16 array, rounded to the nearest.
  void set(int64_t i, double value) const;
  float* floats() const { return static_cast<float*>(memory.get()); }
  uint8_t* octets() const { return static_cast<uint8_t*>(memory.get()); }
  void poison() const;
};

Array array(XLA_FFI_DataType type, const Sizes& sizes);
// A number as float32, then as bfloat16, each the nearest.
double bf16(double value);
inline Array floats(const Sizes& sizes) { return array(XLA_FFI_DataType_F32, sizes); }
inline Array halves(const Sizes& sizes) { return array(XLA_FFI_DataType_BF16, sizes); }
inline Array octets(const Sizes& sizes) { return array(XLA_FFI_DataType_U8, sizes); }

// A scalar or an array among a handler's attributes.
struct Attribute {
  bool scalar;
  Array value;
};

Attribute flag(bool value);
Attribute number(int64_t value);
Attribute numbers(const Sizes& values);
Attribute reals(const std::vector<float>& values);

struct Call {
  std::vector<Array> operands, results;
  std::map<std::string, Attribute> attributes;  // sorted by name, as XLA hands them over

  // Returns the error's text, or an empty one.
  std::string run(Handler* handler) const;
};

}  // namespace hpjax::tests
