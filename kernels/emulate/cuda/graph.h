// What a latch uses besides memory: conditional nodes, loads of the flag, the clock.
#pragma once

#include <cstdint>

namespace w4ax_emulate {

/// cudaGraphSetConditional, for handles 0 to 7.
void set_graph_conditional(std::uint64_t handle, std::uint32_t value);
void count_flag_load();
/// %globaltimer
std::uint64_t nanoseconds();

}  // namespace w4ax_emulate
