// Routed wgmma kernels (sm_90a): one launch with the code for BF16 and for quantized activations, which branches on the
// latched width. Codes take a byte at every width, so one branch serves A8, A4 and A2.
//
// Grid, shared memory: see wgmma.cuh; both branches have the same blocks, and shared memory is that of the branch that
// needs more. Preconditions: those of both branches; the latch has run before in the stream's order. Only code for
// sm_90a has a body.
#pragma once

#include "gemm/wgmma_kernel.cuh"
#include "ops/latch.cuh"

namespace w4ax {

// One tile variant. Blocks of 256 channels do not exist for BF16, and so are not routed.
template <int kGroup_, int kTokens_>
struct RoutedWgmma : KernelConfig {
    static constexpr Role kRole = Role::RoutedGemm;
    static constexpr w4axk_family kFamily = W4AXK_WGMMA;
    static constexpr w4axk_mode kMode = W4AXK_PACKED;
    using A8 = WgmmaConfig<8, kGroup_, kTokens_, 1>;
    using Bf16 = WgmmaConfig<16, kGroup_, kTokens_, 1>;
    static constexpr bool kTwoLevel = Bf16::kTwoLevel;
    static constexpr int kGroup = Bf16::kGroup;
    static constexpr int kRows = Bf16::kRows, kTokens = kTokens_;
    static constexpr int kThreads = Bf16::kThreads, kLaunchThreads = Bf16::kLaunchThreads;
    static_assert(A8::kRows == kRows && A8::kLaunchThreads == kLaunchThreads, "a branch has other blocks");

    static constexpr int kShared = A8::kShared > Bf16::kShared ? A8::kShared : Bf16::kShared;
    static constexpr int shared_bytes(int) { return kShared; }
};

template <class R>
__global__ void __launch_bounds__(R::kLaunchThreads, 1)
    routed_wgmma_kernel(W4AX_GRID_CONSTANT RoutedWgmmaParams const params) {
#if W4AX_HAS_WGMMA
    W4AX_DYNAMIC_SHARED(shared, 1024);
    RoutedParams const& p = params.routed;
    // The previous launch may be the latch, which writes the width.
    ptx::wait_on_dependent_grids();
    int const bits = latched_bits(p.latched);
    if (bits == 16) {
        wgmma<typename R::Bf16>(p.gemm, params.x, shared);
    } else {
        GemmParams q = p.gemm;
        q.bits = bits;
        q.x = p.codes;
        uint64_t const token_params = core_matrix_token_params(uint64_t(q.m), uint64_t(q.k));
        q.tokens = reinterpret_cast<TokenParams const*>(static_cast<unsigned char const*>(p.codes) + token_params);
        wgmma<typename R::A8>(q, params.x, shared);
    }
#endif
}

}  // namespace w4ax
