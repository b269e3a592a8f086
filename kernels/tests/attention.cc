// Attention of sequences to themselves and its gradient, against double loops.
#include <algorithm>
#include <cmath>

#include "../operators.h"
#include "testing.h"

extern "C" XLA_FFI_Error* hpjax_attention(XLA_FFI_CallFrame*);
extern "C" XLA_FFI_Error* hpjax_attention_gradient(XLA_FFI_CallFrame*);

namespace hpjax::tests {
namespace {

struct Drawn {
  int64_t batch, time, heads, dim;
  bool causal;
  Array qkv;
  Doubles values, statistics, weights;  // y, what is kept of each query, softmax [batch, heads, time, time]

  size_t at(int64_t n, int64_t t, int64_t which, int64_t h, int64_t d) const {
    return static_cast<size_t>((((n * time + t) * 3 + which) * heads + h) * dim + d);
  }
  size_t out(int64_t n, int64_t t, int64_t h, int64_t d) const {
    return static_cast<size_t>(((n * time + t) * heads + h) * dim + d);
  }
  size_t weight(int64_t n, int64_t h, int64_t t, int64_t s) const {
    return static_cast<size_t>(((n * heads + h) * time + t) * time + s);
  }
  Sizes result() const { return {batch, time, heads * dim}; }
  Sizes kept() const { return {batch, heads, 2, time}; }
  // Calls f with every sequence, head and query.
  template <class F>
  void each(const F& f) const {
    for (int64_t n = 0; n < batch; ++n)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t t = 0; t < time; ++t) f(n, h, t);
  }
};

Drawn draw(Random& random) {
  Drawn d{};
  d.batch = random.between(1, 3), d.time = random.between(1, random.pick({4, 20, 70})), d.heads = random.between(1, 3);
  d.dim = random.between(1, random.pick({4, 20, 40})), d.causal = random.one_in(2);
  d.qkv = random.normals({d.batch, d.time, 3 * d.heads * d.dim});
  const Doubles x = doubles(d.qkv);
  d.values.resize(static_cast<size_t>(d.batch * d.time * d.heads * d.dim));
  d.statistics.resize(static_cast<size_t>(d.batch * d.heads * 2 * d.time));
  d.weights.resize(static_cast<size_t>(d.batch * d.heads * d.time * d.time));
  d.each([&](int64_t n, int64_t h, int64_t t) {
    const int64_t seen = d.causal ? t + 1 : d.time;
    double largest = -HUGE_VAL, sum = 0;
    for (int64_t s = 0; s < seen; ++s) {
      double score = 0;
      for (int64_t i = 0; i < d.dim; ++i) score += x[d.at(n, t, 0, h, i)] * x[d.at(n, s, 1, h, i)];
      d.weights[d.weight(n, h, t, s)] = score / std::sqrt(d.dim);
      largest = std::max(largest, score / std::sqrt(d.dim));
    }
    for (int64_t s = 0; s < seen; ++s) sum += d.weights[d.weight(n, h, t, s)] = std::exp(d.weights[d.weight(n, h, t, s)] - largest);
    for (int64_t s = 0; s < seen; ++s) {
      d.weights[d.weight(n, h, t, s)] /= sum;
      for (int64_t i = 0; i < d.dim; ++i) d.values[d.out(n, t, h, i)] += d.weights[d.weight(n, h, t, s)] * x[d.at(n, s, 2, h, i)];
    }
    const size_t place = static_cast<size_t>((n * d.heads + h) * 2 * d.time + t);
    // The largest product itself, before it is scaled.
    d.statistics[place] = largest * std::sqrt(d.dim), d.statistics[place + static_cast<size_t>(d.time)] = 1 / sum;
  });
  return d;
}

void wrong_sizes(Case& made, const Drawn& d) {
  for (int64_t heads : {int64_t{0}, int64_t{-1}, INT64_MIN, INT64_MAX, d.heads + 1, 3 * d.heads * d.dim})
    if (heads != d.heads)
      made.wrong.push_back({std::to_string(heads) + " heads", [=](Call& c) { c.attributes["heads"] = number(heads); }});
  made.wrong.push_back({"qkv of two dimensions", [=](Call& c) { c.operands[0] = floats({d.batch * d.time, 3 * d.heads * d.dim}); }});
  made.wrong.push_back({"qkv no three of anything", [=](Call& c) { c.operands[0] = floats({d.batch, d.time, 3 * d.heads * d.dim + 1}); }});
  made.wrong.push_back({"qkv of no features", [=](Call& c) { c.operands[0] = floats({d.batch, d.time, 0}); }});
}

Case forward(Random& random) {
  const Drawn d = draw(random);
  const Array y = floats(d.result()), statistics = floats(d.kept());
  Case made{{{d.qkv}, {y, statistics}, {{"heads", number(d.heads)}, {"causal", flag(d.causal)}}}, {}, {}, {}};
  made.check = [=] {
    // A score is a sum of dim products, and its error is one of the exponential's, relative.
    const double size = std::sqrt(squared(doubles(d.qkv)) / 3);
    near("result", y, d.values, size, 2 * bound(d.dim + d.time));
    near("statistics", statistics, d.statistics, std::sqrt(squared(d.statistics)) + size, 2 * bound(d.dim + d.time));
  };
  wrong_sizes(made, d);
  made.wrong.push_back({"a longer result", [=](Call& c) { c.results[0] = floats({d.batch, d.time + 1, d.heads * d.dim}); }});
  made.wrong.push_back({"flat statistics", [=](Call& c) { c.results[1] = floats({d.batch, 2 * d.heads * d.time}); }});
  return made;
}

Case backward(Random& random) {
  const Drawn d = draw(random);
  const Array cotangent = random.normals(d.result()), statistics = floats(d.kept()), to_qkv = floats(d.qkv.sizes);
  for (size_t i = 0; i < d.statistics.size(); ++i) statistics.set(static_cast<int64_t>(i), d.statistics[i]);
  const Doubles x = doubles(d.qkv), g = doubles(cotangent);
  Doubles expected(x.size());
  double largest = 1;
  d.each([&](int64_t n, int64_t h, int64_t t) {
    Doubles inner(static_cast<size_t>(d.time));
    double along = 0;
    for (int64_t s = 0; s < d.time; ++s) {
      const double p = d.weights[d.weight(n, h, t, s)];
      for (int64_t i = 0; i < d.dim; ++i) {
        inner[static_cast<size_t>(s)] += g[d.out(n, t, h, i)] * x[d.at(n, s, 2, h, i)];
        expected[d.at(n, s, 2, h, i)] += p * g[d.out(n, t, h, i)];
      }
      along += p * inner[static_cast<size_t>(s)];
      largest = std::max(largest, std::fabs(inner[static_cast<size_t>(s)]));
    }
    for (int64_t s = 0; s < d.time; ++s) {
      const double to_score = d.weights[d.weight(n, h, t, s)] * (inner[static_cast<size_t>(s)] - along) / std::sqrt(d.dim);
      for (int64_t i = 0; i < d.dim; ++i) {
        expected[d.at(n, t, 0, h, i)] += to_score * x[d.at(n, s, 1, h, i)];
        expected[d.at(n, s, 1, h, i)] += to_score * x[d.at(n, t, 0, h, i)];
      }
    }
  });
  Case made{{{d.qkv, statistics, cotangent}, {to_qkv}, {{"heads", number(d.heads)}, {"causal", flag(d.causal)}}}, {}, {}, {}};
  made.check = [=] {
    near("to qkv", to_qkv, expected, std::sqrt(squared(expected)) + largest * std::sqrt(d.batch * d.time * d.heads), 4 * bound(d.dim + d.time));
  };
  wrong_sizes(made, d);
  made.wrong.push_back({"flat statistics", [=](Call& c) { c.operands[1] = floats({statistics.count()}); }});
  made.wrong.push_back({"a longer cotangent", [=](Call& c) { c.operands[2] = floats({d.batch, d.time + 1, d.heads * d.dim}); }});
  made.wrong.push_back({"a longer result", [=](Call& c) { c.results[0] = floats({d.batch, d.time + 1, 3 * d.heads * d.dim}); }});
  return made;
}

const Tested tested_forward("hpjax_attention", hpjax_attention, forward);
const Tested tested_backward("hpjax_attention_gradient", hpjax_attention_gradient, backward);

}  // namespace
}  // namespace hpjax::tests
