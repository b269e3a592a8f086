// Products of two matrices rounded to bfloat16: the right one in tiles as a whole, the left one a few rows at a time.
#pragma once
#include "tiles.h"

namespace hpjax::HPJAX_ISA {

// What follows the sums [high, wide] of a block, which stand `stride` floats apart: what stood there, bias and activation.
template <Activation A>
static void finish_block(const Matmul& m, const float* sums, int64_t stride, int64_t row, int64_t column, int64_t high,
                         int64_t wide, bool add) {
  for (int64_t j = 0; j < wide; j += W) {
    const int64_t valid = wide - j;
    const V bias = m.bias ? load_part(m.bias + column + j, valid) : V{};
    for (int64_t i = 0; i < high; ++i) {
      const int64_t at = (row + i) * m.columns + column + j;
      V y = load(sums + i * stride + j);
      if (add) y += load_part(m.c + at, valid);
      if (m.bias) y += bias;
      if (m.before) store_part(m.before + at, y, valid);
      store_part(m.c + at, activate<A>(y), valid);
    }
  }
}

static void finish_block(const Matmul& m, const float* sums, int64_t stride, int64_t row, int64_t column, int64_t high,
                         int64_t wide, bool add = false) {
  const auto as = [&](auto finish) { finish(m, sums, stride, row, column, high, wide, add); };
  switch (m.activation) {
    case NONE: return as(finish_block<NONE>);
    case RELU: return as(finish_block<RELU>);
    case TANH: return as(finish_block<TANH>);
    case GELU: return as(finish_block<GELU>);
    case SILU: return as(finish_block<SILU>);
  }
}

static void matmul_bf16(const Matmul& m) {
  const int64_t steps = divided_up(m.depth, 2 * TILE), panel = steps * TILE_BYTES;
  const int64_t across = divided_up(m.columns, TILE), most = across > 1 ? 2 : 4;  // tiles in a row, and rows of tiles
  const int64_t width = across > 1 ? 2 : 1;
  char* right = reinterpret_cast<char*>(scratch(0, across * panel / 4));
  char* left = reinterpret_cast<char*>(scratch(1, most * panel / 4));
  for (int64_t n = 0; n < m.columns; n += TILE) {
    char* to = right + n / TILE * panel;
    if (m.transpose_b) put_tiles<true, true>(m.b + n * m.depth, m.depth, m.columns - n, m.depth, to);
    else put_tiles<false, false>(m.b + n, m.columns, m.columns - n, m.depth, to);
  }
  const Shapes shapes(TILE, TILE);
  const int64_t none = 0;
  const Walk walk{&none, 1, steps, TILE, TILE_BYTES, TILE_BYTES};
  const bool plain = !m.bias && !m.before && m.activation == NONE;
  alignas(64) float sums[4 * TILE * TILE];
  for (int64_t i = 0; i < m.rows; i += most * TILE) {
    const int64_t down = smaller(most, divided_up(m.rows - i, TILE));
    const char* lefts[4];
    for (int64_t r = 0; r < down; ++r) {
      char* to = left + r * panel;
      const int64_t row = i + r * TILE;
      lefts[r] = to;
      if (m.transpose_a) put_tiles<false, true>(m.a + row, m.rows, m.rows - row, m.depth, to);
      else put_tiles<true, false>(m.a + row * m.depth, m.depth, m.rows - row, m.depth, to);
    }
    for (int64_t n = 0; n < across; n += width) {
      const int64_t count = smaller(width, across - n), column = n * TILE;
      const int64_t high = smaller(down * TILE, m.rows - i), wide = smaller(count * TILE, m.columns - column);
      const bool direct = plain && high == down * TILE && wide == count * TILE;
      const int64_t stride = direct ? m.columns : count * TILE;
      float* base = direct ? m.c + i * m.columns + column : sums;
      const char* rights[2] = {right + n * panel, right + (n + count - 1) * panel};
      float* out[4];
      for (int64_t r = 0; r < down; ++r)
        for (int64_t c = 0; c < count; ++c) out[r * count + c] = base + r * TILE * stride + c * TILE;
      PRODUCTS[down - 1][count - 1](lefts, 64, rights, 64, walk, out, stride * 4, false);
      if (!direct) finish_block(m, sums, stride, i, column, high, wide);
    }
  }
}

}  // namespace hpjax::HPJAX_ISA
