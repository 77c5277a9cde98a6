// Routed kernels: one launch with the code of every width, which branches on the latched width.
//
// Grid: that of the family; a prefill branch with larger blocks leaves the surplus blocks idle. Shared memory: that of
// the branch that needs the most. Preconditions: those of every branch; the latch has run before in the stream's order.
// The branch is uniform over the grid, so it costs one load, which all blocks share, and one jump. Its real cost: the
// kernel needs the registers and the shared memory of its most demanding branch.
#pragma once

#include "gemm/decode_kernel.cuh"
#include "gemm/prefill_kernel.cuh"
#include "ops/latch.cuh"

namespace w4ax {

// Returns the parameters of a branch for quantized activations.
W4AX_DEVICE GemmParams quantized_params(RoutedParams const& p, int bits, bool packed) {
    GemmParams q = p.gemm;
    q.bits = bits;
    if (packed) {
        q.x = p.codes;
        uint64_t const m_tiles = uint64_t(ceil_div(q.m, kTileM));
        q.tokens =
            reinterpret_cast<TokenParams const*>(static_cast<unsigned char const*>(p.codes) +
                                                 token_params_offset(m_tiles, uint64_t(q.k_tiles), uint64_t(bits)));
    }
    return q;
}

constexpr int max_of(int a, int b, int c) { return a > b ? (a > c ? a : c) : (b > c ? b : c); }

// One tile variant of the decode family.
template <int kGroup_, bool kFused_, int kNT, int kMT>
struct RoutedDecode : KernelConfig {
    static constexpr Role kRole = Role::RoutedGemm;
    static constexpr w4axk_family kFamily = W4AXK_DECODE;
    static constexpr bool kFused = kFused_;
    static constexpr w4axk_mode kMode = kFused ? W4AXK_FUSED : W4AXK_PACKED;
    using A4 = DecodeConfig<4, kGroup_, kFused, kNT, kMT>;
    using A8 = DecodeConfig<8, kGroup_, kFused, kNT, kMT>;
    using Bf16 = DecodeConfig<16, kGroup_, true, kNT, kMT>;
    static constexpr bool kTwoLevel = Bf16::kTwoLevel;
    static constexpr int kGroup = Bf16::kGroup;
    static constexpr int kRows = Bf16::kRows, kTokens = Bf16::kTokens;
    static constexpr int kThreads = Bf16::kThreads, kLaunchThreads = kThreads;
    // All branches split K alike, so the first weights can be loaded before the width is known.
    static_assert(A4::kTiles == Bf16::kTiles && A8::kTiles == Bf16::kTiles, "a branch loads other weights");
    static_assert(A4::kThreads == kThreads && A8::kThreads == kThreads, "a branch has other threads");

    static constexpr int shared_bytes(int m) {
        return max_of(A4::shared_bytes(m), A8::shared_bytes(m), Bf16::shared_bytes(m));
    }
};

// The addresses of all widths and the weights of four k-tiles need a few registers more than two blocks per
// multiprocessor leave; before sm_90 in packed mode only. One block has as many bytes in flight as the memory can
// serve.
template <class R>
constexpr bool kRoutedFillsRegisters = R::kFused ? W4AX_ARCH >= 900 && R::kRows == 32 && R::kGroup != 32
                                                 : R::kRows == 32 && R::kTokens == 8 && R::Bf16::kTiles == 4;
template <class R>
constexpr int kRoutedMinBlocks = kRoutedFillsRegisters<R> ? 1 : 2;

template <class R>
__global__ void __launch_bounds__(R::kThreads, kRoutedMinBlocks<R>)
    routed_decode_kernel(W4AX_GRID_CONSTANT RoutedParams const p) {
    W4AX_DYNAMIC_SHARED(shared, 128);
    Tensor rW = load_first_weights(Decode<typename R::Bf16>(p.gemm, shared));  // (4,NT,tiles)
    // The previous launch may be the latch, which writes the width.
    ptx::wait_on_dependent_grids();
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

// One tile variant of the prefill family, for BF16 activations and for activations that were quantized ahead.
template <int kGroup_, int kNT, int kQuantizedMT, int kBf16MT, int kWarpsM, int kStages>
struct RoutedPrefill : KernelConfig {
    static constexpr Role kRole = Role::RoutedGemm;
    static constexpr w4axk_family kFamily = W4AXK_PREFILL;
    static constexpr w4axk_mode kMode = W4AXK_PACKED;
    using A4 = PrefillConfig<4, kGroup_, false, kNT, kQuantizedMT, kWarpsM, kStages>;
    using A8 = PrefillConfig<8, kGroup_, false, kNT, kQuantizedMT, kWarpsM, kStages>;
    using Bf16 = PrefillConfig<16, kGroup_, true, kNT, kBf16MT, kWarpsM, kStages>;
    static constexpr bool kTwoLevel = Bf16::kTwoLevel;
    static constexpr int kGroup = Bf16::kGroup;
    // The smallest block: the grid is that of the branch with the most blocks.
    static constexpr int kRows = Bf16::kRows, kTokens = Bf16::kTokens;
    static constexpr int kThreads = Bf16::kThreads, kLaunchThreads = kThreads;
    static_assert(A4::kRows == kRows && A8::kRows == kRows && A4::kThreads == kThreads && A8::kThreads == kThreads,
                  "a branch has other blocks");
    static_assert(A4::kTokens >= kTokens && A8::kTokens >= kTokens, "a branch has more blocks than the grid");

    static constexpr int shared_bytes(int) { return max_of(A4::kShared, A8::kShared, Bf16::kShared); }
};

template <class C>
W4AX_DEVICE void prefill_branch(GemmParams const& p, unsigned char* shared) {
    // Surplus blocks exit as a whole, before any barrier.
    if (int(blockIdx.x) < ceil_div(p.n, C::kRows) * ceil_div(p.m, C::kTokens)) prefill<C>(p, shared);
}

template <class R>
__global__ void __launch_bounds__(R::kThreads, 1) routed_prefill_kernel(W4AX_GRID_CONSTANT RoutedParams const p) {
    W4AX_DYNAMIC_SHARED(shared, 128);
    // The previous launch may be the latch, which writes the width.
    ptx::wait_on_dependent_grids();
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
