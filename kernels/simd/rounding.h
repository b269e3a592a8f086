// Buffers kept in bfloat16, rounded stochastically: the same random bits as hpjax/ops/rounding.py.
#pragma once
#include "vector.h"

namespace hpjax::HPJAX_ISA {

typedef uint32_t U __attribute__((vector_size(HPJAX_WIDTH * 4)));
typedef uint16_t H __attribute__((vector_size(HPJAX_WIDTH * 2)));
typedef uint16_t UnalignedHalf __attribute__((vector_size(HPJAX_WIDTH * 2), aligned(2), may_alias));

// 32 random bits for each of W elements of a tensor, from `at` on.
INLINE U random_bits(const uint32_t (&key)[2], int64_t at) {
  U x;
  for (int i = 0; i < W; ++i) x[i] = static_cast<uint32_t>(i);
  x = (x + static_cast<uint32_t>(at)) ^ key[0];
  x = (x ^ (x >> 17)) * 0xed5ad4bbu;
  x = (x ^ (x >> 11) ^ key[1]) * 0xac4c1b51u;
  x = (x ^ (x >> 15)) * 0x31848babu;
  return x ^ (x >> 14);
}

// Loads and stores of the first n numbers of a buffer, 0 < n <= W; `noise` has 16 bits a number.
INLINE V load_buffer(const float* p, int64_t n) { return load_part(p, n); }
INLINE V load_buffer(const uint16_t* p, int64_t n) {
  H half = {};
  if (n >= W) half = *reinterpret_cast<const UnalignedHalf*>(p);
  else
    for (int64_t i = 0; i < n; ++i) half[i] = p[i];
  return (V)(__builtin_convertvector(half, U) << 16);
}

INLINE void store_buffer(float* p, V v, int64_t n, U) { store_part(p, v, n); }
INLINE void store_buffer(uint16_t* p, V v, int64_t n, U noise) {
  const U raw = (U)v;
  // The payload of what is no number might overflow: its quiet bit is set instead.
  const U rounded = (U)select(v == v, (V)(raw + noise), (V)(raw | 0x400000u)) >> 16;
  const H half = __builtin_convertvector(rounded, H);
  if (n >= W) *reinterpret_cast<UnalignedHalf*>(p) = half;
  else
    for (int64_t i = 0; i < n; ++i) p[i] = half[i];
}

}  // namespace hpjax::HPJAX_ISA
