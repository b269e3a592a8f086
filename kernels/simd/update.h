// One step of an optimizer over all its tensors: every value is read and written once, twice where norms come first.
#pragma once
#include "../operators.h"
#include "vector.h"

namespace hpjax::HPJAX_ISA {

// Sums of squares: vectors of float32 over a short stretch, then float64.
constexpr int64_t STRETCH = 64 * W;

struct Sums {
  double gradient = 0, weight = 0, step = 0;
};

INLINE float norm(double squares) { return root(static_cast<float>(squares)); }

// As `clipping.py`: what a norm above its limit is scaled by.
INLINE float shrink(float norm, float limit) { return norm > limit ? limit / norm : 1.0f; }

// How a tensor's mean gradients become what its rule gets.
struct Prepared {
  V share, limit, scale, l1, l2;
  bool limited, regular;

  Prepared(const Rates& r, const Parameter& p, float scaled)
      : share(splat(r.share)), limit(splat(r.clip_value)), scale(splat(scaled)), l1(splat(r.l1 * p.decay)),
        l2(splat(r.l2 * p.decay)), limited(r.clip_value < __builtin_inff()),
        regular((r.l1 != 0 || r.l2 != 0) && p.decay != 0) {}
};

INLINE V sign(V w) { return select(w > V{}, splat(1.0f), select(w < V{}, splat(-1.0f), w)); }
INLINE V clipped(const Prepared& how, V mean) {
  return how.limited ? at_most(at_least(mean, -how.limit), how.limit) : mean;
}
INLINE V prepare(const Prepared& how, V mean, V w) {
  V g = clipped(how, mean) * how.scale;
  return how.regular ? g + how.l2 * w + how.l1 * sign(w) : g;
}

// The first n floats, 0 after them: what arithmetic makes of padding may be no number.
INLINE V first_of(V v, int64_t n) {
  if (n >= W) return v;
  float buffer[W];
  store(buffer, v);
  return load_part(buffer, n);
}

// The sum over a tensor of what `term` makes of a place; the last, partial vector is padded with 0.
template <class Term>
INLINE double total(int64_t size, const Term& term) {
  double squares = 0;
  for (int64_t from = 0; from < size; from += STRETCH) {
    const int64_t to = from + STRETCH < size ? from + STRETCH : size;
    V part = V{};
    int64_t i = from;
    for (; i + W <= to; i += W) part += term(i, int64_t{W});
    if (i < to) part += term(i, to - i);
    squares += sum(part);
  }
  return squares;
}

// Adam's moments, and its step before the learning rate. The rates are copies: what is stored to might else be one of them.
struct Adam {
  V beta1, beta2, other1, other2, unbias1, unbias2, epsilon, decay;

  Adam(const Rates& r, const Parameter& p)
      : beta1(splat(r.beta1)), beta2(splat(r.beta2)), other1(splat(1.0f - r.beta1)), other2(splat(1.0f - r.beta2)),
        unbias1(splat(1.0f / r.correction1)), unbias2(splat(1.0f / r.correction2)), epsilon(splat(r.epsilon)),
        decay(splat(r.inner_decay * p.decay)) {}

  INLINE_MEMBER V first(V before, V g) const { return beta1 * before + other1 * g; }
  INLINE_MEMBER V second(V before, V g) const { return beta2 * before + other2 * g * g; }
  INLINE_MEMBER V step(V first, V second, V w) const {
    return quick_divide(first * unbias1, quick_sqrt(second * unbias2) + epsilon) + decay * w;
  }
};

// LARS takes the gradient as it is, without scale and decay.
constexpr float PLAIN = -1.0f;

// What a layer-wise rule scales a tensor's step by.
template <Rule R>
static float trust(const Rates& r, const Parameter& p, const Prepared& prepared) {
  if (!p.layerwise || (R != LARS && R != LAMB)) return 1.0f;
  const float weight = norm(total(p.size, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    V w = load_part(p.weight + i, n);
    return w * w;
  }));
  if (R == LARS) {
    const float gradient = norm(total(p.size, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      V g = prepare(prepared, load_part(p.gradient + i, n) * prepared.share, load_part(p.weight + i, n));
      return g * g;
    }));
    if (weight == 0 || gradient == 0) return PLAIN;
    return r.trust_coefficient * weight / (gradient + r.inner_decay * p.decay * weight + r.epsilon);
  }
  const Adam adam(r, p);
  const float step = norm(total(p.size, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    V w = load_part(p.weight + i, n), g = prepare(prepared, load_part(p.gradient + i, n) * prepared.share, w);
    V first = adam.first(load_part(p.first + i, n), g), second = adam.second(load_part(p.second + i, n), g);
    V u = first_of(adam.step(first, second, w), n);
    return u * u;
  }));
  return weight == 0 || step == 0 ? 1.0f : weight / step;
}

template <Rule R>
static void step(const Rates& r, const Parameter& p, float scale, Sums& sums) {
  const Prepared prepared(r, p, scale);
  const float ratio = trust<R>(r, p, prepared);
  const float rate = r.learning_rate * p.rate;
  const V learning_rate = splat(R == LAMB ? rate * ratio : rate), beta1 = splat(r.beta1);
  const Adam adam(r, p);
  const V decoupled = splat(rate * r.weight_decay * p.decay), inner = splat(r.inner_decay * p.decay);
  const bool decays = r.weight_decay != 0 && p.decay != 0;
  for (int64_t from = 0; from < p.size; from += STRETCH) {
    const int64_t to = from + STRETCH < p.size ? from + STRETCH : p.size;
    V gradients = V{}, weights = V{}, steps = V{};
    const auto place = [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      const V w = load_part(p.weight + i, n), mean = load_part(p.gradient + i, n) * prepared.share;
      V g = prepare(prepared, mean, w), u = V{};
      if (R == SGD) u = learning_rate * g;
      if (R == MOMENTUM || R == NESTEROV) {
        V v = beta1 * load_part(p.first + i, n) + g;
        store_part(p.new_first + i, v, n);
        u = learning_rate * (R == NESTEROV ? g + beta1 * v : v);
      }
      if (R == LARS) {
        V d = ratio == PLAIN ? g : splat(ratio) * (g + inner * w);
        u = beta1 * load_part(p.first + i, n) + learning_rate * d;
        store_part(p.new_first + i, u, n);
      }
      if (R == ADAM || R == LAMB) {
        V first = adam.first(load_part(p.first + i, n), g), second = adam.second(load_part(p.second + i, n), g);
        store_part(p.new_first + i, first, n);
        store_part(p.new_second + i, second, n);
        u = first_of(learning_rate * adam.step(first, second, w), n);
      }
      if (decays) u += decoupled * w;
      const V next = w - u;
      store_part(p.new_weight + i, next, n);
      gradients += mean * mean, weights += next * next, steps += u * u;
    };
    int64_t i = from;
    for (; i + W <= to; i += W) place(i, W);
    if (i < to) place(i, to - i);
    sums.gradient += sum(gradients), sums.weight += sum(weights), sums.step += sum(steps);
  }
}

INLINE bool finite_limit(float limit) { return limit < __builtin_inff(); }

template <Rule R>
static void update(const Update& u) {
  const Rates& r = u.rates;
  // The norms of the tensors that are clipped by them, in a first pass.
  float* scales = scratch(0, static_cast<size_t>(u.count) + 1);
  double all = 0;
  const bool by_norm = finite_limit(r.clip_layer_norm) || finite_limit(r.clip_norm);
  for (int64_t k = 0; k < u.count; ++k) {
    const Parameter& p = u.parameters[k];
    scales[k] = 1.0f;
    if (!by_norm) continue;
    const Prepared prepared(r, p, 1.0f);
    const double squares = total(p.size, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      V g = clipped(prepared, load_part(p.gradient + i, n) * prepared.share);
      return g * g;
    });
    scales[k] = shrink(norm(squares), r.clip_layer_norm);
    all += squares * scales[k] * scales[k];
  }
  const float scale = by_norm ? shrink(norm(all), r.clip_norm) : 1.0f;
  Sums sums;
  for (int64_t k = 0; k < u.count; ++k) step<R>(r, u.parameters[k], scales[k] * scale, sums);
  u.norms[0] = norm(sums.gradient), u.norms[1] = norm(sums.weight), u.norms[2] = norm(sums.step);
}

static void update(const Update& u) {
  switch (u.rule) {
    case SGD: return update<SGD>(u);
    case MOMENTUM: return update<MOMENTUM>(u);
    case NESTEROV: return update<NESTEROV>(u);
    case ADAM: return update<ADAM>(u);
    case LARS: return update<LARS>(u);
    case LAMB: return update<LAMB>(u);
  }
}

}  // namespace hpjax::HPJAX_ISA
