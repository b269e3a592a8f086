// Batch norm with relu and a residual in its four passes, against double loops.
#include <algorithm>
#include <cmath>

#include "../operators.h"
#include "testing.h"

extern "C" XLA_FFI_Error* hpjax_batch_moments(XLA_FFI_CallFrame*);
extern "C" XLA_FFI_Error* hpjax_batch_norm(XLA_FFI_CallFrame*);
extern "C" XLA_FFI_Error* hpjax_batch_norm_sums(XLA_FFI_CallFrame*);
extern "C" XLA_FFI_Error* hpjax_batch_norm_gradient(XLA_FFI_CallFrame*);

namespace hpjax::tests {
namespace {

struct Drawn {
  int64_t rows, channels;
  Sizes whole, each;
  Array x, mean, factor, bias;

  // Whole numbers: what goes into relu is exact, and 0 where it is 0.
  explicit Drawn(Random& random) {
    channels = random.pick({random.between(1, 20), random.between(1, 70), int64_t{16}, int64_t{32}, int64_t{64}, int64_t{1031}});
    rows = random.between(1, std::max<int64_t>(1, random.pick({300, 3000, 40000}) / channels));
    whole = {rows, channels}, each = {channels};
    x = random.wholes(whole), mean = random.wholes(each), factor = random.wholes(each), bias = random.wholes(each);
  }
  double before(int64_t i) const {
    const int64_t c = i % channels;
    return (x[i] - mean[c]) * factor[c] + bias[c];
  }
};

void larger(Case& made, size_t operands, size_t results, const Drawn& d) {
  for (size_t i = 0; i < operands; ++i)
    made.wrong.push_back({"a larger operand", [=](Call& c) { c.operands[i] = floats({d.rows + 1, d.channels + 1}); }});
  for (size_t i = 0; i < results; ++i)
    made.wrong.push_back({"a larger result", [=](Call& c) { c.results[i] = floats({d.rows + 1, d.channels + 1}); }});
  made.wrong.push_back({"x of one dimension", [=](Call& c) { c.operands[0] = floats({d.rows * d.channels}); }});
}

Case moments(Random& random) {
  const Drawn d(random);
  const double offset = random.pick({0.0, 10.0, 1000.0});
  const Array x = random.normals(d.whole), mean = floats(d.each), variance = floats(d.each);
  for (int64_t i = 0; i < x.count(); ++i) x.set(i, x[i] + offset);
  Doubles means(static_cast<size_t>(d.channels)), variances(means.size());
  for (int64_t i = 0; i < x.count(); ++i) means[static_cast<size_t>(i % d.channels)] += x[i] / static_cast<double>(d.rows);
  for (int64_t i = 0; i < x.count(); ++i) {
    const size_t c = static_cast<size_t>(i % d.channels);
    variances[c] += (x[i] - means[c]) * (x[i] - means[c]) / static_cast<double>(d.rows);
  }
  Case made{{{x}, {mean, variance}, {}}, {}, {}, {}};
  made.check = [=] {
    near("mean", mean, means, std::sqrt(squared(means)) + std::sqrt(static_cast<double>(d.channels)), 1e-6);
    near("variance", variance, variances, std::sqrt(squared(variances)) + 1e-3, bound(d.rows));
  };
  larger(made, 0, 2, d);
  made.wrong.push_back({"no rows", [=](Call& c) { c.operands[0] = floats({0, d.channels}); }});
  return made;
}

Case result(Random& random) {
  const Drawn d(random);
  const bool relu = random.one_in(2), added = random.one_in(2);
  const Array residual = added ? random.wholes(d.whole) : floats({0}), y = floats(d.whole);
  Doubles expected;
  for (int64_t i = 0; i < d.x.count(); ++i) {
    const double v = d.before(i) + (added ? residual[i] : 0);
    expected.push_back(relu && v < 0 ? 0 : v);
  }
  Case made{{{d.x, d.mean, d.factor, d.bias, residual}, {y}, {{"relu", flag(relu)}}}, {}, {}, {}};
  made.check = [=] { same("result", y, expected); };
  larger(made, 5, 1, d);
  return made;
}

Case sums(Random& random) {
  const Drawn d(random);
  const bool relu = random.one_in(2), by_y = random.one_in(2), two = random.one_in(2), kept = random.one_in(2);
  const Array y = by_y ? random.wholes(d.whole) : floats({0}), cotangent = random.wholes(d.whole);
  const Array other = two ? random.wholes(d.whole) : floats({0}), sum = floats(d.each), product = floats(d.each);
  const Array inner = floats(kept ? d.whole : Sizes{0});
  Doubles total(static_cast<size_t>(d.channels)), products(total.size()), inside;
  for (int64_t i = 0; i < d.x.count(); ++i) {
    const size_t c = static_cast<size_t>(i % d.channels);
    const bool through = !relu || (by_y ? y[i] : d.before(i)) > 0;
    inside.push_back(through ? cotangent[i] + (two ? other[i] : 0) : 0);
    total[c] += inside.back(), products[c] += inside.back() * (d.x[i] - d.mean[static_cast<int64_t>(c)]);
  }
  Case made{{{d.x, d.mean, d.factor, d.bias, y, cotangent, other}, {sum, product, inner}, {{"relu", flag(relu)}}}, {}, {}, {}};
  made.check = [=] {
    same("sum", sum, total), same("product", product, products);
    if (kept) same("inner", inner, inside);
  };
  larger(made, 7, 3, d);
  return made;
}

Case gradient(Random& random) {
  const Drawn d(random);
  const bool relu = random.one_in(2), centred = random.one_in(2);
  const Sizes each = centred ? d.each : Sizes{0};
  const Array shift = random.wholes(each), slope = random.wholes(each), cotangent = random.wholes(d.whole), to_x = floats(d.whole);
  Doubles expected;
  for (int64_t i = 0; i < d.x.count(); ++i) {
    const int64_t c = i % d.channels;
    const double g = !relu || d.before(i) > 0 ? cotangent[i] : 0;
    expected.push_back(d.factor[c] * (centred ? g - shift[c] - (d.x[i] - d.mean[c]) * slope[c] : g));
  }
  Case made{{{d.x, d.mean, d.factor, d.bias, shift, slope, cotangent}, {to_x}, {{"relu", flag(relu)}}}, {}, {}, {}};
  made.check = [=] { same("to x", to_x, expected); };
  larger(made, 7, 1, d);
  made.wrong.push_back({"one of shift and slope", [=](Call& c) { c.operands[centred ? 4 : 5] = floats({centred ? 0 : d.channels}); }});
  return made;
}

const Tested tested_moments("hpjax_batch_moments", hpjax_batch_moments, moments);
const Tested tested_result("hpjax_batch_norm", hpjax_batch_norm, result);
const Tested tested_sums("hpjax_batch_norm_sums", hpjax_batch_norm_sums, sums);
const Tested tested_gradient("hpjax_batch_norm_gradient", hpjax_batch_norm_gradient, gradient);

}  // namespace
}  // namespace hpjax::tests
