// What cudaGraphSetConditional of device code does on the software driver.
#pragma once

#include <cstdint>

namespace w4ax_emulate {

/// Sets the value of a handle of the graph that runs on this thread. Returns null, or why it is refused.
using SetConditional = char const* (*)(std::uint64_t handle, std::uint32_t value);

/// From now on device code sets handles of the driver, in place of the emulator's own handles 0 to 7.
void use_conditionals(SetConditional set);

}  // namespace w4ax_emulate
