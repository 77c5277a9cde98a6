// Kernels that have the code of every width and branch on the latched one: one launch, whatever the step's width.
//
// The branch is the same for the whole grid, so it costs a load that all blocks share and one jump. What it does cost: the
// kernel takes the registers and the shared memory of its hungriest branch.
#pragma once

#include "gemm/decode_kernel.cuh"
#include "ops/latch.cuh"
#include "gemm/prefill_kernel.cuh"

namespace w4ax {

// The parameters of a branch.
W4AX_DEVICE GemmParams quantized_params(RoutedParams const& p, int bits, bool packed) {
    GemmParams q = p.gemm;
    q.bits = bits;
    if (packed) {
        q.x = p.codes;
        q.tokens = reinterpret_cast<TokenGroup const*>(
            static_cast<unsigned char const*>(p.codes) +
            packed_token_groups(uint64_t(ceil_div(q.m, kTileM)), uint64_t(q.k_tiles), uint64_t(bits)));
    }
    return q;
}

template <int kGroup_, bool kFused_, int kNT, int kMT>
struct RoutedDecode {
    static constexpr int kGroup = kGroup_;
    static constexpr bool kFused = kFused_;
    using A4 = DecodeConfig<4, kGroup, kFused, kNT, kMT>;
    using A8 = DecodeConfig<8, kGroup, kFused, kNT, kMT>;
    using Bf16 = DecodeConfig<16, kGroup, true, kNT, kMT>;
    static constexpr int kRows = Bf16::kRows, kTokens = Bf16::kTokens, kThreads = Bf16::kThreads;
    // All branches split K alike, so the first weights may be on their way before the width is known.
    static_assert(A4::kTiles == Bf16::kTiles && A8::kTiles == Bf16::kTiles, "a branch loads other weights");
    static_assert(A4::kThreads == kThreads && A8::kThreads == kThreads, "a branch has other threads");

    static constexpr int shared_bytes(int m) {
        int const a4 = typename A4::Shared(m).total, a8 = typename A8::Shared(m).total, bf16 = typename Bf16::Shared(m).total;
        return a4 > a8 ? (a4 > bf16 ? a4 : bf16) : (a8 > bf16 ? a8 : bf16);
    }
};

// All widths' addresses and the weights of four k-tiles want a few registers more than two blocks on a multiprocessor leave, on
// sm_90: one block there has as many bytes in flight as its memory takes.
template <class R>
constexpr int kRoutedBlocks = W4AX_ARCH >= 900 && R::kFused && R::kRows == 32 && R::kGroup >= 64 ? 1 : 2;

template <class R>
__global__ void __launch_bounds__(R::kThreads, kRoutedBlocks<R>) routed_decode_kernel(W4AX_GRID_CONSTANT RoutedParams const p) {
    W4AX_DYNAMIC_SHARED(shared, 128);
    Tensor rW = first_weights(Decode<typename R::Bf16>(p.gemm, shared));  // (4,NT,tiles)
    // The latch may be the launch before this one.
    ptx::wait_for_previous_grid();
    int const bits = latched_bits(p.latched);
    if (bits == 16) {
        decode(Decode<typename R::Bf16>(p.gemm, shared), rW);
    } else if (bits == 8) {
        GemmParams const q = quantized_params(p, 8, !R::kFused);
        decode(Decode<typename R::A8>(q, shared), rW);
    } else {
        GemmParams const q = quantized_params(p, bits, !R::kFused);
        decode(Decode<typename R::A4>(q, shared), rW);
    }
}

// One tile variant of the prefill family: for activations that are packed, and for BF16.
template <int kGroup_, int kNT, int kQuantizedMT, int kBf16MT, int kWarpsM, int kStages>
struct RoutedPrefill {
    static constexpr int kGroup = kGroup_;
    static constexpr bool kFused = false;
    using A4 = PrefillConfig<4, kGroup, false, kNT, kQuantizedMT, kWarpsM, kStages>;
    using A8 = PrefillConfig<8, kGroup, false, kNT, kQuantizedMT, kWarpsM, kStages>;
    using Bf16 = PrefillConfig<16, kGroup, true, kNT, kBf16MT, kWarpsM, kStages>;
    // Of the smallest block: the grid is that of the branch with the most.
    static constexpr int kRows = Bf16::kRows, kTokens = Bf16::kTokens, kThreads = Bf16::kThreads;
    static_assert(A4::kRows == kRows && A8::kRows == kRows && A4::kThreads == kThreads && A8::kThreads == kThreads,
                  "a branch has other blocks");
    static_assert(A4::kTokens >= kTokens && A8::kTokens >= kTokens, "a branch has more blocks than the grid");

    static constexpr int shared_bytes() {
        return A4::kShared > A8::kShared ? (A4::kShared > Bf16::kShared ? A4::kShared : Bf16::kShared)
                                         : (A8::kShared > Bf16::kShared ? A8::kShared : Bf16::kShared);
    }
};

template <class C>
W4AX_DEVICE void prefill_branch(GemmParams const& p, unsigned char* shared) {
    // Whole blocks leave, before any barrier.
    if (int(blockIdx.x) < ceil_div(p.n, C::kRows) * ceil_div(p.m, C::kTokens)) prefill<C>(p, shared);
}

template <class R>
__global__ void __launch_bounds__(R::kThreads, 1) routed_prefill_kernel(W4AX_GRID_CONSTANT RoutedParams const p) {
    W4AX_DYNAMIC_SHARED(shared, 128);
    ptx::wait_for_previous_grid();
    int const bits = latched_bits(p.latched);
    if (bits == 16) {
        prefill_branch<typename R::Bf16>(p.gemm, shared);
    } else if (bits == 8) {
        prefill_branch<typename R::A8>(quantized_params(p, 8, true), shared);
    } else {
        prefill_branch<typename R::A4>(quantized_params(p, bits, true), shared);
    }
}

}  // namespace w4ax
