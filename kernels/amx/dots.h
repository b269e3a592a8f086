// Products of tiles by vectors, where the processor adds up pairs of bfloat16 products (AVX512_BF16) but has no AMX unit.
#pragma once
#include "tiles.h"

namespace hpjax::HPJAX_ISA {

// The unit's shapes, which vectors need not be told.
class Shapes {
 public:
  Shapes(int64_t, int64_t) {}
};

// R rows of M tiles by N columns of tiles. Rows stand `left_stride` bytes apart, four of them reached from one pointer.
template <int R, int N>
INLINE void dots(const char* left, int64_t left_stride, const char* const* right, int64_t right_stride, const Walk& walk,
                 char* const* out, int64_t out_stride, bool accumulate) {
  static_assert(R % 4 == 0);
  __m512 sums[R][N];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n)
      sums[r][n] = accumulate ? _mm512_loadu_ps(out[n] + r * out_stride) : _mm512_setzero_ps();
  const int64_t thrice = 3 * left_stride;
  int64_t b = 0;
  for (int64_t piece = 0; piece < walk.pieces; ++piece) {
    int64_t a = walk.offsets[piece];
    for (int64_t step = 0; step < walk.steps; ++step, a += walk.left_step, b += walk.right_step) {
      const char* fours[R / 4];
#pragma GCC unroll 4
      for (int i = 0; i < R / 4; ++i) fours[i] = left + a + 4 * i * left_stride;
      int64_t at = b;
      for (int64_t pair = 0; pair < walk.pairs; ++pair, at += right_stride) {
        __m512bh columns[N];
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) columns[n] = (__m512bh)_mm512_loadu_ps(right[n] + at);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const char* row = fours[r / 4] + (r % 4 == 3 ? thrice : r % 4 * left_stride) + 4 * pair;
          const __m512bh both = (__m512bh)_mm512_set1_epi32(*reinterpret_cast<const Pair*>(row));
#pragma GCC unroll 2
          for (int n = 0; n < N; ++n) sums[r][n] = _mm512_dpbf16_ps(sums[r][n], both, columns[n]);
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) _mm512_storeu_ps(out[n] + r * out_stride, sums[r][n]);
}

// As the unit's: M x N tiles of sums begin with what stands in `out` or with 0. Sixteen sums at a time stay in registers.
template <int M, int N>
static void products(const char* const* left, int64_t left_stride, const char* const* right, int64_t right_stride,
                     const Walk& walk, float* const* out, int64_t out_stride, bool accumulate) {
  for (int m = 0; m < M; ++m)
    for (int64_t r = 0; r < TILE; r += TILE / N) {
      char* to[N];
      for (int n = 0; n < N; ++n) to[n] = reinterpret_cast<char*>(out[m * N + n]) + r * out_stride;
      dots<TILE / N, N>(left[m] + r * left_stride, left_stride, right, right_stride, walk, to, out_stride, accumulate);
    }
}

}  // namespace hpjax::HPJAX_ISA
