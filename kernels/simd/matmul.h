// Products of two matrices, panel after panel of op(b), so that a panel stays in the first cache.
#pragma once
#include "tile.h"

namespace hpjax::HPJAX_ISA {

// Of k in a panel, which leaves room for the rows of a beside it in the first cache.
constexpr int64_t DEPTH = 128;
constexpr int64_t TALL = 4 * MR;  // rows done at a time

// Copies rows [from, from + depth) of op(b) [depth, columns] into panels; columns past the last are 0.
static void pack(const float* b, bool transposed, int64_t total_depth, int64_t columns, int64_t from, int64_t depth,
                 float* to) {
  if (!transposed) {
    // Row after row, as memory is read best.
    for (int64_t k = 0; k < depth; ++k) {
      const float* row = b + (from + k) * columns;
      for (int64_t n = 0; n < columns; n += NV * W) {
        const int64_t wide = smaller(NV, vectors(columns - n)) * W, valid = smaller(wide, columns - n);
        float* panel = to + n * depth + k * wide;
        for (int64_t j = 0; j < valid; j += W) store(panel + j, load_part(row + n + j, valid - j));
      }
    }
    return;
  }
  for (int64_t n = 0; n < columns; n += NV * W) {
    const int64_t wide = smaller(NV, vectors(columns - n)) * W, valid = smaller(wide, columns - n);
    for (int64_t j = 0; j < wide; j += W)
      for (int64_t k = 0; k < depth; k += W) {
        const float* corner = b + (n + j) * total_depth + from + k;
        V square[W];
        const bool whole = j + W <= valid && k + W <= depth;
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i)
          square[i] = whole ? load(corner + i * total_depth)
                      : j + i < valid ? load_part(corner + i * total_depth, depth - k) : V{};
        transpose(square);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i)
          if (whole || k + i < depth) store(to + (k + i) * wide + j, square[i]);
      }
    to += depth * wide;
  }
}

static int64_t packed_size(int64_t columns, int64_t depth) { return vectors(columns) * W * depth; }

// Copies columns [from, from + rows) of a [depth, stride] into blocks of MR: a tile finds its rows side by side, k after k.
static void pack_across(const float* a, int64_t stride, int64_t rows, int64_t depth, float* to) {
  const int64_t whole = rows - rows % MR, rest = rows - whole;
  for (int64_t k = 0; k < depth; ++k) {
    const float* row = a + k * stride;
    for (int64_t i = 0; i < whole; i += MR) __builtin_memcpy(to + i * depth + k * MR, row + i, MR * sizeof(float));
    for (int64_t r = 0; r < rest; ++r) to[whole * depth + k * MR + r] = row[whole + r];
  }
}

// A tile of c of one block of depth: rows from i on, columns from n on.
struct Corner {
  int64_t i, n, from, depth;
};

INLINE void tile(const Matmul& m, const Corner& p, Panel panel, int64_t count, const float* across, const Finish& f) {
  const int64_t high = smaller(MR, m.rows - p.i);
  const bool last = p.from + p.depth == m.depth;
  float *out[MR], *before[MR];
  for (int64_t r = 0; r < high; ++r) {
    out[r] = m.c + (p.i + r) * m.columns + p.n;
    before[r] = m.before ? m.before + (p.i + r) * m.columns + p.n : nullptr;
  }
  if (m.transpose_a) return TILES_ACROSS[high - 1][count - 1](Across{across, nullptr, MR, p.depth}, panel, out, f);
  const float* rows[MR];
  for (int64_t r = 0; r < high; ++r) rows[r] = m.a + (p.i + r) * m.depth + p.from;
  const int64_t none = 0;
  TILES_ALONG[high - 1][count - 1](rows, Along{&none, 1, p.depth}, panel, out, last && m.before ? before : nullptr, f);
}

// c = op(a) b' for one block of depth, where b' is packed or lies as it is. A few rows are done at a time, over all columns:
// the lines of c that they write lie together.
static void block(const Matmul& m, int64_t from, int64_t depth, const float* packed) {
  const bool last = from + depth == m.depth;
  float* turned = m.transpose_a ? scratch(1, TALL * larger(depth, 1)) : nullptr;
  for (int64_t top = 0; top < m.rows; top += TALL) {
    const int64_t bottom = smaller(top + TALL, m.rows);
    if (turned) pack_across(m.a + from * m.rows + top, m.rows, bottom - top, depth, turned);
    for (int64_t n = 0, at = 0; n < m.columns; n += NV * W) {
      const int64_t count = smaller(NV, vectors(m.columns - n)), wide = count * W;
      const Panel panel = packed ? Panel{packed + at, wide} : Panel{m.b + from * m.columns + n, m.columns};
      at += depth * wide;
      const Finish f{smaller(wide, m.columns - n), m.accumulate || from > 0, last && m.bias ? m.bias + n : nullptr,
                     last ? m.activation : NONE};
      for (int64_t i = top; i < bottom; i += MR)
        tile(m, Corner{i, n, from, depth}, panel, count, turned + (i - top) * depth, f);
    }
  }
}

static void matmul(const Matmul& m) {
  // Whole vectors of b need no copy where they are read by few rows, or lie side by side already.
  const bool as_it_lies = !m.transpose_b && m.columns % W == 0 && (m.rows <= 4 * MR || m.columns <= NV * W);
  float* packed = as_it_lies ? nullptr : scratch(0, packed_size(m.columns, smaller(DEPTH, m.depth)));
  if (m.depth == 0) return block(m, 0, 0, packed ? packed : scratch(0, 1));
  for (int64_t from = 0; from < m.depth; from += DEPTH) {
    const int64_t depth = smaller(DEPTH, m.depth - from);
    if (packed) pack(m.b, m.transpose_b, m.depth, m.columns, from, depth, packed);
    block(m, from, depth, packed);
  }
}

// N vectors of columns from `n`, `valid` floats each, row after row: their sums stay in registers.
template <Activation A, int N>
INLINE void pullback(const Pullback& p, int64_t n, int64_t valid, bool accumulate) {
  V sums[N];
  for (int v = 0; v < N; ++v) sums[v] = p.sums && accumulate ? load_part(p.sums + n + v * W, valid) : V{};
  for (int64_t i = 0; i < p.rows; ++i) {
    const int64_t at = i * p.columns + n;
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) {
      V cotangent = load_part(p.cotangent + at + v * W, valid);
      if (A != NONE) {
        cotangent = pullback<A>(load_part(p.saved + at + v * W, valid), cotangent);
        store_part(p.result + at + v * W, cotangent, valid);
      }
      sums[v] += cotangent;
    }
  }
  if (p.sums)
    for (int v = 0; v < N; ++v) store_part(p.sums + n + v * W, sums[v], valid);
}

template <Activation A>
static void pullback(const Pullback& p, bool accumulate) {
  // Unrolled far, the longer derivatives would fill the first cache of the instructions.
  constexpr int N = A == NONE || A == RELU ? 8 : 2;
  int64_t n = 0;
  for (; n + N * W <= p.columns; n += N * W) pullback<A, N>(p, n, W, accumulate);
  for (; n < p.columns; n += W) pullback<A, 1>(p, n, smaller(W, p.columns - n), accumulate);
}

// `accumulate` adds to the sums that stand there.
static void pullback(const Pullback& p, bool accumulate) {
  switch (p.activation) {
    case NONE: return p.sums ? pullback<NONE>(p, accumulate) : void();
    case RELU: return pullback<RELU>(p, accumulate);
    case TANH: return pullback<TANH>(p, accumulate);
    case GELU: return pullback<GELU>(p, accumulate);
    case SILU: return pullback<SILU>(p, accumulate);
  }
}

static void pullback(const Pullback& p) { pullback(p, false); }

}  // namespace hpjax::HPJAX_ISA
