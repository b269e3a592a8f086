// Runs the handlers on calls drawn at random, every instruction set in turn, under AddressSanitizer and UBSan: results are
// poisoned before, right calls must come out as double loops say, wrong ones must be refused and touch nothing.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sstream>

#include "../operators.h"
#include "testing.h"

// Fresh memory is NaN, the kernels' scratch too. Not detect_stack_use_after_return: GCC 12 takes its frames to be aligned to 64
// bytes for AVX-512, and they are not.
extern "C" const char* __asan_default_options() {
  return "malloc_fill_byte=255:max_malloc_fill_size=1073741824:abort_on_error=1";
}
extern "C" const char* __ubsan_default_options() { return "print_stacktrace=1:halt_on_error=1:abort_on_error=1"; }

namespace hpjax::tests {
namespace {

struct Counts {
  long long refused = 0, harmless = 0;
};

bool untouched(const Call& call) {
  for (const Array& result : call.results)
    for (size_t i = 0; i < result.bytes(); ++i)
      if (result.octets()[i] != 0xff) return false;
  return true;
}

// The sizes of a call's arrays, and its attributes.
std::string described(const Call& call) {
  std::ostringstream text;
  const auto list = [&](const std::vector<Array>& arrays) {
    for (const Array& one : arrays) {
      text << " [";
      for (size_t i = 0; i < one.sizes.size(); ++i) text << (i > 0 ? ", " : "") << one.sizes[i];
      text << "]";
    }
  };
  list(call.operands), text << " ->", list(call.results);
  for (const auto& [name, attribute] : call.attributes) {
    text << "; " << name;
    for (int64_t i = 0; i < attribute.value.count(); ++i) {
      const void* at = attribute.value.octets() + i * static_cast<int64_t>(attribute.value.bytes()) / attribute.value.count();
      if (attribute.value.type == XLA_FFI_DataType_S64) text << " " << *static_cast<const int64_t*>(at);
      else text << " " << attribute.value[i];
    }
  }
  return text.str();
}

// Changes that make any call wrong: counts, types and names.
std::vector<std::pair<std::string, std::function<void(Call&)>>> wrong_for_any(const Call& call) {
  std::vector<std::pair<std::string, std::function<void(Call&)>>> made = {
      {"an operand too few", [](Call& x) { x.operands.pop_back(); }},
      {"an operand too many", [](Call& x) { x.operands.push_back(floats({3})); }},
      {"no operand", [](Call& x) { x.operands.clear(); }},
      {"a result too few", [](Call& x) { x.results.pop_back(); }},
      {"a result too many", [](Call& x) { x.results.push_back(floats({3})); }},
  };
  // A handler without attributes does not look at them.
  if (!call.attributes.empty()) made.push_back({"an attribute too many", [](Call& x) { x.attributes["zzz"] = number(1); }});
  for (size_t i = 0; i < call.operands.size(); ++i)
    made.push_back({"operand " + std::to_string(i) + " float64",
                    [i](Call& x) { x.operands[i] = array(XLA_FFI_DataType_F64, x.operands[i].sizes); }});
  for (size_t i = 0; i < call.results.size(); ++i)
    made.push_back({"result " + std::to_string(i) + " int32",
                    [i](Call& x) { x.results[i] = array(XLA_FFI_DataType_S32, x.results[i].sizes); }});
  for (const auto& one : call.attributes) {
    const std::string name = one.first;
    made.push_back({"no " + name, [name](Call& x) { x.attributes.erase(name); }});
    made.push_back({name + " by another name", [name](Call& x) {
      x.attributes[name + "s"] = x.attributes[name];
      x.attributes.erase(name);
    }});
    made.push_back({name + " float32 and scalar", [name](Call& x) { x.attributes[name] = reals({1.0f}), x.attributes[name].scalar = true; }});
  }
  return made;
}

// Other sizes than the call's, which may fit by chance: what matters is that nothing lies out of bounds.
void resize(Call& call, Random& random) {
  const int64_t operands = static_cast<int64_t>(call.operands.size()), results = static_cast<int64_t>(call.results.size());
  const int64_t which = random.between(0, operands + results - 1);
  Array& one = which < operands ? call.operands[static_cast<size_t>(which)] : call.results[static_cast<size_t>(which - operands)];
  Sizes sizes = one.sizes;
  const int64_t place = random.between(-1, static_cast<int64_t>(sizes.size()) - 1);
  if (place < 0 && random.one_in(2)) sizes.insert(sizes.begin(), 1);
  else if (place < 0) sizes.pop_back();
  else sizes[static_cast<size_t>(place)] += sizes[static_cast<size_t>(place)] > 0 && random.one_in(2) ? -1 : 1;
  one = array(one.type, sizes);
  for (int64_t i = 0; which < operands && one.type == XLA_FFI_DataType_F32 && i < one.count(); ++i)
    one.floats()[i] = static_cast<float>(random.normal());
}

void refuse(const Tested& one, Call call, const std::string& what) {
  for (const Array& result : call.results) result.poison();
  if (call.run(one.handler).empty()) throw std::runtime_error("accepted: " + what);
  if (!untouched(call)) throw std::runtime_error("refused, but a result was written: " + what);
}

// The case at work, for what ends the process.
const char* target = "";
unsigned long long seed, turn;
void say() { std::printf("%s\nto repeat: sanitize 0 %llu %llu\n", target, seed, turn), std::fflush(stdout); }

void run(const Tested& one, Counts& counts) {
  target = one.target;
  Random random(seed + (turn << 32));
  const Case drawn = one.draw(random);
  for (const char* const* isa = available(); *isa; ++isa) {
    choose(*isa);
    try {
      for (const Array& result : drawn.call.results) result.poison();
      if (drawn.prepare) drawn.prepare();
      const std::string error = drawn.call.run(one.handler);
      if (!error.empty()) throw std::runtime_error("refused: " + error);
      drawn.check();
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(std::string(*isa) + ": " + error.what() + "\n" + described(drawn.call));
    }
  }
  // Wrong calls are much alike: those of some cases do.
  if (turn % 4 != 0) return;
  auto wrong = wrong_for_any(drawn.call);
  wrong.insert(wrong.end(), drawn.wrong.begin(), drawn.wrong.end());
  for (const auto& [what, change] : wrong) {
    Call call = drawn.call;
    change(call);
    refuse(one, call, what);
    ++counts.refused;
  }
  for (int i = 0; i < 8; ++i)
    for (const char* const* isa = available(); *isa; ++isa) {
      choose(*isa);
      Call call = drawn.call;
      resize(call, random);
      for (const Array& result : call.results) result.poison();
      if (!call.run(one.handler).empty() && !untouched(call)) throw std::runtime_error("refused, but a result was written");
      ++counts.harmless;
    }
}

// HPJAX_TARGETS: the handlers that the Python module hands over.
void all_are_tested() {
  std::istringstream targets(HPJAX_TARGETS);
  for (std::string target; targets >> target;) {
    bool found = false;
    for (const Tested& one : tested()) found |= target == one.target;
    if (!found) throw std::runtime_error(target + " has no test in kernels/tests");
  }
}

}  // namespace
}  // namespace hpjax::tests

// Arguments, all optional: seconds to run for, the seed, and the number of the one case to run, as a failure prints them.
int main(int count, char** words) {
  using namespace hpjax::tests;
  const double seconds = count > 1 ? std::atof(words[1]) : 60;
  seed = count > 2 ? std::strtoull(words[2], nullptr, 10) : std::random_device{}();
  const unsigned long long first = turn = count > 3 ? std::strtoull(words[3], nullptr, 10) : 0;
  const auto began = std::chrono::steady_clock::now();
  const auto passed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count(); };
  std::printf("seed %llu\n", seed);
  std::signal(SIGABRT, [](int) { say(); });
  Counts counts;
  try {
    all_are_tested();
    for (bool more = true; more; more = count <= 3 && passed() < seconds) {
      for (const Tested& one : tested()) run(one, counts);
      ++turn;
    }
  } catch (const std::runtime_error& error) {
    std::printf("%s\n", error.what());
    say();
    return 1;
  }
  std::string sets;
  for (const char* const* isa = hpjax::available(); *isa; ++isa) sets += std::string(sets.empty() ? "" : ", ") + *isa;
  std::printf("%zu handlers, %llu calls each, right on each of %s; %lld wrong calls refused, %lld of other sizes harmless\n",
              tested().size(), turn - first, sets.c_str(), counts.refused, counts.harmless);
  return 0;
}
