// The kernel of the prefill family, over the steps of prefill.cuh.
#pragma once

#include "gemm/prefill.cuh"

namespace w4ax {

// Runs `consume(s, k_block)` on each stage of K, at shared address s, with the later ones on their way.
template <class C, class Consume>
W4AX_DEVICE void for_stages(Prefill<C> const& b, Consume consume) {
    int const k_blocks = ceil_div(b.p.k_tiles, C::kStageTiles);
    StageCopies<C> copies(b.p, b.tile_n, b.tile_m, b.thread);
    // Weights first: until the wait, x and y belong to the launch before.
    for (int i = 0; i < C::kStages - 1; ++i)
        if (i < k_blocks) copies.copy_weights(b.stage(i), i);
    ptx::wait_for_previous_grid();
    ptx::let_next_grid_start();
    if constexpr (C::kQuantizes && C::kGroup == 0) b.scan_rows();
    // The weights of all first stages count as the first group's: it waits a little longer, the order stays simple.
    for (int i = 0; i < C::kStages - 1; ++i) {
        if (i < k_blocks) copies.copy_x(b.stage(i), i);
        cp_async_fence();
    }
    int read = 0, write = C::kStages - 1;
    for (int k_block = 0; k_block < k_blocks; ++k_block) {
        // This thread's part of the stage has landed, and with the barrier everybody's; and nobody still reads the stage
        // before, whose place is filled next, nor the codes made of it.
        cp_async_wait<C::kStages - 2>();
        __syncthreads();
        if (k_block + C::kStages - 1 < k_blocks) {
            copies.copy_weights(b.stage(write), k_block + C::kStages - 1);
            copies.copy_x(b.stage(write), k_block + C::kStages - 1);
        }
        // Empty groups at the end keep the count of the wait right.
        cp_async_fence();
        unsigned char* const s = b.stage(read);
        if constexpr (C::kQuantizes) {
            if constexpr (C::kGroup != 0)
                b.quantize_groups(s, k_block);
            else
                b.quantize_rows(s, k_block);
            // Every warp multiplies codes that all have made.
            __syncthreads();
        }
        consume(s, k_block);
        read = read + 1 == C::kStages ? 0 : read + 1;
        write = write + 1 == C::kStages ? 0 : write + 1;
    }
    cp_async_wait<0>();
}

// Stages are over: their place is the outputs'.
template <class C, class Beside, class Output>
W4AX_DEVICE void write_outputs(Prefill<C> const& b, Beside beside, Output output) {
    turn_outputs(b, beside, output);
    // The block's outputs are complete.
    __syncthreads();
    store_outputs(b);
}

// Groups, and BF16 whole rows in runs of 128.
template <class C>
W4AX_DEVICE void prefill_runs(GemmParams const& p, unsigned char* shared) {
    Prefill<C> const b(p, shared);
    Tensor acc = make_tensor<float>(Shape<_4, Int<C::kNT>, Int<C::kMT>>{});  // (4,NT,MT)
    clear(acc);
    b.with_code_bits([&](auto bits) {
        for_stages(b, [&](unsigned char* s, int k_block) {
            // BF16 weights have their zero points in them.
            if (C::kQuantized && p.zeros)
                b.template add_stage<true, bits>(s, k_block, acc);
            else
                b.template add_stage<false, bits>(s, k_block, acc);
        });
    });
    // The outputs go where stages are still read.
    __syncthreads();
    // A BF16 row's sum of all of K takes its scale here.
    constexpr bool kScalesHere = !C::kQuantized && C::kGroup == 0;
    write_outputs(
        b,
        [&](int channel) { return kScalesHere ? channel_scale(p, channel) : 0.0f; },
        [&](float scale, int i, int n, int m) { return kScalesHere ? __fmaf_rn(acc(i, n, m), scale, 0.0f) : acc(i, n, m); });
}

// Quantized activations and weights with one scale a channel: integer sums of whole rows.
template <class C>
W4AX_DEVICE void prefill_whole_rows(GemmParams const& p, unsigned char* shared) {
    Prefill<C> const b(p, shared);
    using Engine = typename Prefill<C>::Engine;
    Tensor rC = make_tensor<int32_t>(Shape<_4, Int<C::kNT>, Int<C::kMT>>{});  // (4,NT,MT)
    clear(rC);
    b.with_code_bits([&](auto bits) {
        for_stages(b, [&](unsigned char* s, int) { b.template multiply_stage<bits>(s, rC); });
    });

    // What goes with the lane's tokens, before shared memory is taken for the outputs.
    TokenGroup tokens[C::kMT][2];
    CUTE_UNROLL
    for (int m = 0; m < C::kMT; ++m) {
        CUTE_UNROLL
        for (int i = 0; i < 2; ++i) {
            int const token = (b.warp_m * C::kMT + m) * kTileM + 2 * (b.lane % 4) + i;
            tokens[m][i] = TokenGroup{0.0f, 0};
            if (b.tile_m * kTileM + token >= p.m) continue;
            if constexpr (C::kFused)
                tokens[m][i] = TokenGroup{b.shared_quantizers()[token].scale,
                                          zero_and_sum(b.shared_quantizers()[token].zero, b.shared_code_sums()[token])};
            else
                tokens[m][i] = p.tokens[b.tile_m * kTileM + token];  // [tile of 8 tokens][one group][8]
        }
    }
    // The outputs go where stages, and quantizers, are still read.
    __syncthreads();
    write_outputs(
        b,
        [&](int channel) { return channel_factors(p, channel); },
        [&](ChannelFactors const& row, int i, int n, int m) {
            return channel_product(rC(i, n, m) >> Engine::kShift, row, tokens[m][i % 2]);
        });
}

template <class C>
W4AX_DEVICE void prefill(GemmParams const& p, unsigned char* shared) {
    if constexpr (C::kWholeRow)
        prefill_whole_rows<C>(p, shared);
    else
        prefill_runs<C>(p, shared);
}

// One block a multiprocessor is enough to ask for: without the word the assembler rounds registers down for the sake of more
// blocks, and spills.
template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) prefill_kernel(W4AX_GRID_CONSTANT GemmParams const p) {
    W4AX_DYNAMIC_SHARED(shared, 128);
    prefill<C>(p, shared);
}

}  // namespace w4ax
