// Convolutions and their gradients, against double loops.
#include <algorithm>
#include <cmath>

#include "../operators.h"
#include "testing.h"

extern "C" XLA_FFI_Error* hpjax_conv(XLA_FFI_CallFrame*);
extern "C" XLA_FFI_Error* hpjax_conv_gradient(XLA_FFI_CallFrame*);

namespace hpjax::tests {
namespace {

// A convolution of any class, and its values in double.
struct Drawn {
  int64_t batch, channels, features, size[2], taps[2], stride[2], dilation[2], before[2], out[2];
  bool relu, pool, biased, bf16;
  Array x, kernel, bias;
  Doubles sums, squares, values, ties;  // before and after activation and pooling; bits of the maxima

  int64_t depth() const { return taps[0] * taps[1] * channels; }
  int64_t places() const { return out[0] * out[1]; }
  Sizes result() const { return {batch, out[0] / (1 + pool), out[1] / (1 + pool), features}; }
  // Calls f with the places in x, the kernel and the sums of every product.
  template <class F>
  void each(const F& f) const {
    for (int64_t n = 0; n < batch; ++n)
      for (int64_t place = 0; place < places(); ++place)
        for (int64_t tap = 0; tap < taps[0] * taps[1]; ++tap) {
          const int64_t row = place / out[1] * stride[0] + tap / taps[1] * dilation[0] - before[0];
          const int64_t column = place % out[1] * stride[1] + tap % taps[1] * dilation[1] - before[1];
          if (row < 0 || row >= size[0] || column < 0 || column >= size[1]) continue;
          for (int64_t c = 0; c < channels; ++c)
            for (int64_t o = 0; o < features; ++o)
              f(static_cast<size_t>(((n * size[0] + row) * size[1] + column) * channels + c),
                static_cast<size_t>((tap * channels + c) * features + o),
                static_cast<size_t>((n * places() + place) * features + o));
        }
  }
  // Calls f with the place of a result and the four of its square in the sums.
  template <class F>
  void each_square(const F& f) const {
    const int64_t down = out[0] / 2, across = out[1] / 2;
    for (int64_t i = 0; i < batch * down * across * features; ++i) {
      const int64_t o = i % features, column = i / features % across, row = i / features / across % down;
      const int64_t n = i / features / across / down;
      size_t from[4];
      for (int64_t k = 0; k < 4; ++k)
        from[k] = static_cast<size_t>(((n * out[0] + 2 * row + k / 2) * out[1] + 2 * column + k % 2) * features + o);
      f(static_cast<size_t>(i), from);
    }
  }
};

// What is multiplied of some numbers.
Doubles factors(const Drawn& d, Doubles values) {
  for (double& value : values) value = d.bf16 ? bf16(value) : value;
  return values;
}

Drawn draw(Random& random) {
  Drawn d{};
  const bool flat = random.one_in(5);  // as a 1-D convolution comes
  d.relu = random.one_in(2), d.pool = !flat && random.one_in(3), d.biased = random.one_in(2);
  d.bf16 = random.one_in(2);
  d.batch = random.one_in(20) ? 0 : random.pick({1, 1, 2, 3});
  d.channels = random.pick({1, 1, 2, 3, 8, 16, 19});
  d.features = random.between(1, random.pick({3, 20, 50}));
  for (int i = 0; i < 2; ++i) {
    const bool one = flat && i == 0;
    d.size[i] = one ? 1 : random.between(1, 12);
    d.taps[i] = one ? 1 : random.between(1, random.pick({3, 5}));
    d.stride[i] = one ? 1 : random.between(1, random.pick({1, 2, 4}));
    d.dilation[i] = one ? 1 : random.between(1, random.pick({1, 3}));
    d.before[i] = one ? 0 : random.between(0, 3);
    // Places that padding makes, fewer of them, and more: what lies beyond is zeros.
    const int64_t reach = (d.taps[i] - 1) * d.dilation[i] + 1, fit = d.size[i] + d.before[i] + random.between(0, 3) - reach;
    d.out[i] = one ? 1 : std::max<int64_t>(fit, 0) / d.stride[i] + 1;
    if (!one && random.one_in(6)) d.out[i] = random.between(1, 9);
    if (d.pool && d.out[i] < 2) d.out[i] = 2;
  }
  // Where a comparison decides, rounding may decide otherwise than double: whole numbers are exact in both.
  const bool exact = d.relu || d.pool;
  const auto values = [&](const Sizes& sizes) { return exact ? random.wholes(sizes) : random.normals(sizes); };
  d.x = values({d.batch, d.size[0], d.size[1], d.channels});
  d.kernel = values({d.taps[0], d.taps[1], d.channels, d.features});
  d.bias = d.biased ? values({d.features}) : floats({0});
  const size_t count = static_cast<size_t>(d.batch * d.places() * d.features);
  d.sums.resize(count), d.squares.resize(count);
  for (size_t i = 0; d.biased && i < count; ++i) {
    d.sums[i] = d.bias[static_cast<int64_t>(i) % d.features];
    d.squares[i] = d.sums[i] * d.sums[i];
  }
  const Doubles x = factors(d, doubles(d.x)), kernel = factors(d, doubles(d.kernel));
  d.each([&](size_t from, size_t tap, size_t to) {
    const double term = x[from] * kernel[tap];
    d.sums[to] += term, d.squares[to] += term * term;
  });
  d.values = d.sums;
  for (double& value : d.values) value = d.relu && value < 0 ? 0 : value;
  if (!d.pool) return d;
  const Doubles all = d.values;
  d.values.clear();
  d.each_square([&](size_t, const size_t* from) {
    double most = all[from[0]];
    for (int k = 1; k < 4; ++k) most = std::max(most, all[from[k]]);
    int bits = 0;
    for (int k = 0; k < 4; ++k) bits |= (all[from[k]] == most) << k;
    d.values.push_back(most), d.ties.push_back(bits);
  });
  return d;
}

std::map<std::string, Attribute> attributes(const Drawn& d) {
  const auto pair = [](const int64_t* values) { return numbers({values[0], values[1]}); };
  return {{"size", pair(d.out)},           {"stride", pair(d.stride)}, {"dilation", pair(d.dilation)},
          {"before", pair(d.before)},      {"pool", flag(d.pool)},     {"activation", number(d.relu ? RELU : NONE)},
          {"bf16", flag(d.bf16)}};
}

double total(const Doubles& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return sum;
}

void wrong_attributes(Case& made) {
  const auto with = [&](const char* name, const Sizes& values) {
    std::string text = name;
    for (int64_t value : values) text += " " + std::to_string(value);
    made.wrong.push_back({text, [=](Call& x) { x.attributes[name] = numbers(values); }});
  };
  for (const char* name : {"size", "stride", "dilation", "before"})
    for (const Sizes& values : {Sizes{}, Sizes{1}, Sizes{1, 1, 1}, Sizes{-1, 1}, Sizes{1, -1}, Sizes{INT64_MIN, 1}, Sizes{1, INT64_MIN},
                                Sizes{INT64_MAX, 1}, Sizes{1, INT64_MAX}, Sizes{int64_t{1} << 40, int64_t{1} << 40}})
      with(name, values);
  for (const char* name : {"size", "stride", "dilation"}) with(name, {0, 1}), with(name, {1, 0});
  for (int64_t value : {int64_t{-1}, int64_t{TANH}, int64_t{5}, int64_t{1} << 32})
    made.wrong.push_back({"activation " + std::to_string(value), [=](Call& x) { x.attributes["activation"] = number(value); }});
  made.wrong.push_back({"a pool of one row", [](Call& x) {
    x.attributes["pool"] = flag(true), x.attributes["size"] = numbers({1, 1});
  }});
}

Case forward(Random& random) {
  const Drawn d = draw(random);
  const bool tied = d.pool && random.one_in(2);
  const Array y = floats(d.result()), ties = octets(tied ? d.result() : Sizes{0});
  Case made{{{d.x, d.kernel, d.bias}, {y, ties}, attributes(d)}, {}, {}, {}};
  made.check = [=] {
    if (d.relu || d.pool) same("result", y, d.values);
    else near("result", y, d.values, std::sqrt(total(d.squares)), bound(d.depth()));
    if (tied) same("ties", ties, d.ties);
  };
  wrong_attributes(made);
  const auto sized = [&](const char* what, size_t operand, const Sizes& sizes) {
    made.wrong.push_back({what, [=](Call& x) { x.operands[operand] = floats(sizes); }});
  };
  sized("x of three dimensions", 0, {d.size[0], d.size[1], d.channels});
  sized("x of more channels", 0, {d.batch, d.size[0], d.size[1], d.channels + 1});
  sized("a kernel of two dimensions", 1, {d.depth(), d.features});
  sized("a kernel of 33 taps", 1, {33, 1, d.channels, d.features});
  sized("a kernel of other channels", 1, {d.taps[0], d.taps[1], d.channels + 1, d.features});
  sized("a kernel of no taps", 1, {0, d.taps[1], d.channels, d.features});
  sized("a bias too long", 2, {d.features + 1});
  for (size_t i = 0; i < 4; ++i) {
    Sizes larger = d.result();
    ++larger[i];
    made.wrong.push_back({"a larger result", [=](Call& x) { x.results[0] = floats(larger); }});
  }
  made.wrong.push_back({"other ties", [=](Call& x) { x.results[1] = octets({2, 3, 4, d.features + 1}); }});
  return made;
}

Case backward(Random& random) {
  const Drawn d = draw(random);
  const Array cotangent = d.relu || d.pool ? random.wholes(d.result()) : random.normals(d.result());
  const Array y = floats(d.relu || random.one_in(2) ? d.result() : Sizes{0});
  const Array ties = octets(d.pool || random.one_in(2) ? d.result() : Sizes{0});
  for (int64_t i = 0; i < y.count(); ++i) y.floats()[i] = static_cast<float>(d.values[static_cast<size_t>(i)]);
  for (int64_t i = 0; d.pool && i < ties.count(); ++i) ties.octets()[i] = static_cast<uint8_t>(d.ties[static_cast<size_t>(i)]);
  Doubles inner(d.sums.size()), given = doubles(cotangent);
  for (size_t i = 0; d.relu && i < given.size(); ++i) given[i] *= d.values[i] > 0;
  if (!d.pool) inner = given;
  else
    d.each_square([&](size_t to, const size_t* from) {
      const int bits = static_cast<int>(d.ties[to]);
      for (int k = 0; k < 4; ++k) inner[from[k]] = bits >> k & 1 ? given[to] / __builtin_popcount(static_cast<unsigned>(bits)) : 0;
    });
  const Doubles x = factors(d, doubles(d.x)), kernel = factors(d, doubles(d.kernel)), by = factors(d, inner);
  Doubles to_x(x.size()), to_kernel(kernel.size()), to_bias(static_cast<size_t>(d.features));
  double size_x = 0, size_kernel = 0;
  d.each([&](size_t from, size_t tap, size_t to) {
    const double term = by[to] * kernel[tap], other = by[to] * x[from];
    to_x[from] += term, to_kernel[tap] += other;
    size_x += term * term, size_kernel += other * other;
  });
  for (size_t i = 0; i < inner.size(); ++i) to_bias[i % static_cast<size_t>(d.features)] += inner[i];
  const int asked = static_cast<int>(random.between(0, 7));
  const Array found_x = floats(asked & 1 ? d.x.sizes : Sizes{0}), found_kernel = floats(asked & 2 ? d.kernel.sizes : Sizes{0});
  const Array found_bias = floats(asked & 4 ? Sizes{d.features} : Sizes{0});
  Case made{{{d.x, d.kernel, y, ties, cotangent}, {found_x, found_kernel, found_bias}, attributes(d)}, {}, {}, {}};
  made.check = [=] {
    const int64_t taps = d.taps[0] * d.taps[1] * d.features, places = d.batch * d.places();
    if (asked & 1) near("to x", found_x, to_x, std::sqrt(size_x), 2 * bound(taps));
    if (asked & 2) near("to kernel", found_kernel, to_kernel, std::sqrt(size_kernel), 2 * bound(places));
    if (asked & 4) near("to bias", found_bias, to_bias, std::sqrt(squared(inner)), 2 * bound(places));
  };
  wrong_attributes(made);
  Sizes larger = d.result();
  ++larger[1];
  const auto sized = [&](const char* what, size_t operand, const Array& one) {
    made.wrong.push_back({what, [=](Call& x) { x.operands[operand] = one; }});
  };
  sized("x of five dimensions", 0, floats({1, d.batch, d.size[0], d.size[1], d.channels}));
  sized("a kernel of other channels", 1, floats({d.taps[0], d.taps[1], d.channels + 1, d.features}));
  if (d.relu) sized("y left out", 2, floats({0})), sized("a larger y", 2, floats(larger));
  if (d.pool) sized("ties left out", 3, octets({0})), sized("larger ties", 3, octets(larger));
  sized("a larger cotangent", 4, floats(larger));
  sized("a cotangent of one dimension", 4, floats({cotangent.count()}));
  made.wrong.push_back({"a larger gradient of x", [=](Call& c) { c.results[0] = floats({d.batch + 1, d.size[0], d.size[1], d.channels}); }});
  made.wrong.push_back({"a flat gradient of the kernel", [=](Call& c) { c.results[1] = floats({d.kernel.count()}); }});
  made.wrong.push_back({"a longer gradient of the bias", [=](Call& c) { c.results[2] = floats({d.features + 1}); }});
  return made;
}

const Tested tested_forward("hpjax_conv", hpjax_conv, forward);
const Tested tested_backward("hpjax_conv_gradient", hpjax_conv_gradient, backward);

}  // namespace
}  // namespace hpjax::tests
