// The interface to the sanitizer that this translation unit is built for.
//
// The emulator's .cpp files are not instrumented: their accesses from different fibers would be reported as races. So
// the build names the sanitizer by W4AX_EMULATE_ASAN, _TSAN or _MSAN, for them and for the kernels.
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

/// Makes a load or store of these bytes an error (ASan), or a use of their values (MSan).
inline void poison([[maybe_unused]] void* bytes, [[maybe_unused]] std::size_t count) {
#ifdef W4AX_EMULATE_ASAN
    ASAN_POISON_MEMORY_REGION(bytes, count);
#endif
#ifdef W4AX_EMULATE_MSAN
    __msan_poison(bytes, count);
#endif
}

/// Permits loads and stores again. For MSan the values stay as they are.
inline void unpoison([[maybe_unused]] void* bytes, [[maybe_unused]] std::size_t count) {
#ifdef W4AX_EMULATE_ASAN
    ASAN_UNPOISON_MEMORY_REGION(bytes, count);
#endif
}

/// For MSan: the values must be stored before they are used.
inline void mark_uninitialized([[maybe_unused]] void* bytes, [[maybe_unused]] std::size_t count) {
#ifdef W4AX_EMULATE_MSAN
    __msan_poison(bytes, count);
#endif
}

/// For TSan: what follows `acquire(clock)` is ordered after what precedes a `release(clock)`. Nothing else orders the
/// accesses of two fibers.
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
