// Vectors of one instruction set. Compiled once for each of them, by `isa.cc`: HPJAX_ISA names the namespace, HPJAX_WIDTH is
// the floats of a vector, HPJAX_ROWS x HPJAX_VECTORS the registers of a tile of sums.
//
// No function of the standard library is called from here: its templates would be compiled for this instruction set and
// might be linked into code that runs on a machine without it.
#pragma once
#include <cstddef>
#include <cstdint>
#ifdef HPJAX_X86
#include <immintrin.h>
#endif

#define INLINE_MEMBER inline __attribute__((always_inline))
#define INLINE static INLINE_MEMBER

namespace hpjax::HPJAX_ISA {

constexpr int W = HPJAX_WIDTH;
constexpr int MR = HPJAX_ROWS;
constexpr int NV = HPJAX_VECTORS;

typedef float V __attribute__((vector_size(HPJAX_WIDTH * 4)));
typedef int32_t I __attribute__((vector_size(HPJAX_WIDTH * 4)));
typedef uint32_t U __attribute__((vector_size(HPJAX_WIDTH * 4)));
// In memory vectors lie where they lie.
typedef float Unaligned __attribute__((vector_size(HPJAX_WIDTH * 4), aligned(4), may_alias));

INLINE V load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
INLINE void store(float* p, V v) { *reinterpret_cast<Unaligned*>(p) = v; }
INLINE V splat(float x) { return x - V{}; }
INLINE V select(I mask, V a, V b) { return mask ? a : b; }
// As the comparison of IEEE 754 says: NaN stays NaN where it is the first.
INLINE V at_least(V v, V low) { return select(v < low, low, v); }
INLINE V at_most(V v, V high) { return select(v > high, high, v); }

// The nearest bfloat16, ties to even, as a float; NaN stays NaN.
INLINE V rounded(V v) {
  const U bits = (U)v;
  const U nearest = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000;
  return select(v == v, (V)nearest, (V)((bits | 0x400000) & 0xffff0000));
}

INLINE float sum(V v) {
  float total = 0;
  for (int i = 0; i < W; ++i) total += v[i];
  return total;
}

// Written out: built in a loop it would be built anew, float by float, wherever it is used.
constexpr I NUMBERS = {
    0, 1, 2, 3,
#if HPJAX_WIDTH >= 8
    4, 5, 6, 7,
#endif
#if HPJAX_WIDTH >= 16
    8, 9, 10, 11, 12, 13, 14, 15,
#endif
};
INLINE I numbers() { return NUMBERS; }

// The sum, or the largest, of all floats, in each of them.
INLINE V all_sum(V v) {
#pragma GCC unroll 4
  for (int s = W / 2; s > 0; s /= 2) v += __builtin_shuffle(v, numbers() ^ s);
  return v;
}
INLINE V all_largest(V v) {
#pragma GCC unroll 4
  for (int s = W / 2; s > 0; s /= 2) v = at_least(v, __builtin_shuffle(v, numbers() ^ s));
  return v;
}

// Square roots, rounded as IEEE 754 says.
INLINE V sqrt(V v) {
#if defined(HPJAX_X86) && HPJAX_WIDTH == 16
  return (V)_mm512_sqrt_ps((__m512)v);
#elif defined(HPJAX_X86) && HPJAX_WIDTH == 8
  return (V)_mm256_sqrt_ps((__m256)v);
#elif defined(HPJAX_X86)
  return (V)_mm_sqrt_ps((__m128)v);
#else
  V roots;
  for (int i = 0; i < W; ++i) roots[i] = __builtin_sqrtf(v[i]);
  return roots;
#endif
}
INLINE float root(float x) { return sqrt(splat(x))[0]; }

// Quotients and square roots to two units in the last place, where the processor estimates reciprocals: its own take 16
// cycles a vector and more. Special values come out as IEEE 754 says, for where an estimate is 0 or infinite it is not refined.
#if defined(HPJAX_X86) && HPJAX_WIDTH == 16
INLINE __mmask16 ordinary(__m512 estimate) {
  return static_cast<__mmask16>(~_mm512_fpclass_ps_mask(estimate, 0x9f));  // no NaN, zero, infinity
}
INLINE V quick_divide(V a, V b) {
  const __m512 estimate = _mm512_rcp14_ps((__m512)b), q = _mm512_mul_ps((__m512)a, estimate);
  const __m512 once = _mm512_fnmadd_ps((__m512)b, estimate, _mm512_set1_ps(1.0f));
  return (V)_mm512_mask_fmadd_ps(q, ordinary(estimate), once, q);
}
INLINE V quick_sqrt(V v) {
  const __m512 estimate = _mm512_rsqrt14_ps((__m512)v);
  const __mmask16 refined = ordinary(estimate);
  const __m512 root = _mm512_mask_mul_ps((__m512)v, refined, (__m512)v, estimate);
  const __m512 half = _mm512_mul_ps(estimate, _mm512_set1_ps(0.5f));
  const __m512 rest = _mm512_fnmadd_ps(root, root, (__m512)v);
  return (V)_mm512_mask3_fmadd_ps(rest, half, root, refined);
}
#else
INLINE V quick_divide(V a, V b) { return a / b; }
INLINE V quick_sqrt(V v) { return sqrt(v); }
#endif

// Loads and stores of the first n floats, 0 < n <= W; what is not loaded is 0.
INLINE V load_part(const float* p, int64_t n) {
  if (n >= W) return load(p);
#if defined(HPJAX_X86) && HPJAX_WIDTH == 16
  return (V)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
#endif
  float buffer[W] = {};
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return load(buffer);
}
INLINE void store_part(float* p, V v, int64_t n) {
  if (n >= W) return store(p, v);
#if defined(HPJAX_X86) && HPJAX_WIDTH == 16
  return _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
#endif
  float buffer[W];
  store(buffer, v);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}

// Turns W vectors of W floats round their diagonal.
#if defined(HPJAX_X86) && HPJAX_WIDTH == 16
// By shuffles that need no vector of places: sixteen rows and those would not fit the registers.
INLINE void transpose(V (&rows)[W]) {
  __m512 pairs[W], fours[W], eights[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; i += 2) {
    const __m512 a = (__m512)rows[i], b = (__m512)rows[i + 1];
    pairs[i] = _mm512_unpacklo_ps(a, b), pairs[i + 1] = _mm512_unpackhi_ps(a, b);
  }
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    const int from = i / 4 * 4 + i % 4 / 2;
    const __m512d a = _mm512_castps_pd(pairs[from]), b = _mm512_castps_pd(pairs[from + 2]);
    fours[i] = _mm512_castpd_ps(i % 2 ? _mm512_unpackhi_pd(a, b) : _mm512_unpacklo_pd(a, b));
  }
  // Quarter q of fours[4 i + j] is column 4 q + j of rows 4 i to 4 i + 3.
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    const __m512 a = fours[i / 8 * 8 + i % 4], b = fours[i / 8 * 8 + i % 4 + 4];
    eights[i] = i % 8 < 4 ? _mm512_shuffle_f32x4(a, b, 0x88) : _mm512_shuffle_f32x4(a, b, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    const __m512 a = eights[i % 8], b = eights[i % 8 + 8];
    rows[i] = (V)(i < 8 ? _mm512_shuffle_f32x4(a, b, 0x88) : _mm512_shuffle_f32x4(a, b, 0xdd));
  }
}
#else
INLINE void transpose(V (&rows)[W]) {
#pragma GCC unroll 4
  for (int s = 1; s < W; s *= 2) {
    const I odd = (NUMBERS & s) != 0, low = NUMBERS + (odd & (W - s)), high = NUMBERS + (odd & W) + (~odd & s);
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) {
      if (i & s) continue;
      const V a = rows[i], b = rows[i + s];
      rows[i] = __builtin_shuffle(a, b, low), rows[i + s] = __builtin_shuffle(a, b, high);
    }
  }
}
#endif

// exp(t) / 2^n to about 1e-7 relative, for |t| < 89.
INLINE V exp_part(V t, I& n) {
  // t = n ln 2 + r with |r| <= ln 2 / 2: adding 1.5 * 2^23 rounds to the nearest whole.
  const V magic = splat(12582912.0f);
  V whole = t * splat(1.44269504088896341f) + magic;
  n = (I)whole - (I)magic;
  whole -= magic;
  V r = t - whole * splat(0.693359375f);
  r = r - whole * splat(-2.12194440e-4f);
  V p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  return p * r * r + r + splat(1.0f);
}

// exp to about 1e-7 relative; 0 below -87.3, infinity above 88.7, NaN stays NaN.
INLINE V exp(V x) {
  const V low = splat(-87.33654f), high = splat(88.72283f);
  I n;
  V y = exp_part(at_most(at_least(x, low), high), n);
  // In two steps, for 2^128 is no float.
  I half = n >> 1;
  y *= (V)((half + 127) << 23);
  y *= (V)((n - half + 127) << 23);
  y = select(x < low, V{}, y);
  y = select(x > high, splat(__builtin_inff()), y);
  return select(x == x, y, x);
}

// exp held between 1.6e-38 and 1.6e38, for sums that need no more: no subnormal, which is slow; NaN stays NaN.
INLINE V exp_within(V x) {
  I n;
  V y = exp_part(at_most(at_least(x, splat(-87.0f)), splat(88.0f)), n);
  return y * (V)((n + 127) << 23);
}

// exp of what is not above 0; 0 below -87, NaN stays NaN.
INLINE V exp_below(V x) {
  I n;
  V y = exp_part(at_least(x, splat(-87.0f)), n);
  return select(x < splat(-87.0f), V{}, y * (V)((n + 127) << 23));
}

// 1 / x for x >= 1, to about 1e-7 relative; 0 above 1e38.
INLINE V reciprocal(V x) {
#if defined(HPJAX_X86) && HPJAX_WIDTH == 16
  // A division takes as long as all the rest of a GELU.
  V y = (V)_mm512_rcp14_ps((__m512)x);
  y = y * (splat(2.0f) - x * y);
  return select(x > splat(1e38f), V{}, y);
#else
  return splat(1.0f) / select(x > splat(1e38f), splat(__builtin_inff()), x);
#endif
}

INLINE V sigmoid(V x) { return reciprocal(splat(1.0f) + exp_within(-x)); }

// tanh(x): odd polynomial near 0, where 1 - 2 / (exp(2x) + 1) has no digits.
INLINE V tanh(V x) {
  V square = x * x;
  V p = splat(-5.70498872745e-3f);
  p = p * square + splat(2.06390887954e-2f);
  p = p * square + splat(-5.37397155531e-2f);
  p = p * square + splat(1.33314422036e-1f);
  p = p * square + splat(-3.33332819422e-1f);
  V near = p * square * x + x;
  V far = splat(1.0f) - splat(2.0f) / (exp(x + x) + splat(1.0f));
  return select((x < splat(0.625f)) & (x > splat(-0.625f)), near, far);
}

}  // namespace hpjax::HPJAX_ISA
