// The latch: the step's one look at the flag (DyQ-VLA section V-B). Afterwards the width stands in device memory, so all
// kernels of the step agree on it, whatever the host stores meanwhile.
//
// Words are sequence << 32 | width, as src/flag.rs has them: bits 31..8 are 0, a width is 2, 4, 8 or 16, and anything else,
// all zero too, is no word of any step.
#pragma once

#include "common/device.cuh"
#include "common/params.cuh"
#include "common/ptx.cuh"

namespace w4ax {

W4AX_DEVICE bool is_width(uint32_t bits) { return bits == 2 || bits == 4 || bits == 8 || bits == 16; }

struct Latched {
    uint32_t bits;
    w4axk_outcome outcome;
};

// What the flag's word means to step `sequence`.
W4AX_DEVICE Latched read_word(uint64_t word, uint32_t sequence) {
    uint32_t const of = uint32_t(word >> 32), bits = uint32_t(word);
    if (word == 0) return {16, W4AXK_UNWRITTEN};
    if (!is_width(bits)) return {16, W4AXK_INVALID};
    if (of == sequence) return {bits, W4AXK_AS_ASKED};
    // Sequences wrap: the nearer way round says which came first.
    return {16, int32_t(of - sequence) < 0 ? W4AXK_EARLIER : W4AXK_LATER};
}

// The width that the step runs at. An invalid or later word cannot become this step's by waiting, but the host may yet
// overwrite it: all but this step's own are waited on alike.
W4AX_DEVICE Latched read_flag(LatchParams const& p, uint32_t sequence) {
    if (p.forced) return {p.forced, W4AXK_BY_HOST};
    Latched latched = read_word(ptx::load_acquire_system(p.flag), sequence);
    if (latched.outcome == W4AXK_AS_ASKED || p.spin_us == 0) return latched;
    uint64_t const begin = ptx::nanoseconds(), limit = uint64_t(p.spin_us) * 1000;
    do {
        ptx::pause();
        latched = read_word(ptx::load_acquire_system(p.flag), sequence);
    } while (latched.outcome != W4AXK_AS_ASKED && ptx::nanoseconds() - begin < limit);
    return latched;
}

// Counts the step, and tells the kernels and the host what it runs at.
W4AX_DEVICE uint32_t begin_step(LatchParams const& p) {
    uint32_t const sequence = p.state->next;
    Latched const latched = read_flag(p, sequence);
    p.state->next = sequence + 1;
    // Plain stores: the kernels that read them come after this one in the stream's order.
    p.state->latched = uint64_t(sequence) << 32 | latched.bits;
    // Released: a host that sees the word sees what the kernels before this one wrote to mapped memory.
    ptx::store_release_system(p.executed, uint64_t(sequence) << 32 | uint64_t(latched.outcome) << 8 | latched.bits);
    return latched.bits;
}

// The width of the step, for a kernel that has waited for the grids before it. 16 also for what no latch has written.
W4AX_DEVICE int latched_bits(uint64_t const* latched) {
    uint32_t const bits = uint32_t(*latched);
    return is_width(bits) ? int(bits) : 16;
}

constexpr int kLatchThreads = 32;  // a warp, of which one thread works

template <bool kConditionals>
__global__ void __launch_bounds__(kLatchThreads) latch_kernel(W4AX_GRID_CONSTANT LatchParams const p) {
    // The step before may still be reading the width that is overwritten here.
    ptx::wait_for_previous_grid();
    ptx::let_next_grid_start();
    if (threadIdx.x != 0) return;
    uint32_t const bits = p.forced == W4AXK_LATCHED ? uint32_t(latched_bits(&p.state->latched)) : begin_step(p);
    if constexpr (kConditionals) {
        uint32_t const index = bits == 2 ? 0 : bits == 4 ? 1 : bits == 8 ? 2 : 3;
        if (p.conditional_count == 1) {
            ptx::set_graph_conditional(p.conditionals[0], index);
        } else {
            for (uint32_t i = 0; i < 4; ++i) ptx::set_graph_conditional(p.conditionals[i], i == index);
        }
    }
}

}  // namespace w4ax
