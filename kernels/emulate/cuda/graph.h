// What a latch tells and reads beside memory.
#pragma once

#include <cstdint>

namespace w4ax_emulate {

/// cudaGraphSetConditional. Handles are 0 to 7.
void set_graph_conditional(std::uint64_t handle, std::uint32_t value);
void count_flag_load();
/// %globaltimer
std::uint64_t nanoseconds();

}  // namespace w4ax_emulate
