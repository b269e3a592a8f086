// Steps of the optimizers over all their tensors, against the formulas of hpjax/optimizers in double.
#include <algorithm>
#include <cmath>

#include "../operators.h"
#include "testing.h"

extern "C" XLA_FFI_Error* hpjax_update(XLA_FFI_CallFrame*);

namespace hpjax::tests {
namespace {

struct Tensor {
  Array gradient, weight, first, second;  // as they were before
  double rate, decay;
  bool layerwise;
  Array new_weight, new_first, new_second;
  Doubles weights, firsts, seconds, steps;  // what they should be
  double weight_size, first_size, step_size;  // the norms they would have, were all that is added independent
};

double norm(const Doubles& values) { return std::sqrt(squared(values)); }
double square(double x) { return x * x; }
double shrink(double norm, double limit) { return norm > limit ? limit / norm : 1; }

// The rates in double.
struct Wide {
  double share, learning_rate, clip_value, clip_layer_norm, clip_norm, l1, l2, weight_decay, inner_decay, beta1, beta2, epsilon,
      trust_coefficient, correction1, correction2;
};

// The step of one tensor whose gradients `g` are clipped; fills what it should become.
void step(Rule rule, const Wide& r, Doubles g, Tensor& t) {
  const Doubles w = doubles(t.weight), first = doubles(t.first), second = doubles(t.second);
  const double rate = r.learning_rate * t.rate, inner = r.inner_decay * t.decay;
  Doubles u(w.size()), size(w.size()), first_size(w.size());
  for (size_t i = 0; i < w.size(); ++i) {
    const double l1 = t.decay * r.l1 * (w[i] > 0 ? 1 : w[i] < 0 ? -1 : 0), l2 = t.decay * r.l2 * w[i];
    size[i] = square(g[i]) + square(l1) + square(l2);
    g[i] += l1 + l2;
  }
  double ratio = 1;
  bool plain = false;
  if (rule == LARS && t.layerwise) {
    plain = norm(w) == 0 || norm(g) == 0;
    if (!plain) ratio = r.trust_coefficient * norm(w) / (norm(g) + inner * norm(w) + r.epsilon);
  }
  for (size_t i = 0; i < w.size(); ++i) {
    if (rule == SGD) u[i] = rate * g[i], size[i] *= square(rate);
    if (rule == MOMENTUM || rule == NESTEROV) {
      t.firsts.push_back(r.beta1 * first[i] + g[i]);
      u[i] = rate * (rule == NESTEROV ? g[i] + r.beta1 * t.firsts[i] : t.firsts[i]);
      size[i] = first_size[i] = square(r.beta1 * first[i]) + size[i];
      size[i] *= square(rate);
    }
    if (rule == LARS) {
      const double by = rate * (plain ? 1 : ratio), decays = plain ? 0 : by * inner * w[i];
      t.firsts.push_back(r.beta1 * first[i] + by * g[i] + decays);
      u[i] = t.firsts[i];
      size[i] = first_size[i] = square(r.beta1 * first[i]) + square(by) * size[i] + square(decays);
    }
    if (rule == ADAM || rule == LAMB) {
      t.firsts.push_back(r.beta1 * first[i] + (1 - r.beta1) * g[i]);
      t.seconds.push_back(r.beta2 * second[i] + (1 - r.beta2) * g[i] * g[i]);
      const double root = std::sqrt(t.seconds[i] / r.correction2) + r.epsilon;
      u[i] = t.firsts[i] / r.correction1 / root + inner * w[i];
      first_size[i] = square(r.beta1 * first[i]) + square(1 - r.beta1) * size[i];
      size[i] = first_size[i] / square(r.correction1 * root) + square(inner * w[i]);
    }
  }
  if (rule == LAMB && t.layerwise && norm(w) != 0 && norm(u) != 0) ratio = norm(w) / norm(u);
  const double by = rule == ADAM ? rate : rule == LAMB ? rate * ratio : 1;
  for (size_t i = 0; i < w.size(); ++i) {
    const double decays = rate * r.weight_decay * t.decay * w[i];
    u[i] = by * u[i] + decays;
    size[i] = square(by) * size[i] + square(decays);
    t.weights.push_back(w[i] - u[i]);
    t.step_size += size[i], t.weight_size += square(w[i]) + size[i], t.first_size += first_size[i];
  }
  t.steps = u;
  t.step_size = std::sqrt(t.step_size), t.weight_size = std::sqrt(t.weight_size), t.first_size = std::sqrt(t.first_size);
}

constexpr int64_t RATES = 15;

Array rates(Random& random) {
  const auto maybe = [&](double value, double otherwise) { return random.one_in(2) ? value : otherwise; };
  const double never = HUGE_VAL;
  Wide r{};
  r.share = random.pick({1.0, 0.5, 1.0 / 3}), r.learning_rate = random.pick({0.1, 0.01});
  r.clip_value = maybe(0.5, never), r.clip_layer_norm = maybe(2, never), r.clip_norm = maybe(3, never);
  r.l1 = maybe(0.02, 0), r.l2 = maybe(0.3, 0), r.weight_decay = maybe(0.1, 0), r.inner_decay = maybe(0.2, 0);
  r.beta1 = 0.8, r.beta2 = 0.99, r.epsilon = 1e-3, r.trust_coefficient = 0.02, r.correction1 = 0.6, r.correction2 = 0.05;
  const Array made = floats({RATES});
  std::copy(&r.share, &r.share + RATES, made.floats());
  return made;
}

Tensor tensor(Random& random, Rule rule, bool narrow) {
  Tensor t{};
  const int64_t size = random.between(1, random.pick({3, 40, 3000, 40000}));
  // The norm of a few numbers that cancel by chance has no digits.
  t.layerwise = size >= 8 && random.one_in(2);
  const Sizes sizes = t.layerwise ? Sizes{1, size} : Sizes{size};
  t.gradient = random.normals(sizes, random.one_in(10) ? 0 : 3), t.weight = random.normals(sizes, random.one_in(10) ? 0 : 1);
  const Sizes one = buffers(rule) > 0 ? sizes : Sizes{0}, two = buffers(rule) > 1 ? sizes : Sizes{0};
  const auto kept = [&](const Sizes& of) { return narrow ? halves(of) : floats(of); };
  t.first = kept(one), t.second = kept(two);
  for (int64_t i = 0; i < t.first.count(); ++i) t.first.set(i, random.normal());
  for (int64_t i = 0; i < t.second.count(); ++i) t.second.set(i, random.uniform(0.01, 1));
  t.rate = random.pick({1.0, 0.5, 0.0}), t.decay = random.pick({1.0, 2.0, 0.0});
  t.new_weight = floats(sizes), t.new_first = kept(one), t.new_second = kept(two);
  return t;
}

void copy(const Array& from, const Array& to) { std::copy(from.octets(), from.octets() + from.bytes(), to.octets()); }

Case update(Random& random) {
  const Rule rule = static_cast<Rule>(random.between(SGD, LAMB));
  const Array given = rates(random);
  Wide r;
  std::copy(given.floats(), given.floats() + RATES, &r.share);
  const bool in_place = random.one_in(2), narrow = random.one_in(3);
  std::vector<Tensor> tensors;
  std::vector<Doubles> gradients;
  std::vector<float> multiplied, decays;
  Sizes layerwise;
  double all = 0, sizes[3] = {}, squares[3] = {};
  for (int64_t k = random.between(random.one_in(10) ? 0 : 1, 5); k > 0; --k) {
    tensors.push_back(tensor(random, rule, narrow));
    const Tensor& t = tensors.back();
    gradients.push_back(doubles(t.gradient));
    Doubles& mean = gradients.back();
    for (double& g : mean) g *= r.share;
    squares[0] += squared(mean);
    for (double& g : mean) g = std::clamp(g, -r.clip_value, r.clip_value);
    const double scale = shrink(norm(mean), r.clip_layer_norm);
    for (double& g : mean) g *= scale;
    all += squared(mean);
    multiplied.push_back(static_cast<float>(t.rate)), decays.push_back(static_cast<float>(t.decay));
    layerwise.push_back(t.layerwise);
  }
  sizes[0] = squares[0];
  const double scale = shrink(std::sqrt(all), r.clip_norm);
  for (size_t k = 0; k < tensors.size(); ++k) {
    Tensor& t = tensors[k];
    for (double& g : gradients[k]) g *= scale;
    step(rule, r, gradients[k], t);
    squares[1] += squared(t.weights), squares[2] += squared(t.steps);
    sizes[1] += square(t.weight_size), sizes[2] += square(t.step_size);
  }
  const Array norms = floats({3}), keys = array(XLA_FFI_DataType_U32, {static_cast<int64_t>(tensors.size()), 2});
  Case made{{{given},
             {norms},
             {{"rule", number(rule)},
              {"narrow", flag(narrow)},
              {"clips", flag(r.clip_layer_norm < HUGE_VAL || r.clip_norm < HUGE_VAL || random.one_in(2))},
              {"rate", reals(multiplied)},
              {"decay", reals(decays)},
              {"layerwise", numbers(layerwise)},
              {"threads", number(random.between(1, 4))}}},
            {},
            {},
            {}};
  if (narrow) made.call.operands.push_back(keys);
  for (const Tensor& t : tensors) {
    const Array read[3] = {t.weight, t.first, t.second}, written[3] = {t.new_weight, t.new_first, t.new_second};
    made.call.operands.push_back(t.gradient);
    for (int64_t i = 0; i < 1 + buffers(rule); ++i) {
      made.call.operands.push_back(in_place ? written[i] : read[i]);
      made.call.results.push_back(written[i]);
    }
  }
  if (in_place)
    made.prepare = [=] {
      for (const Tensor& t : tensors) copy(t.weight, t.new_weight), copy(t.first, t.new_first), copy(t.second, t.new_second);
    };
  made.check = [=] {
    for (const Tensor& t : tensors) {
      near("weight", t.new_weight, t.weights, t.weight_size, bound(1));
      // Stochastic rounding takes either neighbour: 2^-7 apart at most.
      near("first", t.new_first, t.firsts, t.first_size, narrow ? 0x1p-7 : bound(1));
      near("second", t.new_second, t.seconds, norm(t.seconds), narrow ? 0x1p-7 : bound(1));
    }
    const Array one = floats({1});
    for (int i = 0; i < 3; ++i) {
      one.floats()[0] = norms.floats()[i];
      near("norm", one, {std::sqrt(squares[i])}, std::sqrt(sizes[i]), bound(1));
    }
  };
  const auto with = [&](const char* what, const char* name, const Attribute& value) {
    made.wrong.push_back({what, [=](Call& x) { x.attributes[name] = value; }});
  };
  with("rule -1", "rule", number(-1)), with("rule 6", "rule", number(RULES)), with("rule 2^32", "rule", number(int64_t{1} << 32));
  std::vector<float> longer = multiplied;
  longer.push_back(1);
  Sizes more = layerwise;
  more.push_back(1);
  with("a rate too many", "rate", reals(longer)), with("a decay too many", "decay", reals(longer));
  with("a layer too many", "layerwise", numbers(more));
  made.wrong.push_back({"fourteen rates", [](Call& x) { x.operands[0] = floats({14}); }});
  made.wrong.push_back({"rates in two dimensions", [](Call& x) { x.operands[0] = floats({1, 15}); }});
  made.wrong.push_back({"four norms", [](Call& x) { x.results[0] = floats({4}); }});
  if (narrow) made.wrong.push_back({"keys of another size", [](Call& x) { x.operands[1] = array(XLA_FFI_DataType_U32, {99, 2}); }});
  for (size_t i = narrow ? 2 : 1; i < made.call.operands.size(); ++i)
    for (int64_t change : {-1, 1})
      made.wrong.push_back({"operand " + std::to_string(i) + " of another size",
                            [=](Call& x) { x.operands[i] = array(x.operands[i].type, {x.operands[i].count() + change}); }});
  for (size_t i = 1; i < made.call.results.size(); ++i)
    for (int64_t change : {-1, 1})
      made.wrong.push_back({"result " + std::to_string(i) + " of another size",
                            [=](Call& x) { x.results[i] = array(x.results[i].type, {x.results[i].count() + change}); }});
  return made;
}

const Tested tested_update("hpjax_update", hpjax_update, update);

}  // namespace
}  // namespace hpjax::tests
