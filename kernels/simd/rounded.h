// Products of bfloat16 where the processor has none: those of float32 arrays that are rounded to bfloat16 beforehand.
#pragma once
#include "conv.h"
#include "matmul.h"

namespace hpjax::HPJAX_ISA {

static const float* rounded_copy(int place, const float* from, int64_t size) {
  float* to = scratch(place, size);
  for (int64_t i = 0; i < size; i += W) store_part(to + i, rounded(load_part(from + i, size - i)), size - i);
  return to;
}

static void matmul_bf16(const Matmul& given) {
  Matmul m = given;
  m.a = rounded_copy(LEFT, m.a, m.rows * m.depth);
  m.b = rounded_copy(RIGHT, m.b, m.depth * m.columns);
  matmul(m);
}

template <class Any>
static Any rounded_operands(const Any& given) {
  Any c = given;
  c.x = rounded_copy(LEFT, c.x, c.batch * c.height * c.width * c.channels);
  c.kernel = rounded_copy(RIGHT, c.kernel, c.taps_down * c.taps_across * c.channels * c.features);
  return c;
}

static void conv_forward_bf16(const ConvForward& given) { conv_forward(rounded_operands(given)); }
// The cotangent is rounded where it is made.
static void conv_backward_bf16(const ConvBackward& given) { conv_backward(rounded_operands(given)); }

}  // namespace hpjax::HPJAX_ISA
