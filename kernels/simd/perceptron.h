// Two dense layers with an activation between them, a stretch of rows at a time: what lies between stays in the second cache.
#pragma once
#include "matmul.h"

namespace hpjax::HPJAX_ISA {

constexpr int64_t STRETCH_ROWS = 128;

enum PerceptronPlace { TO_HIDDEN = 2, TO_END, VALUES, INSIDE };

// How products are done here, by vectors: `pack` makes op(b) ready in a place of scratch, `product` multiplies by it, or by
// m.b. None of them fails; see ByTriples, whose `pack` may return null.
struct ByVectors {
  static const void* pack(const float* b, bool transposed, int64_t depth, int64_t columns, int place) {
    float* to = scratch(place, static_cast<size_t>(packed_size(columns, depth)));
    for (int64_t from = 0; from < depth; from += DEPTH)
      hpjax::HPJAX_ISA::pack(b, transposed, depth, columns, from, smaller(DEPTH, depth - from), to + packed_size(columns, from));
    return to;
  }
  static bool product(const Matmul& m, const void* packed) {
    const float* right = static_cast<const float*>(packed);
    for (int64_t from = 0; from < m.depth; from += DEPTH)
      block(m, from, smaller(DEPTH, m.depth - from), right + packed_size(m.columns, from));
    return true;
  }
  static bool product(const Matmul& m) {
    matmul(m);
    return true;
  }
};

template <class Products>
static bool perceptron_forward(const PerceptronForward& p) {
  const void* to_hidden = Products::pack(p.kernel, false, p.inputs, p.hidden, TO_HIDDEN);
  const void* to_end = Products::pack(p.out_kernel, false, p.hidden, p.outputs, TO_END);
  if (!to_hidden || !to_end) return false;
  float* values = scratch(VALUES, static_cast<size_t>(smaller(STRETCH_ROWS, p.rows) * p.hidden));
  for (int64_t i = 0; i < p.rows; i += STRETCH_ROWS) {
    Matmul m{};
    m.rows = smaller(STRETCH_ROWS, p.rows - i), m.columns = p.hidden, m.depth = p.inputs;
    m.a = p.x + i * p.inputs, m.bias = p.bias, m.activation = p.activation, m.c = values;
    m.before = p.before ? p.before + i * p.hidden : nullptr;
    if (!Products::product(m, to_hidden)) return false;
    m.columns = p.outputs, m.depth = p.hidden;
    m.a = values, m.bias = p.out_bias, m.activation = NONE, m.c = p.y + i * p.outputs, m.before = nullptr;
    if (!Products::product(m, to_end)) return false;
  }
  return true;
}

// From what went into the activation and its result's cotangent, the result again and the cotangent of what went in.
template <Activation A>
static void inside(int64_t rows, int64_t columns, const float* before, float* values, float* cotangent, float* sums) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t n = 0; n < columns; n += W) {
      const int64_t at = i * columns + n, valid = columns - n;
      __builtin_prefetch(before + at + 64 * W);
      const V x = load_part(before + at, valid);
      V y, to;
      through<A>(x, load_part(cotangent + at, valid), y, to);
      store_part(values + at, y, valid), store_part(cotangent + at, to, valid);
      store_part(sums + n, load_part(sums + n, valid) + to, valid);
    }
}

static void inside(Activation a, int64_t rows, int64_t columns, const float* before, float* values, float* cotangent,
                   float* sums) {
  switch (a) {
    case RELU: return inside<RELU>(rows, columns, before, values, cotangent, sums);
    case TANH: return inside<TANH>(rows, columns, before, values, cotangent, sums);
    case GELU: return inside<GELU>(rows, columns, before, values, cotangent, sums);
    case SILU: return inside<SILU>(rows, columns, before, values, cotangent, sums);
    case NONE: return inside<NONE>(rows, columns, before, values, cotangent, sums);
  }
}

template <class Products>
static bool perceptron_backward(const PerceptronBackward& p) {
  const void* to_hidden = Products::pack(p.out_kernel, true, p.outputs, p.hidden, TO_HIDDEN);
  const void* to_end = Products::pack(p.kernel, true, p.hidden, p.inputs, TO_END);
  if (!to_hidden || !to_end) return false;
  const size_t size = static_cast<size_t>(smaller(STRETCH_ROWS, p.rows) * p.hidden);
  float *values = scratch(VALUES, size), *cotangents = scratch(INSIDE, size);
  for (int64_t n = 0; n < p.hidden; ++n) p.to_bias[n] = 0;
  for (int64_t n = 0; n < p.outputs; ++n) p.to_out_bias[n] = 0;
  for (int64_t i = 0; i < p.rows; i += STRETCH_ROWS) {
    const int64_t rows = smaller(STRETCH_ROWS, p.rows - i);
    const float *x = p.x + i * p.inputs, *cotangent = p.cotangent + i * p.outputs;
    Matmul m{};
    m.rows = rows, m.columns = p.hidden, m.depth = p.outputs, m.a = cotangent, m.c = cotangents;
    if (!Products::product(m, to_hidden)) return false;
    inside(p.activation, rows, p.hidden, p.before + i * p.hidden, values, cotangents, p.to_bias);
    m.columns = p.inputs, m.depth = p.hidden, m.a = cotangents, m.c = p.to_x + i * p.inputs;
    if (!Products::product(m, to_end)) return false;
    m.transpose_a = true, m.accumulate = i > 0, m.depth = rows;
    m.rows = p.inputs, m.columns = p.hidden, m.a = x, m.b = cotangents, m.c = p.to_kernel;
    if (!Products::product(m)) return false;
    m.rows = p.hidden, m.columns = p.outputs, m.a = values, m.b = cotangent, m.c = p.to_out_kernel;
    if (!Products::product(m)) return false;
    pullback(Pullback{rows, p.outputs, NONE, nullptr, cotangent, nullptr, p.to_out_bias}, i > 0);
  }
  return true;
}

}  // namespace hpjax::HPJAX_ISA
