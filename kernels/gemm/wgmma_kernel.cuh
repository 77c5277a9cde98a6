// The kernel of the wgmma family, over the steps of wgmma.cuh.
#pragma once

#include "gemm/wgmma.cuh"

namespace w4ax {

// Groups, and BF16 whole rows in runs of 128.
template <class C>
W4AX_DEVICE void wgmma_runs(Wgmma<C> const& b) {
    GemmParams const& p = b.p;
    Tensor acc = make_tensor<float>(Shape<_4, _1, Int<C::kMT>>{});  // (4,1,MT)
    clear(acc);
    uint32_t offset[2];
    CUTE_UNROLL
    for (int i = 0; i < 2; ++i) {
        // Of a channel with one scale; groups bring theirs with each stage.
        int const tile = b.tile_n + b.warp_n, row = b.lane / 4 + 8 * i;
        bool const there = C::kGroup == 0 && p.zeros && tile < p.n_tiles;
        offset[i] = bf16_offset(there ? p.zeros[row_group_index(tile, 0, 1, row)] : 0);
    }
    b.for_stages([&](unsigned char const* s, int k_block) {
        // BF16 weights have their zero points in them.
        if (C::kQuantized && p.zeros)
            b.template add_stage<true>(s, k_block, offset, acc);
        else
            b.template add_stage<false>(s, k_block, offset, acc);
    });
    // The outputs go where other warps still read stages.
    sm90::sync_threads<C::kThreads>();
    // A BF16 row's sum of all of K takes its scale here.
    constexpr bool kScalesHere = !C::kQuantized && C::kGroup == 0;
    turn_outputs(
        b,
        [&](int channel) { return kScalesHere ? channel_scale(p, channel) : 0.0f; },
        [&](float scale, int i, int n, int m) { return kScalesHere ? __fmaf_rn(acc(i, n, m), scale, 0.0f) : acc(i, n, m); });
}

// Quantized activations and weights with one scale a channel: integer sums of whole rows.
template <class C>
W4AX_DEVICE void wgmma_whole_rows(Wgmma<C> const& b) {
    GemmParams const& p = b.p;
    Tensor rC = make_tensor<uint32_t>(Shape<_4, Int<C::kMT>>{});  // (4,MT)
    clear(rC);
    b.for_stages([&](unsigned char const* s, int k_block) { b.multiply_stage(s, k_block, rC); });
    // The outputs go where other warps still read stages.
    sm90::sync_threads<C::kThreads>();
    turn_outputs(
        b,
        [&](int channel) { return channel_factors(p, channel); },
        [&](ChannelFactors const& row, int i, int, int m) {
            int const token = (b.tile_m + m) * kTileM + 2 * (b.lane % 4) + i % 2;
            // [tile of 8 tokens][one group][8]
            TokenGroup const t = token < p.m ? p.tokens[token] : TokenGroup{0.0f, 0};
            return channel_product(int32_t(rC(i, m)) >> Wgmma<C>::Engine::kShift, row, t);
        });
}

template <class C>
W4AX_DEVICE void wgmma(WgmmaParams const& params, unsigned char* shared) {
    Wgmma<C> const b(params, shared);
    b.make_barriers();
    // Nobody waits at a barrier, or copies to one, that is not made yet.
    __syncthreads();
    if (b.thread >= C::kThreads) {
        sm90::give_registers<56>();
        b.copy_all();
        return;
    }
    // Two warpgroups of 224 and one of 56 take what three of 168 do, 64512 in all. (With 40 the copying warps spill.)
    sm90::take_registers<224>();
    if constexpr (C::kWholeRow)
        wgmma_whole_rows<C>(b);
    else
        wgmma_runs<C>(b);
    // The block's outputs are complete.
    sm90::sync_threads<C::kThreads>();
    store_outputs(b);
}

template <class C>
__global__ void __launch_bounds__(C::kLaunched, 1) wgmma_kernel(W4AX_GRID_CONSTANT WgmmaParams const params) {
#if W4AX_HAS_WGMMA
    W4AX_DYNAMIC_SHARED(shared, 1024);
    wgmma<C>(params, shared);
#endif
}

}  // namespace w4ax
