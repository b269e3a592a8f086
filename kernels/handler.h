// What the handlers share: dense float32 buffers, and errors that say which shapes came.
#pragma once
#include <string>

#include "operators.h"
#include "pages.h"
#include "xla/ffi/api/ffi.h"

namespace hpjax {

namespace ffi = xla::ffi;
using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;

template <class Buffer>
std::string shape(const Buffer& buffer) {
  std::string text = "[";
  for (int64_t size : buffer.dimensions()) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

template <class Buffer>
bool is(const Buffer& buffer, std::initializer_list<int64_t> expected) {
  const auto sizes = buffer.dimensions();
  return sizes.size() == expected.size() && std::equal(sizes.begin(), sizes.end(), expected.begin());
}

// An array of no elements stands for one that is left out.
template <class Buffer>
bool is_or_none(const Buffer& buffer, std::initializer_list<int64_t> expected) {
  return is(buffer, expected) || buffer.element_count() == 0;
}

template <class Buffer>
auto data_or_null(Buffer& buffer) -> decltype(buffer.typed_data()) {
  return buffer.element_count() == 0 ? nullptr : buffer.typed_data();
}

// A result that a handler writes first, all of it.
inline float* fresh(Result& result) {
  in_large_pages(result->typed_data(), result->size_bytes());
  return result->typed_data();
}
inline float* fresh_or_null(Result& result) { return result->element_count() == 0 ? nullptr : fresh(result); }

inline ffi::Error refused(const std::string& what) { return ffi::Error::InvalidArgument("hpjax: " + what); }

inline bool known(int64_t activation) { return activation >= NONE && activation <= SILU; }

}  // namespace hpjax
