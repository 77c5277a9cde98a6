// wgmma family, kernel: producer and consumer warps over the steps of wgmma.cuh.
//
// Grid, shared memory and preconditions: see wgmma.cuh. Only code for sm_90a has a body.
#pragma once

#include "gemm/wgmma.cuh"

namespace w4ax {

// Groups, and BF16 whole rows in segments of 128.
template <class C>
W4AX_DEVICE void wgmma_segments(Wgmma<C> const& b) {
    GemmParams const& p = b.p;
    Tensor acc = make_tensor<float>(Shape<_4, _1, Int<C::kMT>>{});  // (4,1,MT)
    clear(acc);
    uint32_t offset[2];
    CUTE_UNROLL
    for (int i = 0; i < 2; ++i) {
        // The zero point of a channel with one scale. Those of groups are part of each stage.
        int const tile = b.tile_n + b.warp_n, row = b.lane / 4 + 8 * i;
        bool const in_bounds = C::kGroup == 0 && p.zeros && tile < p.n_tiles;
        offset[i] = bf16_offset(in_bounds ? p.zeros[group_params_index(tile, 0, 1, row)] : 0);
    }
    ptx::wait_on_dependent_grids();  // the previous launch may read y
    for (int k_block = 0; k_block < b.k_blocks(); ++k_block) {
        unsigned char const* const s = b.wait_for_stage(k_block);
        // BF16 weights already include their zero points.
        if (C::kQuantized && p.zeros)
            b.template add_stage<true>(s, k_block, offset, acc);
        else
            b.template add_stage<false>(s, k_block, offset, acc);
        b.release(k_block);
    }
    // The outputs overwrite stages that other warps may still read.
    sm90::named_barrier_sync<C::kThreads>();
    scale_accumulators<C>(p, acc, [&](auto params_of, auto output) { transpose_outputs(b, params_of, output); });
}

// Quantized activations and weights with one scale per channel: integer sums of whole rows.
template <class C>
W4AX_DEVICE void wgmma_whole_rows(Wgmma<C> const& b) {
    GemmParams const& p = b.p;
    Tensor rC = make_tensor<uint32_t>(Shape<_4, Int<C::kMT>, Int<C::kNT>>{});  // (4,MT,NT)
    clear(rC);
    auto rA = Wgmma<C>::whole_row_fragments();  // (4,step,NT,tile)
    ptx::wait_on_dependent_grids();             // the previous launch may read y
    // The last stage is apart: a branch around a tile's mma would make ptxas serialize all of them, because it could
    // not tell which registers are in use.
    int const whole = p.k_tiles / C::kStageTiles;
    for (int k_block = 0; k_block < whole; ++k_block) b.template multiply_stage<C::kStageTiles>(k_block, rA, rC);
    static_assert(C::kStageTiles == 2, "the last stage has one k-tile or two");
    if (whole < b.k_blocks()) b.template multiply_stage<1>(whole, rA, rC);
    sm90::warpgroup_wait<0>(rC);
    // The outputs overwrite stages that other warps may still read.
    sm90::named_barrier_sync<C::kThreads>();
    transpose_outputs(
        b, [&](int channel) { return channel_params(p, channel); },
        [&](ChannelParams const& channel, float bias, int i, int n, int m) {
            int const token = (b.tile_m + m) * kTileM + 2 * (b.lane % 4) + i % 2;
            TokenParams const t = token < p.m ? p.tokens[token] : TokenParams{0.0f, 0};  // [ceil(M/8)][1][8]
            int const dot = Wgmma<C>::Engine::row_dot(int32_t(rC(i, m, n)), sum_of(t));
            return row_output<C>(p, dot, channel, t, bias);
        });
}

template <class C>
W4AX_DEVICE void wgmma(GemmParams const& p, TensorMap const& x, unsigned char* shared) {
    Wgmma<C> const b(p, x, shared);
    b.init_barriers();
    // The barriers are initialized before any thread waits at them or copies to them.
    __syncthreads();
    if (b.thread >= C::kThreads) {
        sm90::warpgroup_reg_dealloc<56>();
        b.produce();
        return;
    }
    // Two warpgroups with 224 registers per thread and one with 56 use as many as three with 168: 64512 in all. (With
    // 40, the producer warps spill.)
    sm90::warpgroup_reg_alloc<224>();
    if constexpr (C::kWholeRow)
        wgmma_whole_rows<C>(b);
    else
        wgmma_segments<C>(b);
    // The block's outputs are complete.
    sm90::named_barrier_sync<C::kThreads>();
    store_outputs(b);
}

template <class C>
__global__ void __launch_bounds__(C::kLaunchThreads, 1) wgmma_kernel(W4AX_GRID_CONSTANT WgmmaParams const params) {
#if W4AX_HAS_WGMMA
    W4AX_DYNAMIC_SHARED(shared, 1024);
    wgmma<C>(params.gemm, params.x, shared);
#endif
}

}  // namespace w4ax
