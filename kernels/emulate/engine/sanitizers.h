// Which sanitizer this translation unit is built for, and the few calls that tell it about fibers and memory.
//
// The emulator's own .cpp files are compiled without instrumentation (their traffic between fibers would be reported
// as races), so the build names the sanitizer in W4AX_EMULATE_ASAN, _TSAN or _MSAN for them and for the kernels alike.
#pragma once

#include <cstddef>

#ifdef W4AX_EMULATE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef W4AX_EMULATE_MSAN
#include <sanitizer/msan_interface.h>
#endif
#ifdef W4AX_EMULATE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace w4ax_emulate {

/// From here on, a load or store of these bytes is an error (ASan), or a use of them is (MSan).
inline void poison([[maybe_unused]] void* bytes, [[maybe_unused]] std::size_t count) {
#ifdef W4AX_EMULATE_ASAN
  ASAN_POISON_MEMORY_REGION(bytes, count);
#endif
#ifdef W4AX_EMULATE_MSAN
  __msan_poison(bytes, count);
#endif
}

/// Loads and stores are allowed again. What MSan thinks of the contents stays as it is.
inline void unpoison([[maybe_unused]] void* bytes, [[maybe_unused]] std::size_t count) {
#ifdef W4AX_EMULATE_ASAN
  ASAN_UNPOISON_MEMORY_REGION(bytes, count);
#endif
}

/// These bytes hold nothing that a kernel may use yet (MSan only: ASan cannot tell a first store from a first load).
inline void mark_uninitialized([[maybe_unused]] void* bytes, [[maybe_unused]] std::size_t count) {
#ifdef W4AX_EMULATE_MSAN
  __msan_poison(bytes, count);
#endif
}

/// What happens after `acquire(clock)` is ordered after everything that came before a `release(clock)`. Only TSan
/// looks at this: it is how a barrier, and nothing else, orders the accesses of two fibers.
inline void acquire([[maybe_unused]] void* clock) {
#ifdef W4AX_EMULATE_TSAN
  __tsan_acquire(clock);
#endif
}
inline void release([[maybe_unused]] void* clock) {
#ifdef W4AX_EMULATE_TSAN
  __tsan_release(clock);
#endif
}

}  // namespace w4ax_emulate
