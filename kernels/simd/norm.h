// Layer normalisation: a row is read from memory once, what comes after finds it in the first cache.
#pragma once
#include "../operators.h"
#include "vector.h"

namespace hpjax::HPJAX_ISA {

// The first n floats of a vector, 0 after them.
INLINE V first(V v, int64_t n) { return n >= W ? v : select(numbers() < static_cast<int32_t>(n), v, V{}); }

static void norm_forward(const NormForward& a) {
  const V share = splat(1.0f / static_cast<float>(a.features));
  for (int64_t i = 0; i < a.rows; ++i) {
    const float* x = a.x + i * a.features;
    float* y = a.y + i * a.features;
    V sums = V{}, squares = V{};
    if (a.branch) {
      float* total = a.sum + i * a.features;
      const float* branch = a.branch + i * a.features;
      for (int64_t n = 0; n < a.features; n += W) {
        const int64_t valid = a.features - n;
        const V v = load_part(x + n, valid) + load_part(branch + n, valid);
        store_part(total + n, v, valid);
        sums += v;
      }
      x = total;
    } else {
      for (int64_t n = 0; n < a.features; n += W) sums += load_part(x + n, a.features - n);
    }
    const V mean = all_sum(sums) * share;
    for (int64_t n = 0; n < a.features; n += W) {
      const V centred = first(load_part(x + n, a.features - n) - mean, a.features - n);
      squares += centred * centred;
    }
    const V inverse = splat(1.0f) / sqrt(all_sum(squares) * share + splat(a.epsilon));
    for (int64_t n = 0; n < a.features; n += W) {
      const int64_t valid = a.features - n;
      const V centred = load_part(x + n, valid) - mean;
      store_part(y + n, centred * inverse * load_part(a.scale + n, valid) + load_part(a.bias + n, valid), valid);
    }
    a.statistics[2 * i] = mean[0], a.statistics[2 * i + 1] = inverse[0];
  }
}

static void norm_backward(const NormBackward& a) {
  const V share = splat(1.0f / static_cast<float>(a.features));
  for (int64_t n = 0; n < a.features; ++n) a.to_scale[n] = a.to_bias[n] = 0;
  for (int64_t i = 0; i < a.rows; ++i) {
    const float *x = a.x + i * a.features, *cotangent = a.cotangent + i * a.features;
    float* to_x = a.to_x + i * a.features;
    const V mean = splat(a.statistics[2 * i]), inverse = splat(a.statistics[2 * i + 1]);
    V sums = V{}, products = V{};
    for (int64_t n = 0; n < a.features; n += W) {
      const int64_t valid = a.features - n;
      const V c = load_part(cotangent + n, valid), normal = first((load_part(x + n, valid) - mean) * inverse, valid);
      const V scaled = c * load_part(a.scale + n, valid);
      sums += scaled, products += scaled * normal;
      store_part(a.to_scale + n, load_part(a.to_scale + n, valid) + c * normal, valid);
      store_part(a.to_bias + n, load_part(a.to_bias + n, valid) + c, valid);
    }
    sums = all_sum(sums) * share, products = all_sum(products) * share;
    const float* through = a.through ? a.through + i * a.features : nullptr;
    for (int64_t n = 0; n < a.features; n += W) {
      const int64_t valid = a.features - n;
      const V normal = (load_part(x + n, valid) - mean) * inverse;
      V to = inverse * (load_part(cotangent + n, valid) * load_part(a.scale + n, valid) - sums - normal * products);
      if (through) to += load_part(through + n, valid);
      store_part(to_x + n, to, valid);
    }
  }
}

}  // namespace hpjax::HPJAX_ISA
