// Which instruction set runs: the best that the processor and its operating system allow.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "operators.h"

namespace hpjax {

#define HPJAX_DECLARE(isa) \
  namespace isa {          \
  extern const Operators OPERATORS; \
  }
HPJAX_DECLARE(generic)
#ifdef HPJAX_X86
HPJAX_DECLARE(avx2)
HPJAX_DECLARE(avx512)
#endif

namespace {

struct Found {
  const Operators* operators[3] = {};
  const char* names[4] = {};
  int count = 0;

  void add(const Operators& one) {
    operators[count] = &one;
    names[count++] = one.name;
  }

  Found() {
#ifdef HPJAX_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw"))
      add(avx512::OPERATORS);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) add(avx2::OPERATORS);
#endif
    add(generic::OPERATORS);
  }
};

const Found& found() {
  static const Found known;
  return known;
}

std::atomic<const Operators*>& chosen() {
  static std::atomic<const Operators*> one{found().operators[0]};
  return one;
}

struct Block {
  void* memory = nullptr;
  size_t bytes = 0;
  ~Block() { std::free(memory); }
};

}  // namespace

const Operators& operators() { return *chosen().load(std::memory_order_relaxed); }

bool choose(const char* name) {
  for (int i = 0; i < found().count; ++i)
    if (std::strcmp(found().names[i], name) == 0) {
      chosen().store(found().operators[i]);
      return true;
    }
  return false;
}

const char* const* available() { return found().names; }

float* scratch(int place, size_t floats) {
  thread_local Block blocks[8];
  Block& block = blocks[place];
#ifdef __SANITIZE_ADDRESS__
  // Each time a block of its own, with no room to spare: what runs past it is found.
  std::free(block.memory);
  if (posix_memalign(&block.memory, 64, floats * sizeof(float)) != 0) throw std::bad_alloc();
  return static_cast<float*>(block.memory);
#endif
  const size_t bytes = (floats * sizeof(float) + 63) / 64 * 64 + 64;
  if (block.bytes < bytes) {
    std::free(block.memory);
    block.memory = std::aligned_alloc(64, bytes);
    block.bytes = block.memory ? bytes : 0;
    if (!block.memory) throw std::bad_alloc();
  }
  return static_cast<float*>(block.memory);
}

}  // namespace hpjax
