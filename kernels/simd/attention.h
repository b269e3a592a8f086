// Attention of sequences to themselves, head after head: what one head sees stays in the first two caches.
#pragma once
#include "matmul.h"

namespace hpjax::HPJAX_ISA {

// Rows of which whole vectors can be read.
struct Rows {
  const float* at;
  int64_t stride;
};

static Rows padded(const float* from, int64_t stride, int64_t rows, int64_t dim, int place) {
  if (dim % W == 0) return Rows{from, stride};
  const int64_t wide = vectors(dim) * W;
  float* to = scratch(place, static_cast<size_t>(rows * wide));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t n = 0; n < dim; n += W) store(to + r * wide + n, load_part(from + r * stride + n, dim - n));
  return Rows{to, wide};
}

// c [rows, columns] = rows of a times the turned rows of b, in panels; whole vectors of c are written.
static void scores(const float* a, int64_t a_stride, int64_t rows, int64_t dim, const float* panels, int64_t time,
                   int64_t columns, float* c, int64_t c_stride) {
  const float* left[MR];
  const int64_t none = 0;
  for (int64_t r = 0; r < rows; ++r) left[r] = a + r * a_stride;
  for (int64_t n = 0; n < columns; n += NV * W) {
    const int64_t count = smaller(NV, vectors(columns - n)), wide = smaller(NV, vectors(time - n)) * W;
    float* out[MR];
    for (int64_t r = 0; r < rows; ++r) out[r] = c + r * c_stride + n;
    TILES_ALONG[rows - 1][count - 1](left, Along{&none, 1, dim}, Panel{panels + n * dim, wide}, out, nullptr,
                                     Finish{count * W, false, nullptr, NONE});
  }
}

// c [rows, dim] = a [rows, depth] times rows of b.
static void average(const float* a, int64_t a_stride, int64_t rows, int64_t depth, Rows b, int64_t dim, float* c,
                    int64_t c_stride) {
  const float* left[MR];
  const int64_t none = 0;
  for (int64_t r = 0; r < rows; ++r) left[r] = a + r * a_stride;
  for (int64_t n = 0; n < dim; n += NV * W) {
    const int64_t count = smaller(NV, vectors(dim - n));
    float* out[MR];
    for (int64_t r = 0; r < rows; ++r) out[r] = c + r * c_stride + n;
    TILES_ALONG[rows - 1][count - 1](left, Along{&none, 1, depth}, Panel{b.at + n, b.stride}, out, nullptr,
                                     Finish{smaller(count * W, dim - n), false, nullptr, NONE});
  }
}

// c [rows, dim] = the transposed of a [depth, rows] times rows of b.
static void average_across(const float* a, int64_t a_stride, int64_t rows, int64_t depth, Rows b, int64_t dim, float* c,
                           int64_t c_stride) {
  for (int64_t n = 0; n < dim; n += NV * W) {
    const int64_t count = smaller(NV, vectors(dim - n));
    float* out[MR];
    for (int64_t r = 0; r < rows; ++r) out[r] = c + r * c_stride + n;
    TILES_ACROSS[rows - 1][count - 1](Across{a, nullptr, a_stride, depth}, Panel{b.at + n, b.stride}, out,
                                      Finish{smaller(count * W, dim - n), false, nullptr, NONE});
  }
}

// What a row of scores shows: the first `seen` of `columns`, which are whole vectors.
struct Seen {
  int64_t seen, columns;
  V only(V v, int64_t n, float other) const __attribute__((always_inline)) {
    return n + W <= seen ? v : select(numbers() + static_cast<int32_t>(n) < static_cast<int32_t>(seen), v, splat(other));
  }
};

// Turns a row of products into probabilities; returns the largest product and 1 / the sum of exponentials.
INLINE void softmax(float* row, Seen s, float scale, float& largest, float& share) {
  V most = splat(-__builtin_inff()), sums = V{};
  for (int64_t n = 0; n < s.columns; n += W) most = at_least(s.only(load(row + n), n, -__builtin_inff()), most);
  most = all_largest(most);
  for (int64_t n = 0; n < s.columns; n += W) {
    const V p = s.only(exp_below((load(row + n) - most) * splat(scale)), n, 0);
    sums += p;
    store(row + n, p);
  }
  const V shares = splat(1.0f) / all_sum(sums);
  for (int64_t n = 0; n < s.columns; n += W) store(row + n, load(row + n) * shares);
  largest = most[0], share = shares[0];
}

// The same probabilities again, and from their cotangents those of the products.
INLINE void softmax_pullback(float* row, float* cotangent, Seen s, float scale, float largest, float share) {
  V sums = V{};
  for (int64_t n = 0; n < s.columns; n += W) {
    const V p = s.only(exp_below((load(row + n) - splat(largest)) * splat(scale)) * splat(share), n, 0);
    sums += p * s.only(load(cotangent + n), n, 0);
    store(row + n, p);
  }
  sums = all_sum(sums);
  for (int64_t n = 0; n < s.columns; n += W)
    store(cotangent + n, s.only(load(row + n) * (load(cotangent + n) - sums) * splat(scale), n, 0));
}

static void attention_forward(const AttentionForward& a) {
  const int64_t width = a.heads * a.dim, stride = 3 * width, wide = vectors(a.time) * W;
  float* turned = scratch(0, static_cast<size_t>(packed_size(a.time, a.dim)));
  float* rows = scratch(1, static_cast<size_t>(MR * wide));
  for (int64_t b = 0; b < a.batch; ++b)
    for (int64_t h = 0; h < a.heads; ++h) {
      const float *q = a.qkv + b * a.time * stride + h * a.dim, *k = q + width, *v = k + width;
      float* y = a.y + b * a.time * width + h * a.dim;
      float* largest = a.statistics + (b * a.heads + h) * 2 * a.time;
      pack(k, true, stride, a.time, 0, a.dim, turned);
      const Rows values = padded(v, stride, a.time, a.dim, 2);
      for (int64_t i = 0; i < a.time; i += MR) {
        const int64_t high = smaller(MR, a.time - i), keys = a.causal ? i + high : a.time;
        scores(q + i * stride, stride, high, a.dim, turned, a.time, keys, rows, wide);
        for (int64_t r = 0; r < high; ++r)
          softmax(rows + r * wide, Seen{a.causal ? i + r + 1 : a.time, vectors(keys) * W}, a.scale, largest[i + r],
                  largest[a.time + i + r]);
        average(rows, wide, high, keys, values, a.dim, y + i * width, width);
      }
    }
}

static void attention_backward(const AttentionBackward& a) {
  const int64_t width = a.heads * a.dim, stride = 3 * width, wide = vectors(a.time) * W;
  float* turned_keys = scratch(0, static_cast<size_t>(packed_size(a.time, a.dim)));
  float* turned_values = scratch(1, static_cast<size_t>(packed_size(a.time, a.dim)));
  float* p = scratch(2, static_cast<size_t>(a.time * wide));
  float* to_p = scratch(3, static_cast<size_t>(a.time * wide));
  for (int64_t b = 0; b < a.batch; ++b)
    for (int64_t h = 0; h < a.heads; ++h) {
      const float *q = a.qkv + b * a.time * stride + h * a.dim, *k = q + width, *v = k + width;
      const float* cotangent = a.cotangent + b * a.time * width + h * a.dim;
      float *to_q = a.to_qkv + b * a.time * stride + h * a.dim, *to_k = to_q + width, *to_v = to_k + width;
      const float* largest = a.statistics + (b * a.heads + h) * 2 * a.time;
      pack(k, true, stride, a.time, 0, a.dim, turned_keys);
      pack(v, true, stride, a.time, 0, a.dim, turned_values);
      const Rows queries = padded(q, stride, a.time, a.dim, 4), keys = padded(k, stride, a.time, a.dim, 5);
      const Rows cotangents = padded(cotangent, width, a.time, a.dim, 6);
      for (int64_t i = 0; i < a.time; i += MR) {
        const int64_t high = smaller(MR, a.time - i), seen = a.causal ? i + high : a.time;
        scores(q + i * stride, stride, high, a.dim, turned_keys, a.time, seen, p + i * wide, wide);
        scores(cotangent + i * width, width, high, a.dim, turned_values, a.time, seen, to_p + i * wide, wide);
        for (int64_t r = i; r < i + high; ++r)
          softmax_pullback(p + r * wide, to_p + r * wide, Seen{a.causal ? r + 1 : a.time, vectors(seen) * W}, a.scale,
                           largest[r], largest[a.time + r]);
        average(to_p + i * wide, wide, high, seen, keys, a.dim, to_q + i * stride, stride);
      }
      // A key is seen by the queries from its own place on.
      for (int64_t j = 0; j < a.time; j += MR) {
        const int64_t high = smaller(MR, a.time - j), from = a.causal ? j : 0, depth = a.time - from;
        const Rows left{queries.at + from * queries.stride, queries.stride};
        const Rows right{cotangents.at + from * cotangents.stride, cotangents.stride};
        average_across(to_p + from * wide + j, wide, high, depth, left, a.dim, to_k + j * stride, stride);
        average_across(p + from * wide + j, wide, high, depth, right, a.dim, to_v + j * stride, stride);
      }
    }
}

}  // namespace hpjax::HPJAX_ISA
