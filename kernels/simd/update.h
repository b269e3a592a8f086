// A step of an optimizer, a part of a tensor at a time: every value is read and written once, read again where norms come first.
#pragma once
#include "../operators.h"
#include "rounding.h"

namespace hpjax::HPJAX_ISA {

// Sums of squares: vectors of float32 over a short stretch, then float64.
constexpr int64_t STRETCH = 64 * W;

// How a tensor's mean gradients become what its rule gets.
struct Prepared {
  V share, limit, scale, l1, l2;
  bool limited, regular;

  Prepared(const Rates& r, const Parameter& p, float scaled = 1.0f)
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

// Goes over a part: `place` takes a vector, the last one of n < W floats, and `after` comes after each stretch.
template <class Place, class After>
INLINE void over(const Part& part, const Place& place, const After& after) {
  for (int64_t from = part.from; from < part.to; from += STRETCH) {
    const int64_t to = from + STRETCH < part.to ? from + STRETCH : part.to;
    int64_t i = from;
    for (; i + W <= to; i += W) place(i, int64_t{W});
    if (i < to) place(i, to - i);
    after();
  }
}

// Adds what a stretch has come to, and begins anew.
INLINE void add(double& squares, V& of_stretch) {
  squares += sum(of_stretch);
  of_stretch = V{};
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

static void clip(const Update& u, Part& part) {
  const Parameter& p = u.parameters[part.parameter];
  const Prepared prepared(u.rates, p);
  double squares = 0;
  V some = V{};
  over(
      part,
      [&](int64_t i, int64_t n) __attribute__((always_inline)) {
        const V g = clipped(prepared, load_part(p.gradient + i, n) * prepared.share);
        some += g * g;
      },
      [&]() __attribute__((always_inline)) { add(squares, some); });
  part.clip = squares;
}

// Whether the pass of norms writes the new moments, so that the step reads them instead of making them again. Those that
// are rounded it does not: a step is made of what they were before.
template <Rule R, class Kept>
constexpr bool MADE_FIRST = R == LAMB && sizeof(Kept) == sizeof(float);

template <Rule R, class Kept>
static void trust(const Update& u, Part& part) {
  const Parameter& p = u.parameters[part.parameter];
  const Prepared prepared(u.rates, p, u.scales[part.parameter]);
  const Adam adam(u.rates, p);
  const Kept *first = static_cast<const Kept*>(p.first), *second = static_cast<const Kept*>(p.second);
  Kept *new_first = static_cast<Kept*>(p.new_first), *new_second = static_cast<Kept*>(p.new_second);
  double squares[3] = {};
  V weights = V{}, others = V{}, gradients = V{};
  over(
      part,
      [&](int64_t i, int64_t n) __attribute__((always_inline)) {
        const V w = load_part(p.weight + i, n), raw = load_part(p.gradient + i, n) * prepared.share;
        const V g = prepare(prepared, raw, w);
        V other = g;
        if (R == LAMB) {
          const V mean = adam.first(load_buffer(first + i, n), g), square = adam.second(load_buffer(second + i, n), g);
          other = first_of(adam.step(mean, square, w), n);
          if (MADE_FIRST<R, Kept>) {
            store_buffer(new_first + i, mean, n, U{}), store_buffer(new_second + i, square, n, U{});
            gradients += raw * raw;
          }
        }
        weights += w * w, others += other * other;
      },
      [&]() __attribute__((always_inline)) { add(squares[0], weights), add(squares[1], others), add(squares[2], gradients); });
  part.trust[0] = squares[0], part.trust[1] = squares[1], part.sums[0] = squares[2];
}

// `Kept` is float, or uint16_t for bfloat16; with MADE the moments are made already, and the gradients' squares summed.
template <Rule R, class Kept, bool MADE = false>
static void step(const Update& u, Part& part) {
  const Rates& r = u.rates;
  const Parameter& p = u.parameters[part.parameter];
  const Prepared prepared(r, p, u.scales[part.parameter]);
  const float ratio = u.ratios[part.parameter];
  const float rate = r.learning_rate * p.rate;
  const V learning_rate = splat(R == LAMB ? rate * ratio : rate), beta1 = splat(r.beta1);
  const Adam adam(r, p);
  const V decoupled = splat(rate * r.weight_decay * p.decay), inner = splat(r.inner_decay * p.decay);
  const bool decays = r.weight_decay != 0 && p.decay != 0;
  const Kept *first = static_cast<const Kept*>(p.first), *second = static_cast<const Kept*>(p.second);
  Kept *new_first = static_cast<Kept*>(p.new_first), *new_second = static_cast<Kept*>(p.new_second);
  const uint32_t key[2] = {p.key[0], p.key[1]};
  double sums[3] = {};
  V gradients = V{}, weights = V{}, steps = V{};
  over(
      part,
      [&](int64_t i, int64_t n) __attribute__((always_inline)) {
        const V w = load_part(p.weight + i, n), mean = MADE ? V{} : load_part(p.gradient + i, n) * prepared.share;
        V g = prepare(prepared, mean, w), d = V{};
        const U random = sizeof(Kept) == sizeof(float) ? U{} : random_bits(key, i);
        if (R == SGD) d = learning_rate * g;
        if (R == MOMENTUM || R == NESTEROV) {
          V v = beta1 * load_buffer(first + i, n) + g;
          store_buffer(new_first + i, v, n, random & 0xffffu);
          d = learning_rate * (R == NESTEROV ? g + beta1 * v : v);
        }
        if (R == LARS) {
          V own = ratio == PLAIN ? g : splat(ratio) * (g + inner * w);
          d = beta1 * load_buffer(first + i, n) + learning_rate * own;
          store_buffer(new_first + i, d, n, random & 0xffffu);
        }
        if (MADE) d = first_of(learning_rate * adam.step(load_buffer(new_first + i, n), load_buffer(new_second + i, n), w), n);
        if ((R == ADAM || R == LAMB) && !MADE) {
          const V m = adam.first(load_buffer(first + i, n), g), s = adam.second(load_buffer(second + i, n), g);
          store_buffer(new_first + i, m, n, random & 0xffffu);
          store_buffer(new_second + i, s, n, random >> 16);
          d = first_of(learning_rate * adam.step(m, s, w), n);
        }
        if (decays) d += decoupled * w;
        const V next = w - d;
        store_part(p.new_weight + i, next, n);
        gradients += mean * mean, weights += next * next, steps += d * d;
      },
      [&]() __attribute__((always_inline)) { add(sums[0], gradients), add(sums[1], weights), add(sums[2], steps); });
  for (int k = MADE; k < 3; ++k) part.sums[k] = sums[k];
}

template <Rule R, class Kept = float>
static void update(const Update& u, Pass pass, Part& part) {
  if (pass == CLIP) return clip(u, part);
  const bool made = MADE_FIRST<R, Kept> && u.parameters[part.parameter].layerwise;
  if (pass == STEP) return made ? step<R, Kept, MADE_FIRST<R, Kept>>(u, part) : step<R, Kept>(u, part);
  if (R == LARS || R == LAMB) trust<R, Kept>(u, part);
}

static void update(const Update& u, Pass pass, Part& part) {
  switch (u.rule) {
    case SGD: return update<SGD>(u, pass, part);
    case MOMENTUM: return (u.narrow ? update<MOMENTUM, uint16_t> : update<MOMENTUM, float>)(u, pass, part);
    case NESTEROV: return (u.narrow ? update<NESTEROV, uint16_t> : update<NESTEROV, float>)(u, pass, part);
    case ADAM: return (u.narrow ? update<ADAM, uint16_t> : update<ADAM, float>)(u, pass, part);
    case LARS: return (u.narrow ? update<LARS, uint16_t> : update<LARS, float>)(u, pass, part);
    case LAMB: return (u.narrow ? update<LAMB, uint16_t> : update<LAMB, float>)(u, pass, part);
  }
}

}  // namespace hpjax::HPJAX_ISA
