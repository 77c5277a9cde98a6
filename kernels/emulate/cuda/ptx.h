// The functions of kernels/common/ptx.cuh, where they are documented.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector_types.h>

#include "emulate/engine/engine.h"
#include "emulate/cuda/graph.h"
#include "emulate/engine/launch.h"
#include "emulate/engine/sanitizers.h"

namespace w4ax::ptx {

inline uint4 global_load(uint4 const* global) {
    if (reinterpret_cast<std::uintptr_t>(global) % 16) {
        w4ax_emulate::fail("global_load from %p: expected an address aligned to 16 bytes",
                           static_cast<void const*>(global));
    }
    w4ax_emulate::count_global_read(16);
    return *global;
}

inline std::uint64_t evict_first_policy() { return 0; }

inline std::uint32_t pack_u8x4(int a, int b, int c, int d) {
    auto const byte = [](int v) { return static_cast<std::uint32_t>(v < 0 ? 0 : v > 255 ? 255 : v); };
    return byte(a) | byte(b) << 8 | byte(c) << 16 | byte(d) << 24;
}

inline std::uint32_t flip_nibbles(std::uint32_t a, std::uint32_t flip) { return (a & 0x000F000Fu) ^ flip; }
inline std::uint32_t flip_byte_nibbles(std::uint32_t a, std::uint32_t flip) { return (a & 0x0F0F0F0Fu) ^ flip; }

inline void wait_on_dependent_grids() { w4ax_emulate::wait_for_previous_grid(); }
inline void launch_dependent_grids() {}  // for TSan, the next grid starts as early as possible anyway

// Words that the host reads and writes concurrently.
inline std::uint64_t load_acquire_sys(std::uint64_t const* word) {
    std::uint64_t const value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    w4ax_emulate::count_flag_load();
    return value;
}
inline void store_release_sys(std::uint64_t* word, std::uint64_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

inline std::uint64_t nanoseconds() { return w4ax_emulate::nanoseconds(); }
inline void nanosleep() {}
inline void set_graph_conditional(std::uint64_t handle, std::uint32_t value) {
    w4ax_emulate::set_graph_conditional(handle, value);
}

}  // namespace w4ax::ptx
