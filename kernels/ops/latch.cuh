// Latches the width of a step (DyQ-VLA, section V-B): reads the flag once and stores the width in device memory, so
// that all kernels of the step use the same width, even if the host stores another one meanwhile.
//
// Grid: one block of one warp, of which one thread works. Shared memory: none.
// Preconditions: the state is initialized; the flag and the executed word are visible to the host and the device.
// A word is sequence << 32 | width, as in src/flag.rs: bits 31..8 are 0 and the width is 2, 4, 8 or 16. Any other
// value, including 0, is no word of any step.
#pragma once

#include "common/device.cuh"
#include "common/kernel.cuh"
#include "common/params.cuh"
#include "common/ptx.cuh"

namespace w4ax {

W4AX_DEVICE bool is_width(uint32_t bits) { return bits == 2 || bits == 4 || bits == 8 || bits == 16; }

struct LatchedWidth {
    uint32_t bits;  // the width that the step runs at
    w4axk_outcome outcome;
};

// Returns the width that a flag word gives step `sequence`.
W4AX_DEVICE LatchedWidth decode_flag_word(uint64_t word, uint32_t sequence) {
    uint32_t const word_sequence = uint32_t(word >> 32), bits = uint32_t(word);
    if (word == 0) return {16, W4AXK_UNWRITTEN};
    if (!is_width(bits)) return {16, W4AXK_INVALID};
    if (word_sequence == sequence) return {bits, W4AXK_ON_TIME};
    // Sequences wrap around: the sign of the difference gives their order.
    return {16, int32_t(word_sequence - sequence) < 0 ? W4AXK_STALE : W4AXK_FUTURE};
}

// Returns the width of the step. If the flag does not hold this step's word, it polls for up to spin_us: the host may
// still overwrite any other word, including an invalid or a future one.
W4AX_DEVICE LatchedWidth read_flag(LatchParams const& p, uint32_t sequence) {
    if (p.forced) return {p.forced, W4AXK_BY_HOST};
    LatchedWidth latched = decode_flag_word(ptx::load_acquire_sys(p.flag), sequence);
    if (latched.outcome == W4AXK_ON_TIME || p.spin_us == 0) return latched;
    uint64_t const begin = ptx::nanoseconds(), limit = uint64_t(p.spin_us) * 1000;
    do {
        ptx::nanosleep();
        latched = decode_flag_word(ptx::load_acquire_sys(p.flag), sequence);
    } while (latched.outcome != W4AXK_ON_TIME && ptx::nanoseconds() - begin < limit);
    return latched;
}

// Begins a step: advances the sequence and publishes the width to the kernels and to the host.
W4AX_DEVICE uint32_t begin_step(LatchParams const& p) {
    uint32_t const sequence = p.state->next;
    LatchedWidth const latched = read_flag(p, sequence);
    p.state->next = sequence + 1;
    // Plain stores suffice: the kernels that read the state follow in the stream's order.
    p.state->latched = uint64_t(sequence) << 32 | latched.bits;
    // Release: a host that reads this word also sees what earlier kernels have written to mapped memory.
    ptx::store_release_sys(p.executed, uint64_t(sequence) << 32 | uint64_t(latched.outcome) << 8 | latched.bits);
    return latched.bits;
}

// Returns the latched width; 16 if no latch has written one. The caller has waited for the previous grids.
W4AX_DEVICE int latched_bits(uint64_t const* latched) {
    uint32_t const bits = uint32_t(*latched);
    return is_width(bits) ? int(bits) : 16;
}

// kConditionals: the latch also sets the conditional nodes of a graph.
template <bool kConditionals_>
struct LatchConfig : KernelConfig {
    static constexpr bool kConditionals = kConditionals_;
    static constexpr Role kRole = kConditionals ? Role::GraphLatch : Role::Latch;
    static constexpr int kLaunchThreads = 32;
};

template <class C>
__global__ void __launch_bounds__(C::kLaunchThreads) latch_kernel(W4AX_GRID_CONSTANT LatchParams const p) {
    // The previous step may still read the width that is overwritten here.
    ptx::wait_on_dependent_grids();
    ptx::launch_dependent_grids();
    if (threadIdx.x != 0) return;
    uint32_t const bits = p.forced == W4AXK_LATCHED ? uint32_t(latched_bits(&p.state->latched)) : begin_step(p);
    if constexpr (C::kConditionals) {
        uint32_t const index = bits == 2 ? 0 : bits == 4 ? 1 : bits == 8 ? 2 : 3;
        if (p.conditional_count == 1) {
            ptx::set_graph_conditional(p.conditionals[0], index);
        } else {
            for (uint32_t i = 0; i < 4; ++i) ptx::set_graph_conditional(p.conditionals[i], i == index);
        }
    }
}

}  // namespace w4ax
