// The tile variants of the wgmma family, for the .cu files that instantiate them: one for codes, one for BF16.
#pragma once

#include "runtime/registry.cuh"
#include "gemm/wgmma_kernel.cuh"

namespace w4ax {

template <class C>
Kernel wgmma_entry(int tile) {
    static_assert(C::kShared <= 227 * 1024, "a block does not fit on sm_90");
    return {reinterpret_cast<void const*>(&wgmma_kernel<C>),
            Role::Gemm,
            W4AXK_WGMMA,
            C::kBits,
            C::kGroup,
            !C::kQuantized,
            tile,
            C::kRows,
            C::kTokens,
            C::kLaunched,
            [](int) { return C::kShared; },
            C::kShared};
}

template <int kBits>
KernelList wgmma_list() {
#define W4AX_TILES(group) wgmma_entry<WgmmaConfig<kBits, group, 80>>(1), wgmma_entry<WgmmaConfig<kBits, group, 128>>(2)
    static Kernel const kernels[] = {W4AX_TILES(0), W4AX_TILES(32), W4AX_TILES(64), W4AX_TILES(128)};
#undef W4AX_TILES
    static_assert(sizeof kernels / sizeof kernels[0] == 4 * kWgmmaTiles, "each grouping has each tile");
    return {kernels, 4 * kWgmmaTiles};
}

}  // namespace w4ax
