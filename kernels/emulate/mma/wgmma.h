// wgmma of sm_90a: A in registers, B in shared memory, sums that are valid after the wait.
//
// The products are added when their group is committed, or as late as at the wait, by the seed. Until the wait, the
// accumulators that the kernel sees are garbage. Each warp of a warpgroup computes its own 16 of the 64 rows, so the
// four warps do not synchronize here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulate/engine/engine.h"
#include "emulate/mma/tensor_core.h"

namespace w4ax_emulate {

/// A matrix descriptor of B (PTX ISA, "Matrix Descriptor Format"). Addresses are offsets from the start of the dynamic
/// shared memory, in units of 16 bytes.
std::uint64_t make_descriptor(void const* b, int k_stride, int token_stride, bool swizzled);

/// wgmma.mma_async: c[tokens / 2] += a[4] * b. A is s8 or u8, by u8, or both are BF16. Both pointers must stay valid
/// until the wait.
void wgmma(std::uint32_t const* a, void* c, std::uint64_t b, int tokens, Element of_a);
void wgmma_fence();
void wgmma_commit_group();
/// wgmma.wait_group: waits for all committed groups but the last `pending`.
void wgmma_wait_group(int pending);

// For the rest of the emulator.

/// A copy must not write where a wgmma in flight may still read.
void check_not_read_by_wgmma(void const* to, std::size_t bytes);
/// A warp must not exit with wgmma in flight.
void check_no_wgmma_in_flight();
/// At a block's start: nothing is in flight.
void reset_wgmma();

}  // namespace w4ax_emulate
