// Gathers activations into the order of a weight's k (desc_act of GPTQ): y[m, i] = x[m, order[i]], ahead of a GEMM or
// of quantize_pack, at any width.
//
// Grid: (ceil(K/512), ceil(M/8)) blocks, two neighboring k of 8 tokens per thread. The reference kernel: ceil(M*K/256)
// blocks, one value per thread. Shared memory: none.
// Preconditions: order[i] < K, aligned to 8 bytes; y overlaps neither x nor order.
#pragma once

#include "common/device.cuh"
#include "common/kernel.cuh"
#include "common/params.cuh"
#include "common/ptx.cuh"

namespace w4ax {

struct GatherConfig : KernelConfig {
    static constexpr Role kRole = Role::Gather;
    static constexpr int kTokens = kGatherTokens, kLaunchThreads = kGatherThreads;
};

struct GatherPlainConfig : KernelConfig {
    static constexpr Role kRole = Role::Gather;
    static constexpr int kTokens = 1, kLaunchThreads = kGatherThreads;
};

// A row-major matrix in global memory.
template <class T>
W4AX_DEVICE auto gather_matrix(T* g, int rows, int columns, int64_t stride) {
    using namespace cute;
    return make_tensor(make_gmem_ptr(g), make_shape(rows, columns), make_stride(stride, Int<1>{}));
}

// A thread takes two neighboring k, so that a warp writes 128 contiguous bytes of a row. Its reads are scattered over
// the row, which L1 and L2 serve after the first access.
template <class C>
__global__ void __launch_bounds__(kGatherThreads) gather_kernel(W4AX_GRID_CONSTANT GatherParams const p) {
    using namespace cute;
    int const k = 2 * (int(blockIdx.x) * kGatherThreads + int(threadIdx.x));
    // No launch writes the order, so it may be read while the previous launch still runs.
    uint2 from = {};  // the k of x
    if (k + 1 < p.k)
        from = *reinterpret_cast<uint2 const*>(p.order + k);
    else if (k < p.k)
        from.x = p.order[k];
    // The previous launch may write x, and may read y: this wait comes before both accesses. All threads wait,
    // including those beyond K.
    ptx::wait_on_dependent_grids();
    // The next launch waits for this whole grid before it reads y.
    ptx::launch_dependent_grids();
    if (k >= p.k) return;
    Tensor const gX = gather_matrix(p.x, p.m, p.k, p.x_stride);  // (M,K)
    Tensor gY = gather_matrix(p.y, p.m, p.k, p.y_stride);        // (M,K)
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

// The reference kernel.
template <class C>
__global__ void __launch_bounds__(kGatherThreads) gather_plain_kernel(W4AX_GRID_CONSTANT GatherParams const p) {
    ptx::wait_on_dependent_grids();
    int64_t const value = int64_t(blockIdx.x) * kGatherThreads + threadIdx.x;
    if (value >= int64_t(p.m) * p.k) return;
    int64_t const token = value / p.k, i = value % p.k;
    p.y[token * p.y_stride + i] = p.x[token * p.x_stride + p.order[i]];
}

}  // namespace w4ax
