// Which instruction set runs: the best that the processor and its operating system allow.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#ifdef HPJAX_X86
#include <cpuid.h>
#endif
#ifdef HPJAX_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

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
#ifdef HPJAX_AVX512_BF16
HPJAX_DECLARE(avx512_bf16)
#endif
#ifdef HPJAX_AMX
HPJAX_DECLARE(amx)
#endif

namespace {

#ifdef HPJAX_X86
// Whether the processor adds up pairs of bfloat16 products (AVX512_BF16).
bool adds_pairs() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned AVX512_BF16 = 1u << 5;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX512_BF16) != 0;
}
#endif

#ifdef HPJAX_AMX
// Whether the processor has tiles of bfloat16, and the kernel lets this process use them: Linux wants to be asked once.
bool tiles_allowed() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned AMX_BF16 = 1u << 22, AMX_TILE = 1u << 24;
  if ((d & AMX_BF16) == 0 || (d & AMX_TILE) == 0) return false;
  if (!adds_pairs()) return false;
  constexpr long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#endif

struct Found {
  const Operators* operators[5] = {};
  const char* names[6] = {};
  int count = 0;

  void add(const Operators& one) {
    operators[count] = &one;
    names[count++] = one.name;
  }

  Found() {
#ifdef HPJAX_X86
    __builtin_cpu_init();
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
#ifdef HPJAX_AMX
    if (avx512 && tiles_allowed()) add(amx::OPERATORS);
#endif
#ifdef HPJAX_AVX512_BF16
    if (avx512 && adds_pairs()) add(avx512_bf16::OPERATORS);
#endif
    if (avx512) add(avx512::OPERATORS);
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
