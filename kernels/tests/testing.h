// What an operator's tests are made of: calls drawn at random, what must come of them, and ways to get them wrong.
#pragma once
#include <functional>
#include <initializer_list>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "frame.h"

namespace hpjax::tests {

// Numbers of one case, from its seed alone.
class Random {
 public:
  explicit Random(uint64_t seed) : engine(seed) {}
  int64_t between(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine); }
  bool one_in(int64_t n) { return between(1, n) == 1; }
  double normal() { return std::normal_distribution<double>()(engine); }
  double uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(engine); }
  template <class T>
  T pick(std::initializer_list<T> from) { return from.begin()[between(0, static_cast<int64_t>(from.size()) - 1)]; }
  // Float32: normally distributed, or small whole numbers, whose sums of products float32 holds exactly.
  Array normals(const Sizes& sizes, double scale = 1.0);
  Array wholes(const Sizes& sizes);

 private:
  std::mt19937_64 engine;
};

// A call, and what must come of it on any instruction set.
struct Case {
  Call call;
  std::function<void()> check;  // throws what is wrong with the results, as `near` and `same` do
  // Changes after which the handler must refuse the call, by what is wrong then.
  std::vector<std::pair<std::string, std::function<void(Call&)>>> wrong;
  std::function<void()> prepare;  // fills what is read and written in one place, if anything is
};

// A handler under test; one that is made is tested: `static const Tested dense("hpjax_matmul", hpjax_matmul, draw);`.
struct Tested {
  const char* target;
  Handler* handler;
  Case (*draw)(Random&);

  Tested(const char* target, Handler* handler, Case (*draw)(Random&));
};
const std::vector<Tested>& tested();

using Doubles = std::vector<double>;
Doubles doubles(const Array& from);
double squared(const Doubles& values);

// An activation by its number, and its derivative where x went into it; no derivative is larger than 1.13.
double activated(int64_t activation, double x);
double steepness(int64_t activation, double x);

// The bound of a float32 sum of `depth` products.
double bound(int64_t depth);
// Throws unless the L2 norm of found - expected is at most `within` times `size`: the norm that the results would have, had
// every sum added independent terms; their own may cancel by chance.
void near(const char* what, const Array& found, const Doubles& expected, double size, double within);
void same(const char* what, const Array& found, const Doubles& expected);

}  // namespace hpjax::tests
