// Tiles of 16 rows of 64 bytes, as the AMX unit has them, for products of bfloat16 pairs that are summed in float32; where there is
// no such unit, vectors do the same on the same tiles.
//
// A pair is two bfloat16 of neighbouring k in 32 bits. A left tile is [rows, pairs], a right one [pairs, 16 columns], a
// tile of sums [rows, 16 columns]. Matrices are rounded to bfloat16 while they are put into tiles.
#pragma once
#include "../simd/tile.h"

namespace hpjax::HPJAX_ISA {

constexpr int64_t TILE = 16;             // rows of a tile, and 32-bit columns
constexpr int64_t TILE_BYTES = 64 * TILE;
typedef int32_t __attribute__((may_alias, aligned(2))) Pair;  // two bfloat16

// How k is walked through, in bytes: pieces of the left matrix, each of `steps` tiles of `pairs`; right tiles follow each other.
struct Walk {
  const int64_t* offsets;
  int64_t pieces, steps, pairs, left_step, right_step;
};

INLINE int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Pairs of k that lie side by side: the first n floats, what is missing is 0.
INLINE V pairs_along(const float* from, int64_t n) {
  const V low = load_part(from, n), high = n > W ? load_part(from + W, n - W) : V{};
  return (V)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

// Pairs of two rows, for the first n columns; a row may be null, for zeros.
INLINE V pairs_across(const float* even, const float* odd, int64_t n) {
  static constexpr uint16_t TURN[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const V low = even ? load_part(even, n) : V{}, high = odd ? load_part(odd, n) : V{};
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
  return (V)_mm512_permutexvar_epi16(_mm512_loadu_si512(TURN), both);
}

// One tile from a matrix whose k runs along its rows, `stride` floats apart, or down its columns; past `others` rows (or
// columns) and `depth` it is filled up with zeros. WHOLE: there is nothing to fill up.
template <bool ALONG, bool TURNED, bool WHOLE>
INLINE void put_tile(const float* from, int64_t stride, int64_t others, int64_t depth, char* to) {
  V tile[TILE];
#pragma GCC unroll 16
  for (int64_t i = 0; i < TILE; ++i) {
    const float* row = from + (ALONG ? i : 2 * i) * stride;
    if (ALONG) {
      tile[i] = WHOLE ? pairs_along(row, 2 * TILE) : i < others ? pairs_along(row, depth) : V{};
    } else {
      tile[i] = WHOLE ? pairs_across(row, row + stride, TILE)
                      : pairs_across(2 * i < depth ? row : nullptr, 2 * i + 1 < depth ? row + stride : nullptr, others);
    }
  }
  if (TURNED) transpose(tile);
#pragma GCC unroll 16
  for (int64_t i = 0; i < TILE; ++i) store(reinterpret_cast<float*>(to) + i * TILE, tile[i]);
}

// The same at a matrix's edge: a function of its own, for its branches would take the registers of the whole tiles' loop.
template <bool ALONG, bool TURNED>
__attribute__((noinline)) static void put_edge(const float* from, int64_t stride, int64_t others, int64_t depth, char* to) {
  put_tile<ALONG, TURNED, false>(from, stride, others, depth, to);
}

// The tiles of 16 rows (or columns) of a matrix, one after the other along k.
template <bool ALONG, bool TURNED>
static void put_tiles(const float* from, int64_t stride, int64_t others, int64_t depth, char* to) {
  for (int64_t k = 0; k < depth; k += 2 * TILE, to += TILE_BYTES) {
    const float* corner = from + (ALONG ? k : k * stride);
    const bool whole = others >= TILE && depth - k >= 2 * TILE;
    (whole ? put_tile<ALONG, TURNED, true> : put_edge<ALONG, TURNED>)(corner, stride, others, depth - k, to);
  }
}

}  // namespace hpjax::HPJAX_ISA

#ifdef HPJAX_UNIT
#include "unit.h"
#else
#include "dots.h"
#endif

namespace hpjax::HPJAX_ISA {

typedef void (*Products)(const char* const*, int64_t, const char* const*, int64_t, const Walk&, float* const*, int64_t, bool);
// By rows and columns of tiles: [rows - 1][columns - 1].
static const Products PRODUCTS[4][2] = {{products<1, 1>, products<1, 2>},
                                        {products<2, 1>, products<2, 2>},
                                        {products<3, 1>, products<3, 1>},
                                        {products<4, 1>, products<4, 1>}};

}  // namespace hpjax::HPJAX_ISA
