// Between the copies and the mma of sm_90a.
#pragma once

#include <cstddef>

namespace w4ax_emulate {

/// A copy must not go where an mma may still read.
void check_not_multiplied(void const* to, std::size_t bytes);
/// The warp exits: nothing of it may be on its way.
void check_no_mma();
void forget_mma();

}  // namespace w4ax_emulate
