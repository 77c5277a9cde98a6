// Prefill family, kernel: prologue, mainloop and epilogue over the steps of prefill.cuh.
//
// Grid, shared memory and preconditions: see prefill.cuh.
#pragma once

#include "gemm/prefill.cuh"

namespace w4ax {

// Calls `consume(s, k_block)` for each stage of K, at shared address s, while later stages are being copied.
template <class C, class Consume>
W4AX_DEVICE void for_stages(Prefill<C> const& b, Consume consume) {
    int const k_blocks = ceil_div(b.p.k_tiles, C::kStageTiles);
    StageCopies<C> copies(b.p, b.tile_n, b.tile_m, b.thread);
    // Prologue. Weights first: until the wait, x and y belong to the previous launch.
    for (int i = 0; i < C::kStages - 1; ++i)
        if (i < k_blocks) copies.copy_weights(b.stage(i), i);
    ptx::wait_on_dependent_grids();
    ptx::launch_dependent_grids();
    if constexpr (C::kQuantizes && C::kGroup == 0) b.scan_rows();
    // The weights of all prologue stages belong to the first commit group. Its wait takes a little longer, but the
    // order of the groups stays simple.
    for (int i = 0; i < C::kStages - 1; ++i) {
        if (i < k_blocks) copies.copy_x(b.stage(i), i);
        cp_async_fence();
    }
    // Mainloop.
    int read = 0, write = C::kStages - 1;
    for (int k_block = 0; k_block < k_blocks; ++k_block) {
        // This thread's copies of the stage have landed. The barrier extends that to all threads. It also means that no
        // thread still reads the previous stage, which is overwritten next, or the codes made of it.
        cp_async_wait<C::kStages - 2>();
        __syncthreads();
        if (k_block + C::kStages - 1 < k_blocks) {
            copies.copy_weights(b.stage(write), k_block + C::kStages - 1);
            copies.copy_x(b.stage(write), k_block + C::kStages - 1);
        }
        // Empty groups at the end keep the count of the wait correct.
        cp_async_fence();
        unsigned char* const s = b.stage(read);
        if constexpr (C::kQuantizes) {
            if constexpr (C::kGroup != 0)
                b.quantize_groups(s, k_block);
            else
                b.quantize_rows(s, k_block);
            // Every warp multiplies codes that all warps have stored.
            __syncthreads();
        }
        consume(s, k_block);
        read = read + 1 == C::kStages ? 0 : read + 1;
        write = write + 1 == C::kStages ? 0 : write + 1;
    }
    cp_async_wait<0>();
}

// Epilogue: writes the outputs through the shared memory of the stages, after a barrier that ends their use.
template <class C, class ParamsOf, class Output>
W4AX_DEVICE void write_outputs(Prefill<C> const& b, ParamsOf params_of, Output output) {
    transpose_outputs(b, params_of, output);
    // The block's outputs are complete.
    __syncthreads();
    store_outputs(b);
}

// Groups, and BF16 whole rows in segments of 128.
template <class C>
W4AX_DEVICE void prefill_segments(GemmParams const& p, unsigned char* shared) {
    Prefill<C> const b(p, shared);
    Tensor acc = make_tensor<float>(Shape<_4, Int<C::kNT>, Int<C::kMT>>{});  // (4,NT,MT)
    clear(acc);
    b.with_code_bits([&](auto bits) {
        for_stages(b, [&](unsigned char* s, int k_block) {
            // BF16 weights already include their zero points.
            if (C::kQuantized && p.zeros)
                b.template add_stage<true, bits>(s, k_block, acc);
            else
                b.template add_stage<false, bits>(s, k_block, acc);
        });
    });
    // The outputs overwrite stages that other warps may still read.
    __syncthreads();
    scale_accumulators<C>(p, acc, [&](auto params_of, auto output) { write_outputs(b, params_of, output); });
}

// Quantized activations and weights with one scale per channel: integer sums of whole rows.
template <class C>
W4AX_DEVICE void prefill_whole_rows(GemmParams const& p, unsigned char* shared) {
    Prefill<C> const b(p, shared);
    using Engine = typename Prefill<C>::Engine;
    Tensor rC = make_tensor<int32_t>(Shape<_4, Int<C::kNT>, Int<C::kMT>>{});  // (4,NT,MT)
    clear(rC);
    b.with_code_bits(
        [&](auto bits) { for_stages(b, [&](unsigned char* s, int) { b.template multiply_stage<bits>(s, rC); }); });

    // The parameters of the lane's tokens are read before the outputs overwrite shared memory.
    TokenParams tokens[C::kMT][2];
    CUTE_UNROLL
    for (int m = 0; m < C::kMT; ++m) {
        CUTE_UNROLL
        for (int i = 0; i < 2; ++i) {
            int const token = (b.warp_m * C::kMT + m) * kTileM + 2 * (b.lane % 4) + i;
            tokens[m][i] = TokenParams{0.0f, 0};
            if (b.tile_m * kTileM + token >= p.m) continue;
            if constexpr (C::kFused)
                tokens[m][i] = TokenParams{
                    b.shared_quantizers()[token].scale,
                    zero_and_sum(b.shared_quantizers()[token].zero, b.shared_code_sums()[token])};
            else
                tokens[m][i] = p.tokens[b.tile_m * kTileM + token];  // [ceil(M/8)][1][8]
        }
    }
    // The outputs overwrite stages and quantizers that other warps may still read.
    __syncthreads();
    write_outputs(
        b, [&](int channel) { return channel_params(p, channel); },
        [&](ChannelParams const& channel, float bias, int i, int n, int m) {
            TokenParams const& t = tokens[m][i % 2];
            return row_output<C>(p, Engine::row_dot(rC(i, n, m), sum_of(t)), channel, t, bias);
        });
}

template <class C>
W4AX_DEVICE void prefill(GemmParams const& p, unsigned char* shared) {
    if constexpr (C::kWholeRow)
        prefill_whole_rows<C>(p, shared);
    else
        prefill_segments<C>(p, shared);
}

// The bound of one block per multiprocessor is needed: without it the assembler reduces registers in favor of more
// blocks, and spills.
template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) prefill_kernel(W4AX_GRID_CONSTANT GemmParams const p) {
    W4AX_DYNAMIC_SHARED(shared, 128);
    prefill<C>(p, shared);
}

}  // namespace w4ax
