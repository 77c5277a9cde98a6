// Activations in the order of a weight's k (GPTQ's desc_act): y[m, i] = x[m, order[i]], ahead of the GEMM or of quantize_pack.
// The width does not matter to it.
#pragma once

#include "common/device.cuh"
#include "common/ptx.cuh"

namespace w4ax {

struct GatherParams {
    uint16_t const* x;      // BF16 [m, k]
    int64_t x_stride;       // elements
    uint32_t const* order;  // [k]
    uint16_t* y;            // BF16 [m, k]
    int64_t y_stride;       // elements
    int m, k;
    bool y_pairs;           // rows of y are aligned to 4 bytes
};

constexpr int kGatherThreads = 256;
constexpr int kGatherTokens = 8;  // a thread's: its part of the order is read once for them

W4AX_DEVICE auto gather_source(GatherParams const& p) {
    return cute::make_tensor(cute::make_gmem_ptr(p.x), cute::make_shape(p.m, p.k), cute::make_stride(p.x_stride, cute::Int<1>{}));
}
W4AX_DEVICE auto gather_target(GatherParams const& p) {
    return cute::make_tensor(cute::make_gmem_ptr(p.y), cute::make_shape(p.m, p.k), cute::make_stride(p.y_stride, cute::Int<1>{}));
}

// Two neighboring k a thread, so that a warp writes 128 bytes of a row in one go; what it reads of the row lies anywhere in it,
// and comes from L1 and L2 after the first. Grid: (ceil(K/512), ceil(M/8)).
__global__ void __launch_bounds__(kGatherThreads) gather_kernel(W4AX_GRID_CONSTANT GatherParams const p) {
    using namespace cute;
    int const k = 2 * (int(blockIdx.x) * kGatherThreads + int(threadIdx.x));
    // As a weight, the order is written by no launch: it may be read while the launch before still runs.
    uint2 from = {};  // which k of x
    if (k + 1 < p.k)
        from = *reinterpret_cast<uint2 const*>(p.order + k);
    else if (k < p.k)
        from.x = p.order[k];
    // x is the launch before's, and so may be what it reads of ours: wait before both. All threads do, those beyond K too.
    ptx::wait_for_previous_grid();
    // The next launch waits for all of this grid before it reads y.
    ptx::let_next_grid_start();
    if (k >= p.k) return;
    Tensor const gX = gather_source(p);  // (M,K)
    Tensor gY = gather_target(p);        // (M,K)
    int const begin = int(blockIdx.y) * kGatherTokens;
    CUTE_UNROLL
    for (int i = 0; i < kGatherTokens; ++i) {
        int const token = begin + i;
        if (token >= p.m) return;
        uint16_t const even = gX(token, int(from.x));
        if (k + 1 == p.k) {
            gY(token, k) = even;
            continue;
        }
        uint16_t const odd = gX(token, int(from.y));
        if (p.y_pairs) {
            *reinterpret_cast<uint32_t*>(&gY(token, k)) = uint32_t(even) | uint32_t(odd) << 16;
        } else {
            gY(token, k) = even;
            gY(token, k + 1) = odd;
        }
    }
}

// The oracle: a thread a value. Grid: ceil(M*K/256).
__global__ void __launch_bounds__(kGatherThreads) gather_plain_kernel(W4AX_GRID_CONSTANT GatherParams const p) {
    ptx::wait_for_previous_grid();
    int64_t const value = int64_t(blockIdx.x) * kGatherThreads + threadIdx.x;
    if (value >= int64_t(p.m) * p.k) return;
    int64_t const token = value / p.k, i = value % p.k;
    p.y[token * p.y_stride + i] = p.x[token * p.x_stride + p.order[i]];
}

}  // namespace w4ax
