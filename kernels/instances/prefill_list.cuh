// The tile variants of the prefill family, for the .cu files that instantiate them: one per width and mode.
#pragma once

#include "gemm/prefill_kernel.cuh"
#include "runtime/registry.cuh"

namespace w4ax {

template <class C>
Kernel prefill_entry(int tile) {
    // Shared memory that every architecture from sm_80 on gives a block (sm_86 and sm_89 have the least).
    static_assert(C::kShared <= 99 * 1024, "a block does not fit on sm_86");
    return {reinterpret_cast<void const*>(&prefill_kernel<C>),
            Role::Gemm,
            W4AXK_PREFILL,
            C::kBits,
            C::kGroup,
            C::kFused,
            tile,
            C::kRows,
            C::kTokens,
            C::kThreads,
            [](int) { return C::kShared; },
            C::kShared};
}

template <int kBits, bool kFused>
KernelList prefill_list() {
    // Activation tiles of a warp. BF16 needs the most registers and spills with 8 on sm_90; quantizing here takes shared
    // memory.
    constexpr int kMediumM = kBits == 16 ? 4 : 8, kLargeM = kBits == 16 || kFused ? 4 : 8;
#define W4AX_TILES(group)                                                           \
    prefill_entry<PrefillConfig<kBits, group, kFused, 1, 4, 1, 4>>(1),              \
        prefill_entry<PrefillConfig<kBits, group, kFused, 2, kMediumM, 1, 3>>(2),          \
        prefill_entry<PrefillConfig<kBits, group, kFused, 2, kLargeM, 2, 3>>(3)
    static Kernel const kernels[] = {W4AX_TILES(0), W4AX_TILES(32), W4AX_TILES(64), W4AX_TILES(128)};
#undef W4AX_TILES
    static_assert(sizeof kernels / sizeof kernels[0] == 4 * kPrefillTiles, "each grouping has each tile");
    return {kernels, 4 * kPrefillTiles};
}

}  // namespace w4ax
