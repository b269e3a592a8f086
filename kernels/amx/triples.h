// Products of float32 by tiles of bfloat16: a float is the sum of three bfloat16, and of the nine products of two such sums the
// six largest are added up; what is left out is below 2^-24 of a product. The unit is so much faster than the vectors that six
// of its products take half the time of one of theirs.
#pragma once
#include "matmul.h"

namespace hpjax::HPJAX_ISA {

constexpr int PARTS = 3;
constexpr int64_t STEP_BYTES = PARTS * TILE_BYTES;

// Two vectors as three vectors of bfloat16 each, highest part first; `TURN` says whose halves go where, see `halves`.
struct Triple {
  __m512i part[PARTS];
};

// The upper halves of 32 floats as they lie, and those of two rows by turns.
alignas(64) static constexpr uint16_t SIDE_BY_SIDE[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                              33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
alignas(64) static constexpr uint16_t BY_TURNS[32] = {1,  33, 3,  35, 5,  37, 7,  39, 9,  41, 11, 43, 13, 45, 15, 47,
                                          17, 49, 19, 51, 21, 53, 23, 55, 25, 57, 27, 59, 29, 61, 31, 63};

// The nearest bfloat16 as a float, ties away from 0. Of what is not finite, or becomes infinite, the rest is not finite.
INLINE __m512 nearest(__m512 x) {
  const __m512i bits = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
  return _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

// `rest` becomes NaN where a float has no such parts, and stays 0 else.
INLINE Triple triple(__m512 a, __m512 b, const uint16_t* order, __m512& rest) {
  const __m512i places = _mm512_load_si512(order);
  Triple t;
  __m512 high_a = nearest(a), high_b = nearest(b);
  t.part[0] = _mm512_permutex2var_epi16(_mm512_castps_si512(high_a), places, _mm512_castps_si512(high_b));
  a = _mm512_sub_ps(a, high_a), b = _mm512_sub_ps(b, high_b);
  rest = _mm512_fmadd_ps(a, _mm512_setzero_ps(), rest), rest = _mm512_fmadd_ps(b, _mm512_setzero_ps(), rest);
  high_a = nearest(a), high_b = nearest(b);
  t.part[1] = _mm512_permutex2var_epi16(_mm512_castps_si512(high_a), places, _mm512_castps_si512(high_b));
  a = _mm512_sub_ps(a, high_a), b = _mm512_sub_ps(b, high_b);
  t.part[2] = _mm512_permutex2var_epi16(_mm512_castps_si512(a), places, _mm512_castps_si512(b));
  return t;
}

INLINE void put(const Triple& t, char* to) {
#pragma GCC unroll 3
  for (int p = 0; p < PARTS; ++p) _mm512_store_si512(to + p * TILE_BYTES, t.part[p]);
}

INLINE __m512 part_or_zero(const float* from, int64_t n) { return n > 0 ? (__m512)load_part(from, n) : _mm512_setzero_ps(); }

// Three tiles of 16 rows (or columns) and 32 of k, as `put_tile`. A right tile is [pairs, columns], a left one [rows, pairs].
template <bool LEFT, bool ALONG>
INLINE void put_triple(const float* from, int64_t stride, int64_t others, int64_t depth, char* to, __m512& rest) {
  const bool whole = others >= TILE && depth >= 2 * TILE;
  if (LEFT == ALONG) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < TILE; ++i, to += 64) {
      const float* row = from + (ALONG ? i : 2 * i) * stride;
      __m512 a, b;
      if (whole) {
        a = _mm512_loadu_ps(row), b = _mm512_loadu_ps(row + (ALONG ? TILE : stride));
      } else if (ALONG) {
        a = part_or_zero(row, i < others ? depth : 0), b = part_or_zero(row + TILE, i < others ? depth - TILE : 0);
      } else {
        a = part_or_zero(row, 2 * i < depth ? others : 0), b = part_or_zero(row + stride, 2 * i + 1 < depth ? others : 0);
      }
      put(triple(a, b, ALONG ? SIDE_BY_SIDE : BY_TURNS, rest), to);
    }
    return;
  }
  // k lies the other way: two squares are turned first.
  V first[TILE], second[TILE];
#pragma GCC unroll 16
  for (int64_t i = 0; i < TILE; ++i) {
    if (ALONG) {  // a right tile from rows that run along k
      const float* row = from + i * stride;
      first[i] = whole ? load(row) : (V)part_or_zero(row, i < others ? depth : 0);
    } else {
      const float* row = from + i * stride;
      first[i] = whole ? load(row) : (V)part_or_zero(row, i < depth ? others : 0);
    }
  }
  transpose(first);
  alignas(64) float turned[TILE * TILE];
#pragma GCC unroll 16
  for (int64_t i = 0; i < TILE; ++i) store(turned + i * TILE, first[i]);
#pragma GCC unroll 16
  for (int64_t i = 0; i < TILE; ++i) {
    if (ALONG) {
      const float* row = from + i * stride + TILE;
      second[i] = whole ? load(row) : (V)part_or_zero(row, i < others ? depth - TILE : 0);
    } else {
      const float* row = from + (TILE + i) * stride;
      second[i] = whole ? load(row) : (V)part_or_zero(row, TILE + i < depth ? others : 0);
    }
  }
  transpose(second);
  if (LEFT) {
    // first[m] holds k 0 to 15 of row m, second[m] the rest.
#pragma GCC unroll 16
    for (int64_t i = 0; i < TILE; ++i)
      put(triple((__m512)load(turned + i * TILE), (__m512)second[i], SIDE_BY_SIDE, rest), to + i * 64);
  } else {
#pragma GCC unroll 8
    for (int64_t i = 0; i < TILE / 2; ++i) {
      put(triple((__m512)load(turned + 2 * i * TILE), (__m512)load(turned + (2 * i + 1) * TILE), BY_TURNS, rest), to + i * 64);
      put(triple((__m512)second[2 * i], (__m512)second[2 * i + 1], BY_TURNS, rest), to + (TILE / 2 + i) * 64);
    }
  }
}

template <bool LEFT, bool ALONG>
static void put_triples(const float* from, int64_t stride, int64_t others, int64_t depth, char* to, __m512& rest) {
  for (int64_t k = 0; k < depth; k += 2 * TILE, to += STEP_BYTES)
    put_triple<LEFT, ALONG>(from + (ALONG ? k : k * stride), stride, others, depth - k, to, rest);
}

// The products of parts (i, j), i + j <= 2, of M x N tiles over `steps`, the small ones first: the sums of the large ones
// are then rounded as often as those of float32.
template <int M, int N>
static void triple_products(const char* const* left, const char* const* right, int64_t steps, float* const* out,
                            int64_t out_stride, bool accumulate) {
  static_assert(M <= 2 && N <= 2);
  settle(left[0]);
  if (accumulate) {
    _tile_loadd(0, out[0], out_stride);
    if (N > 1) _tile_loadd(1, out[1], out_stride);
    if (M > 1) _tile_loadd(2, out[2], out_stride);
    if (M * N > 3) _tile_loadd(3, out[3], out_stride);
  } else {
    _tile_zero(0);
    if (N > 1) _tile_zero(1);
    if (M > 1) _tile_zero(2);
    if (M * N > 3) _tile_zero(3);
  }
#define HPJAX_LEFT(part)                                    \
  _tile_loadd(4, left[0] + b + (part)*TILE_BYTES, 64);      \
  if (M > 1) _tile_loadd(5, left[1] + b + (part)*TILE_BYTES, 64);
#define HPJAX_RIGHT(part)                                   \
  _tile_loadd(6, right[0] + b + (part)*TILE_BYTES, 64);     \
  if (N > 1) _tile_loadd(7, right[1] + b + (part)*TILE_BYTES, 64);
#define HPJAX_PRODUCTS()                        \
  _tile_dpbf16ps(0, 4, 6);                      \
  if (N > 1) _tile_dpbf16ps(1, 4, 7);           \
  if (M > 1) _tile_dpbf16ps(2, 5, 6);           \
  if (M * N > 3) _tile_dpbf16ps(3, 5, 7);
  for (int64_t b = 0; b < steps * STEP_BYTES; b += STEP_BYTES) {
    HPJAX_RIGHT(0) HPJAX_LEFT(2) HPJAX_PRODUCTS()
    HPJAX_LEFT(1) HPJAX_PRODUCTS()
    HPJAX_RIGHT(1) HPJAX_PRODUCTS()
    HPJAX_LEFT(0) HPJAX_PRODUCTS()
    HPJAX_RIGHT(2) HPJAX_PRODUCTS()
  }
  for (int64_t b = 0; b < steps * STEP_BYTES; b += STEP_BYTES) {
    HPJAX_RIGHT(0) HPJAX_LEFT(0) HPJAX_PRODUCTS()
  }
#undef HPJAX_LEFT
#undef HPJAX_RIGHT
#undef HPJAX_PRODUCTS
  _tile_stored(0, out[0], out_stride);
  if (N > 1) _tile_stored(1, out[1], out_stride);
  if (M > 1) _tile_stored(2, out[2], out_stride);
  if (M * N > 3) _tile_stored(3, out[3], out_stride);
}

typedef void (*TripleProducts)(const char* const*, const char* const*, int64_t, float* const*, int64_t, bool);
static const TripleProducts TRIPLE_PRODUCTS[2][2] = {{triple_products<1, 1>, triple_products<1, 2>},
                                                     {triple_products<2, 1>, triple_products<2, 2>}};

INLINE bool is_zero(__m512 rest) { return _mm512_cmp_ps_mask(rest, _mm512_setzero_ps(), _CMP_EQ_OQ) == 0xffff; }

// Of the depth at a time, so that the parts of what is multiplied stay in the second cache.
constexpr int64_t TRIPLE_DEPTH = 128;
// Rows of the left matrix that are packed at a time: tiles that were stored just now are slow to load.
constexpr int64_t TRIPLE_ROWS = 256;

INLINE int64_t triple_panel(int64_t depth) { return divided_up(depth, 2 * TILE) * STEP_BYTES; }
INLINE int64_t triples_bytes(int64_t columns, int64_t depth) { return divided_up(columns, TILE) * triple_panel(depth); }

// Packs `depth` of op(b) [total_depth, columns] from `from` on; false if a number has no three parts.
static bool pack_right(const float* b, bool transposed, int64_t total_depth, int64_t columns, int64_t from, int64_t depth,
                       char* to) {
  const int64_t panel = triple_panel(depth);
  __m512 rest = _mm512_setzero_ps();
  for (int64_t n = 0; n < columns; n += TILE, to += panel) {
    if (transposed) put_triples<false, true>(b + n * total_depth + from, total_depth, columns - n, depth, to, rest);
    else put_triples<false, false>(b + from * columns + n, columns, columns - n, depth, to, rest);
  }
  return is_zero(rest);
}

static bool pack_left(const Matmul& m, int64_t top, int64_t bottom, int64_t from, int64_t depth, char* to) {
  const int64_t panel = triple_panel(depth);
  __m512 rest = _mm512_setzero_ps();
  for (int64_t i = top; i < bottom; i += TILE, to += panel) {
    if (m.transpose_a) put_triples<true, false>(m.a + from * m.rows + i, m.rows, bottom - i, depth, to, rest);
    else put_triples<true, true>(m.a + i * m.depth + from, m.depth, bottom - i, depth, to, rest);
  }
  return is_zero(rest);
}

// c = op(a) b, or c += op(a) b, for one block of depth of b in tiles.
static bool triple_block(const Matmul& m, int64_t from, int64_t depth, const char* right) {
  const int64_t panel = triple_panel(depth), steps = panel / STEP_BYTES;
  char* left = reinterpret_cast<char*>(scratch(1, TRIPLE_ROWS / TILE * panel / sizeof(float)));
  const bool last = from + depth == m.depth, add = m.accumulate || from > 0;
  Matmul part = m;
  if (!last) part.bias = nullptr, part.before = nullptr, part.activation = NONE;
  const bool plain = !part.bias && !part.before && part.activation == NONE;
  alignas(64) float sums[4 * TILE * TILE];
  for (int64_t top = 0; top < m.rows; top += TRIPLE_ROWS) {
    const int64_t bottom = smaller(m.rows, top + TRIPLE_ROWS);
    if (!pack_left(m, top, bottom, from, depth, left)) return false;
    const Shapes shapes(TILE, TILE);
    for (int64_t n = 0; n < m.columns; n += 2 * TILE) {
      const int64_t wide = smaller(2 * TILE, m.columns - n), count = divided_up(wide, TILE);
      const char* rights[2] = {right + n / TILE * panel, right + (n / TILE + count - 1) * panel};
      for (int64_t i = top; i < bottom; i += 2 * TILE) {
        const int64_t high = smaller(2 * TILE, bottom - i), down = divided_up(high, TILE), at = (i - top) / TILE;
        const char* lefts[2] = {left + at * panel, left + (at + down - 1) * panel};
        const bool direct = plain && high == down * TILE && wide == count * TILE;
        const int64_t stride = direct ? m.columns : 2 * TILE;
        float *base = direct ? m.c + i * m.columns + n : sums, *out[4];
        for (int64_t r = 0; r < 2; ++r)
          for (int64_t c = 0; c < 2; ++c) out[2 * r + c] = base + r * TILE * stride + c * TILE;
        TRIPLE_PRODUCTS[down - 1][count - 1](lefts, rights, steps, out, 4 * stride, direct && add);
        if (!direct) finish_block(part, sums, stride, i, n, high, wide, add);
      }
    }
  }
  return true;
}

// Whether tiles are the quicker ones: what fills few of them is packed for nothing.
INLINE bool fills_tiles(int64_t rows, int64_t columns, int64_t depth) {
  return rows >= 2 * TILE && columns >= 2 * TILE && depth >= 2 * TILE;
}

// How `perceptron.h` multiplies by tiles. What says false has met a number that is infinite, NaN, or near the largest one:
// nothing is said of the result then.
struct ByTriples {
  static bool fit(const Perceptron& p) {
    return fills_tiles(p.rows, p.hidden, p.inputs) && fills_tiles(p.rows, p.outputs, p.hidden);
  }
  static const void* pack(const float* b, bool transposed, int64_t depth, int64_t columns, int place) {
    char *packed = tiles(place, triples_bytes(columns, depth)), *to = packed;
    for (int64_t from = 0; from < depth; from += TRIPLE_DEPTH) {
      const int64_t size = smaller(TRIPLE_DEPTH, depth - from);
      if (!pack_right(b, transposed, depth, columns, from, size, to)) return nullptr;
      to += triples_bytes(columns, size);
    }
    return packed;
  }
  static bool product(const Matmul& m, const void* packed) {
    const char* right = static_cast<const char*>(packed);
    for (int64_t from = 0; from < m.depth; from += TRIPLE_DEPTH) {
      const int64_t size = smaller(TRIPLE_DEPTH, m.depth - from);
      if (!triple_block(m, from, size, right)) return false;
      right += triples_bytes(m.columns, size);
    }
    return true;
  }
  static bool product(const Matmul& m) {
    char* right = tiles(0, triples_bytes(m.columns, smaller(m.depth, TRIPLE_DEPTH)));
    for (int64_t from = 0; from < m.depth; from += TRIPLE_DEPTH) {
      const int64_t size = smaller(TRIPLE_DEPTH, m.depth - from);
      if (!pack_right(m.b, m.transpose_b, m.depth, m.columns, from, size, right)) return false;
      if (!triple_block(m, from, size, right)) return false;
    }
    return true;
  }

 private:
  static char* tiles(int place, int64_t bytes) {
    return reinterpret_cast<char*>(scratch(place, static_cast<size_t>(bytes) / sizeof(float)));
  }
};

}  // namespace hpjax::HPJAX_ISA
