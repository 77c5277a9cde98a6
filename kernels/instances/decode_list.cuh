// The tile variants of the decode family, for the .cu files that instantiate them: one per width and mode, because a file of
// CuTe kernels takes its time to compile.
#pragma once

#include "gemm/decode_kernel.cuh"
#include "runtime/registry.cuh"

namespace w4ax {

template <class C>
Kernel decode_entry(int tile) {
    // Shared memory that every architecture from sm_80 on gives a block (sm_86 and sm_89 have the least).
    static_assert(typename C::Shared(C::kTokens).total <= 99 * 1024, "a block does not fit on sm_86");
    return {reinterpret_cast<void const*>(&decode_kernel<C>),
            Role::Gemm,
            W4AXK_DECODE,
            C::kBits,
            C::kGroup,
            C::kFused,
            tile,
            C::kRows,
            C::kTokens,
            C::kThreads,
            [](int m) { return typename C::Shared(m).total; },
            typename C::Shared(C::kTokens).total};
}

template <int kBits, bool kFused>
KernelList decode_list() {
#define W4AX_TILES(group)                                                                                                   \
    decode_entry<DecodeConfig<kBits, group, kFused, 1, 1>>(1), decode_entry<DecodeConfig<kBits, group, kFused, 2, 1>>(2), \
        decode_entry<DecodeConfig<kBits, group, kFused, 2, 2>>(3)
    static Kernel const kernels[] = {W4AX_TILES(0), W4AX_TILES(32), W4AX_TILES(64), W4AX_TILES(128)};
#undef W4AX_TILES
    static_assert(sizeof kernels / sizeof kernels[0] == 4 * kDecodeTiles, "each grouping has each tile");
    return {kernels, 4 * kDecodeTiles};
}

}  // namespace w4ax
