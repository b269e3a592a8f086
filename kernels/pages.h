// Large pages for large results. XLA takes the memory of a program anew each time it runs, and the operating system hands it over
// zeroed, by an interrupt for each page: of 4 KB those took a sixth of a residual network's time.
#pragma once
#include <cstddef>
#include <cstdint>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace hpjax {

// Asks for large pages where memory is not in use yet: a hint, that does nothing where there are none.
inline void in_large_pages([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t LARGE = uintptr_t{1} << 21;
  // Whole ones: what lies beside a result is mostly another result.
  const uintptr_t from = reinterpret_cast<uintptr_t>(memory), first = from / LARGE * LARGE;
  const uintptr_t last = (from + bytes + LARGE - 1) / LARGE * LARGE;
  if (bytes >= LARGE) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace hpjax
