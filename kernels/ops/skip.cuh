// Skips layers of a step (DySL-VLA, arXiv 2602.22896, section III): reads the allow-points once per step, then decides
// for each dynamic layer. w4ax_skip.h describes the graph and the words.
//
// Grid: one block of one warp. Shared memory: none.
// Preconditions: the state is initialized; the conditional handles belong to the graph that the launch is captured
// into.
#pragma once

#include "api/w4ax_skip.h"
#include "common/device.cuh"
#include "common/kernel.cuh"
#include "common/ptx.cuh"

namespace w4ax {

constexpr int kSkipThreads = 32;  // of a block: one warp

struct SkipBeginConfig : KernelConfig {
    static constexpr Role kRole = Role::SkipBegin;
    static constexpr int kLaunchThreads = kSkipThreads;
};

struct SkipDecideConfig : KernelConfig {
    static constexpr Role kRole = Role::SkipDecide;
    static constexpr int kLaunchThreads = kSkipThreads;
};

// Returns the state of a gap, given the word that the host has stored: sequence << 32 | layer + 1, which is never 0.
W4AX_DEVICE w4axk_skip_gap open_gap(uint64_t word, uint32_t sequence, uint32_t first, uint32_t end) {
    uint32_t const layer = uint32_t(word) - 1;
    bool const own = uint32_t(word) != 0 && uint32_t(word >> 32) == sequence && layer >= first && layer <= end;
    // With a word of another step no controller runs, so no layer is skipped.
    return own ? w4axk_skip_gap{layer, 0, 0, 0} : w4axk_skip_gap{end, 0, 1, 0};
}

// Begins a step, one gap per lane. A word that the host stores meanwhile takes effect for this step or not at all.
template <class C>
__global__ void __launch_bounds__(kSkipThreads) skip_begin_kernel(W4AX_GRID_CONSTANT w4axk_skip_begin_args const p) {
    // The decisions of the previous step may still read the gaps that are overwritten here.
    ptx::wait_on_dependent_grids();
    // The next launch waits for this whole grid before it reads the gaps.
    ptx::launch_dependent_grids();
    uint32_t const sequence = p.state->next;
    for (uint32_t i = threadIdx.x; i < p.gap_count; i += kSkipThreads) {
        p.gaps[i] = open_gap(ptx::load_acquire_sys(p.allow + i), sequence, p.first[i], p.end[i]);
    }
    // All lanes have read the sequence, which lane 0 advances, and written the gaps, which lane 0 reads.
    __syncwarp();
    if (threadIdx.x != 0) return;
    // One thread sets all conditionals: CUDA leaves concurrent calls undefined, and does not exempt different handles.
    for (uint32_t i = 0; i < p.gap_count; ++i)
        ptx::set_graph_conditional(p.controllers[i], p.gaps[i].allow == p.first[i]);
    p.state->sequence = sequence;
    p.state->next = sequence + 1;
}

// Computes the controller's last layer by one warp: lane l adds j = l, l + 32, ..., then a butterfly adds the lanes.
// All lanes return the result.
W4AX_DEVICE float skip_probability(w4axk_skip_decide_args const& p) {
    auto const* const hidden = static_cast<uint16_t const*>(p.hidden);
    float sum = 0.0f;
    for (uint32_t j = threadIdx.x; j < p.hidden_len; j += kSkipThreads) {
        float const h = __uint_as_float(uint32_t(hidden[j]) << 16);
        sum = sum + p.out[j] * (h / (1.0f + expf(-h)));
    }
    CUTE_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) sum = sum + __shfl_xor_sync(kAllLanes, sum, distance);
    return 1.0f / (1.0f + expf(-(sum + p.bias)));
}

// Decides about one dynamic layer.
template <class C>
__global__ void __launch_bounds__(kSkipThreads) skip_decide_kernel(W4AX_GRID_CONSTANT w4axk_skip_decide_args const p) {
    // Previous launches write the hidden vector and the gap.
    ptx::wait_on_dependent_grids();
    // The next launch waits for this whole grid before it reads the gap.
    ptx::launch_dependent_grids();
    // Uniform over the warp.
    bool const passed = p.gap->skipped != 0, controlled = !passed && p.layer >= p.gap->allow;
    float const probability = controlled ? skip_probability(p) : 0.0f;
    // All lanes have read the gap, which lane 0 may change below.
    __syncwarp();
    if (threadIdx.x != 0) return;
    uint32_t reason;
    if (passed)
        reason = W4AXK_SKIP_PASSED;
    else if (!controlled)
        reason = p.gap->stale ? W4AXK_SKIP_STALE : W4AXK_SKIP_FORCED;
    else if (probability > p.threshold)
        reason = W4AXK_SKIP_SKIPPED;
    else
        // A comparison with NaN is false, so the layer runs.
        reason = probability == probability ? W4AXK_SKIP_KEPT : W4AXK_SKIP_NAN;
    bool const skips = reason == W4AXK_SKIP_SKIPPED, runs = !skips && !passed;
    if (skips) p.gap->skipped = 1;
    ptx::set_graph_conditional(p.run_layer, runs);
    ptx::set_graph_conditional(p.run_adapter, skips);
    if (p.has_next) ptx::set_graph_conditional(p.next_controller, runs && p.layer + 1 >= p.gap->allow);
    // Release: a host that reads this word also sees what earlier kernels have written to mapped memory.
    uint64_t const sequence = p.state->sequence & 0xFFFFFFu;
    ptx::store_release_sys(p.report, uint64_t(__float_as_uint(probability)) << 32 | sequence << 8 | reason);
}

}  // namespace w4ax
