// Layers that a step leaves out (DySL-VLA, arXiv 2602.22896, section III): the step's one look at the allow-points, and a
// decision for each dynamic layer. w4ax_skip.h has the order in a graph, and the words.
#pragma once

#include "common/device.cuh"
#include "common/ptx.cuh"
#include "api/w4ax_skip.h"

namespace w4ax {

constexpr int kSkipThreads = 32;  // a warp

// Sequences and layers of the words that the host stores: sequence << 32 | layer + 1, so that no such word is 0.
W4AX_DEVICE w4axk_skip_gap open_gap(uint64_t word, uint32_t sequence, uint32_t first, uint32_t end) {
    uint32_t const layer = uint32_t(word) - 1;
    bool const own = uint32_t(word) != 0 && uint32_t(word >> 32) == sequence && layer >= first && layer <= end;
    // Whatever is not this step's: no controller is asked, so nothing is skipped.
    return own ? w4axk_skip_gap{layer, 0, 0, 0} : w4axk_skip_gap{end, 0, 1, 0};
}

// A gap a lane: what the host stores while it runs counts for each gap from here on or not at all.
__global__ void __launch_bounds__(kSkipThreads) skip_begin_kernel(W4AX_GRID_CONSTANT w4axk_skip_begin_args const p) {
    // The decisions of the step before may still read the gaps that are overwritten here.
    ptx::wait_for_previous_grid();
    // What comes next waits for all of this grid before it reads them.
    ptx::let_next_grid_start();
    uint32_t const sequence = p.state->next;
    for (uint32_t i = threadIdx.x; i < p.gap_count; i += kSkipThreads) {
        w4axk_skip_gap const gap = open_gap(ptx::load_acquire_system(p.allow + i), sequence, p.first[i], p.end[i]);
        p.gaps[i] = gap;
    }
    // All lanes have read the number that is counted on, and written the gaps that lane 0 reads.
    __syncwarp();
    if (threadIdx.x != 0) return;
    // By one thread: CUDA leaves concurrent calls undefined, and does not say that other handles are another matter.
    for (uint32_t i = 0; i < p.gap_count; ++i) ptx::set_graph_conditional(p.controllers[i], p.gaps[i].allow == p.first[i]);
    p.state->sequence = sequence;
    p.state->next = sequence + 1;
}

// The controller's last layer, by a warp: lane l adds j = l, l + 32, ..; then the lanes are added by halves. All lanes get it.
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

__global__ void __launch_bounds__(kSkipThreads) skip_decide_kernel(W4AX_GRID_CONSTANT w4axk_skip_decide_args const p) {
    // The hidden vector and the gap are what the launches before have written.
    ptx::wait_for_previous_grid();
    // What comes next waits for all of this grid before it reads the gap.
    ptx::let_next_grid_start();
    // The same for all lanes.
    bool const passed = p.gap->skipped != 0, asked = !passed && p.layer >= p.gap->allow;
    float const probability = asked ? skip_probability(p) : 0.0f;
    // All lanes have read the gap, which may change below.
    __syncwarp();
    if (threadIdx.x != 0) return;
    uint32_t reason;
    if (passed)
        reason = W4AXK_SKIP_PASSED;
    else if (!asked)
        reason = p.gap->stale ? W4AXK_SKIP_STALE : W4AXK_SKIP_FORCED;
    else if (probability > p.threshold)
        reason = W4AXK_SKIP_SKIPPED;
    else
        // A comparison with a NaN is false: the layer runs.
        reason = probability == probability ? W4AXK_SKIP_KEPT : W4AXK_SKIP_NAN;
    bool const skips = reason == W4AXK_SKIP_SKIPPED, runs = !skips && !passed;
    if (skips) p.gap->skipped = 1;
    ptx::set_graph_conditional(p.run_layer, runs);
    ptx::set_graph_conditional(p.run_adapter, skips);
    if (p.has_next) ptx::set_graph_conditional(p.next_controller, runs && p.layer + 1 >= p.gap->allow);
    // Released, as the latch's word is.
    ptx::store_release_system(p.report, uint64_t(__float_as_uint(probability)) << 32 |
                                            uint64_t(p.state->sequence & 0xFFFFFFu) << 8 | reason);
}

}  // namespace w4ax
