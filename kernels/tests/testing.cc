#include "testing.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "../operators.h"

namespace hpjax::tests {

static std::vector<Tested>& known() {
  static std::vector<Tested> all;
  return all;
}

Tested::Tested(const char* target, Handler* handler, Case (*draw)(Random&)) : target(target), handler(handler), draw(draw) {
  known().push_back(*this);
}
const std::vector<Tested>& tested() { return known(); }

Array Random::normals(const Sizes& sizes, double scale) {
  Array made = floats(sizes);
  for (int64_t i = 0; i < made.count(); ++i) made.floats()[i] = static_cast<float>(scale * normal());
  return made;
}

Array Random::wholes(const Sizes& sizes) {
  Array made = floats(sizes);
  for (int64_t i = 0; i < made.count(); ++i) made.floats()[i] = static_cast<float>(between(-3, 3));
  return made;
}

Doubles doubles(const Array& from) {
  Doubles made(static_cast<size_t>(from.count()));
  for (size_t i = 0; i < made.size(); ++i) made[i] = from[static_cast<int64_t>(i)];
  return made;
}

double squared(const Doubles& values) {
  double total = 0;
  for (double value : values) total += value * value;
  return total;
}

double bound(int64_t depth) { return std::max(1e-6, 3e-8 * std::sqrt(static_cast<double>(depth))); }

double activated(int64_t activation, double x) {
  const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  switch (activation) {
    case RELU: return x > 0 ? x : 0;
    case TANH: return std::tanh(x);
    case GELU: return 0.5 * x * (1 + std::tanh(u));
    case SILU: return x / (1 + std::exp(-x));
    default: return x;
  }
}

double steepness(int64_t activation, double x) {
  if (activation == NONE || activation == RELU) return activation == NONE || x > 0;
  const double step = 1e-5;
  return (activated(activation, x + step) - activated(activation, x - step)) / (2 * step);
}

static std::string at(const char* what, size_t i, double found, double expected) {
  return std::string(what) + " [" + std::to_string(i) + "] is " + std::to_string(found) + ", expected " +
         std::to_string(expected);
}

void near(const char* what, const Array& found, const Doubles& expected, double size, double within) {
  double total = 0, largest = -1;
  size_t worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double apart = std::fabs(found[static_cast<int64_t>(i)] - expected[i]);
    total += apart * apart;
    if (!(apart <= largest) && largest == largest) largest = apart, worst = i;
  }
  const double error = std::sqrt(total) / std::max(size, 1e-30);
  if (!(error <= within))
    throw std::runtime_error(at(what, worst, found[static_cast<int64_t>(worst)], expected[worst]) + "; error " +
                             std::to_string(error * 1e6) + "e-6, allowed " + std::to_string(within * 1e6) + "e-6");
}

void same(const char* what, const Array& found, const Doubles& expected) {
  for (size_t i = 0; i < expected.size(); ++i)
    if (!(found[static_cast<int64_t>(i)] == expected[i]))
      throw std::runtime_error(at(what, i, found[static_cast<int64_t>(i)], expected[i]));
}

}  // namespace hpjax::tests
