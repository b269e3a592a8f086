// Products of tiles by the AMX unit.
#pragma once
#include "tiles.h"

namespace hpjax::HPJAX_ISA {

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

}  // namespace hpjax::HPJAX_ISA
