// The AMX unit: tiles of 16 rows of 64 bytes, and products of bfloat16 pairs that are summed in float32.
//
// A pair is two bfloat16 of neighbouring k in 32 bits. A left tile is [rows, pairs], a right one [pairs, 16 columns], a
// tile of sums [rows, 16 columns]. Matrices are rounded to bfloat16 while they are put into tiles.
#pragma once
#include "../simd/tile.h"

namespace hpjax::HPJAX_ISA {

constexpr int64_t TILE = 16;             // rows of a tile, and 32-bit columns
constexpr int64_t TILE_BYTES = 64 * TILE;

// Tells the compiler that memory is read here: GCC's intrinsics of tiles do not.
INLINE void settle(const void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

// The shapes of the tiles while one of these lives: 0 to 3 are sums, 4 and 5 left, 6 and 7 right.
class Shapes {
 public:
  Shapes(int64_t rows, int64_t pairs) {
    for (int i = 0; i < 8; ++i) {
      text.bytes[i] = static_cast<uint16_t>(i == 4 || i == 5 ? 4 * pairs : 64);
      text.rows[i] = static_cast<uint8_t>(i < 6 ? rows : pairs);
    }
    settle(&text);
    _tile_loadconfig(&text);
  }
  // Tiles in use would be saved whenever the thread is interrupted.
  ~Shapes() { _tile_release(); }
  Shapes(const Shapes&) = delete;
  Shapes& operator=(const Shapes&) = delete;

 private:
  struct alignas(64) {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
  } text;
};

// How k is walked through, in bytes: pieces of the left matrix, each of `steps` tiles; right tiles follow each other.
struct Walk {
  const int64_t* offsets;
  int64_t pieces, steps, left_step, right_step;
};

// M x N tiles of sums, at most 4, M or N at most 2 unless the other is 1: they begin with what stands in `out` or with 0.
template <int M, int N>
INLINE void products(const char* const* left, int64_t left_stride, const char* const* right, int64_t right_stride,
                     const Walk& walk, float* const* out, int64_t out_stride, bool accumulate) {
  static_assert(M * N <= 4 && N <= 2);
  settle(left[0]);
  if (accumulate) {
    _tile_loadd(0, out[0], out_stride);
    if (M * N > 1) _tile_loadd(1, out[1], out_stride);
    if (M * N > 2) _tile_loadd(2, out[2], out_stride);
    if (M * N > 3) _tile_loadd(3, out[3], out_stride);
  } else {
    _tile_zero(0);
    if (M * N > 1) _tile_zero(1);
    if (M * N > 2) _tile_zero(2);
    if (M * N > 3) _tile_zero(3);
  }
  int64_t b = 0;
  for (int64_t piece = 0; piece < walk.pieces; ++piece) {
    int64_t a = walk.offsets[piece];
    for (int64_t step = 0; step < walk.steps; ++step, a += walk.left_step, b += walk.right_step) {
      _tile_loadd(6, right[0] + b, right_stride);
      if (N > 1) _tile_loadd(7, right[1] + b, right_stride);
      _tile_loadd(4, left[0] + a, left_stride);
      _tile_dpbf16ps(0, 4, 6);
      if (N > 1) _tile_dpbf16ps(1, 4, 7);
      if (M > 1) _tile_loadd(5, left[1] + a, left_stride);
      if (M > 1 && N == 1) _tile_dpbf16ps(1, 5, 6);
      if (M > 1 && N > 1) _tile_dpbf16ps(2, 5, 6);
      if (M > 1 && N > 1) _tile_dpbf16ps(3, 5, 7);
      if (M > 2) _tile_loadd(4, left[2] + a, left_stride);
      if (M > 2) _tile_dpbf16ps(2, 4, 6);
      if (M > 3) _tile_loadd(5, left[3] + a, left_stride);
      if (M > 3) _tile_dpbf16ps(3, 5, 6);
    }
  }
  _tile_stored(0, out[0], out_stride);
  if (M * N > 1) _tile_stored(1, out[1], out_stride);
  if (M * N > 2) _tile_stored(2, out[2], out_stride);
  if (M * N > 3) _tile_stored(3, out[3], out_stride);
}

typedef void (*Products)(const char* const*, int64_t, const char* const*, int64_t, const Walk&, float* const*, int64_t, bool);
// By rows and columns of tiles: [rows - 1][columns - 1].
static const Products PRODUCTS[4][2] = {{products<1, 1>, products<1, 2>},
                                        {products<2, 1>, products<2, 2>},
                                        {products<3, 1>, products<3, 1>},
                                        {products<4, 1>, products<4, 1>}};

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
// columns) and `depth` it is filled up with zeros.
template <bool ALONG, bool TURNED>
INLINE void put_tile(const float* from, int64_t stride, int64_t others, int64_t depth, char* to) {
  V tile[TILE];
  const bool whole = others >= TILE && depth >= 2 * TILE;
#pragma GCC unroll 16
  for (int64_t i = 0; i < TILE; ++i) {
    const float* row = from + (ALONG ? i : 2 * i) * stride;
    if (ALONG) {
      tile[i] = whole ? pairs_along(row, 2 * TILE) : i < others ? pairs_along(row, depth) : V{};
    } else {
      tile[i] = whole ? pairs_across(row, row + stride, TILE)
                      : pairs_across(2 * i < depth ? row : nullptr, 2 * i + 1 < depth ? row + stride : nullptr, others);
    }
  }
  if (TURNED) transpose(tile);
#pragma GCC unroll 16
  for (int64_t i = 0; i < TILE; ++i) store(reinterpret_cast<float*>(to) + i * TILE, tile[i]);
}

// The tiles of 16 rows (or columns) of a matrix, one after the other along k.
template <bool ALONG, bool TURNED>
static void put_tiles(const float* from, int64_t stride, int64_t others, int64_t depth, char* to) {
  for (int64_t k = 0; k < depth; k += 2 * TILE, to += TILE_BYTES)
    put_tile<ALONG, TURNED>(from + (ALONG ? k : k * stride), stride, others, depth - k, to);
}

}  // namespace hpjax::HPJAX_ISA
