// Layer norm of a sum and its gradient, against double loops.
#include <algorithm>
#include <cmath>

#include "../operators.h"
#include "testing.h"

extern "C" XLA_FFI_Error* hpjax_norm(XLA_FFI_CallFrame*);
extern "C" XLA_FFI_Error* hpjax_norm_gradient(XLA_FFI_CallFrame*);

namespace hpjax::tests {
namespace {

constexpr float EPSILON = 1e-3f;

struct Rows {
  int64_t rows, features;
  Doubles total, mean, inverse, normal;  // what is normed; of each row; normed, before scale and bias
};

Rows normed(int64_t rows, int64_t features, const Doubles& total) {
  Rows r{rows, features, total, {}, {}, {}};
  for (int64_t i = 0; i < rows; ++i) {
    const double* row = total.data() + i * features;
    double mean = 0, variance = 0;
    for (int64_t j = 0; j < features; ++j) mean += row[j] / features;
    for (int64_t j = 0; j < features; ++j) variance += (row[j] - mean) * (row[j] - mean) / features;
    r.mean.push_back(mean), r.inverse.push_back(1 / std::sqrt(variance + static_cast<double>(EPSILON)));
    for (int64_t j = 0; j < features; ++j) r.normal.push_back((row[j] - mean) * r.inverse.back());
  }
  return r;
}

Case forward(Random& random) {
  const int64_t rows = random.between(1, 20), features = random.between(2, random.pick({5, 40, 300}));
  const bool added = random.one_in(2);
  const Sizes whole = {rows, features}, none = {0};
  const Array x = random.normals(whole), branch = added ? random.normals(whole) : floats(none);
  const Array scale = random.normals({features}), bias = random.normals({features});
  const Array sum = floats(added ? whole : none), y = floats(whole), statistics = floats({rows, 2});
  Doubles total = doubles(x), expected;
  for (size_t i = 0; added && i < total.size(); ++i) total[i] = static_cast<float>(total[i] + branch[static_cast<int64_t>(i)]);
  const Rows r = normed(rows, features, total);
  for (int64_t i = 0; i < rows * features; ++i)
    expected.push_back(r.normal[static_cast<size_t>(i)] * scale[i % features] + bias[i % features]);
  Doubles kept;
  double largest = 1;
  for (size_t i = 0; i < r.mean.size(); ++i) {
    kept.push_back(r.mean[i]), kept.push_back(r.inverse[i]);
    largest = std::max(largest, r.inverse[i]);
  }
  Case made{{{x, branch, scale, bias}, {sum, y, statistics}, {{"epsilon", reals({EPSILON})}}}, {}, {}, {}};
  made.check = [=] {
    if (added) near("sum", sum, total, std::sqrt(squared(total)), bound(1));
    // What is subtracted may be large beside the difference.
    const double size = largest * (std::sqrt(squared(total)) + std::sqrt(rows)) + std::sqrt(squared(expected));
    near("result", y, expected, size, bound(features));
    near("statistics", statistics, kept, largest * std::sqrt(squared(kept)), bound(features));
  };
  const auto sized = [&](const char* what, size_t place, const Sizes& sizes) {
    made.wrong.push_back({what, [=](Call& c) { c.operands[place] = floats(sizes); }});
  };
  sized("x of one dimension", 0, {rows * features}), sized("a larger branch", 1, {rows + 1, features});
  sized("a longer scale", 2, {features + 1}), sized("a longer bias", 3, {features + 1});
  for (size_t i = 0; i < 3; ++i)
    made.wrong.push_back({"a larger result", [=](Call& c) { c.results[i] = floats({rows + 1, features + 1}); }});
  made.wrong.push_back({"two epsilons", [](Call& c) { c.attributes["epsilon"] = reals({1, 1}); }});
  made.wrong.push_back({"no epsilon", [](Call& c) { c.attributes["epsilon"] = reals({}); }});
  return made;
}

Case backward(Random& random) {
  const int64_t rows = random.between(1, 20), features = random.between(2, random.pick({5, 40, 300}));
  const bool through = random.one_in(2);
  const Sizes whole = {rows, features};
  const Array x = random.normals(whole), scale = random.normals({features}), cotangent = random.normals(whole);
  const Array beside = through ? random.normals(whole) : floats({0}), statistics = floats({rows, 2});
  const Array to_x = floats(whole), to_scale = floats({features}), to_bias = floats({features});
  Rows r = normed(rows, features, doubles(x));
  double largest = 1;
  for (size_t i = 0; i < r.mean.size(); ++i) {
    statistics.set(static_cast<int64_t>(2 * i), r.mean[i]), statistics.set(static_cast<int64_t>(2 * i + 1), r.inverse[i]);
    largest = std::max(largest, r.inverse[i]);
  }
  Doubles expected, scales(static_cast<size_t>(features)), biases(static_cast<size_t>(features));
  for (int64_t i = 0; i < rows; ++i) {
    double mean = 0, along = 0;
    for (int64_t j = 0; j < features; ++j) {
      const size_t at = static_cast<size_t>(i * features + j), column = static_cast<size_t>(j);
      const double g = cotangent[i * features + j], d = g * scale[j];
      mean += d / features, along += d * r.normal[at] / features;
      scales[column] += g * r.normal[at], biases[column] += g;
    }
    for (int64_t j = 0; j < features; ++j) {
      const int64_t at = i * features + j;
      const double d = cotangent[at] * scale[j] - mean - along * r.normal[static_cast<size_t>(at)];
      expected.push_back(d * r.inverse[static_cast<size_t>(i)] + (through ? beside[at] : 0));
    }
  }
  Case made{{{x, scale, statistics, cotangent, beside}, {to_x, to_scale, to_bias}, {}}, {}, {}, {}};
  const double size = std::sqrt(squared(doubles(cotangent))) + 1, steep = std::sqrt(squared(doubles(scale))) + 1;
  made.check = [=] {
    near("to x", to_x, expected, 2 * largest * size * steep + std::sqrt(squared(expected)), bound(features));
    near("to scale", to_scale, scales, 3 * largest * size, 2 * bound(rows));
    near("to bias", to_bias, biases, size, 2 * bound(rows));
  };
  for (size_t i = 0; i < 5; ++i)
    made.wrong.push_back({"a larger operand", [=](Call& c) { c.operands[i] = floats({rows + 1, features + 1}); }});
  for (size_t i = 0; i < 3; ++i)
    made.wrong.push_back({"a larger result", [=](Call& c) { c.results[i] = floats({rows + 1, features + 1}); }});
  return made;
}

const Tested tested_forward("hpjax_norm", hpjax_norm, forward);
const Tested tested_backward("hpjax_norm_gradient", hpjax_norm_gradient, backward);

}  // namespace
}  // namespace hpjax::tests
