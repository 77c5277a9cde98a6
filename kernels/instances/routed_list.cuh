// The routed kernels, for the .cu files that instantiate them. The tile variants have the numbers, and the blocks, of those
// of one width.
#pragma once

#include "runtime/registry.cuh"
#include "gemm/routed.cuh"

namespace w4ax {

template <class R>
Kernel routed_decode_entry(int tile) {
    static_assert(R::shared_bytes(R::kTokens) <= 99 * 1024, "a block does not fit on sm_86");
    return {reinterpret_cast<void const*>(&routed_decode_kernel<R>),
            Role::RoutedGemm,
            W4AXK_DECODE,
            0,
            R::kGroup,
            R::kFused,
            tile,
            R::kRows,
            R::kTokens,
            R::kThreads,
            [](int m) { return R::shared_bytes(m); },
            R::shared_bytes(R::kTokens)};
}

template <class R>
Kernel routed_prefill_entry(int tile) {
    static_assert(R::shared_bytes() <= 99 * 1024, "a block does not fit on sm_86");
    return {reinterpret_cast<void const*>(&routed_prefill_kernel<R>),
            Role::RoutedGemm,
            W4AXK_PREFILL,
            0,
            R::kGroup,
            R::kFused,
            tile,
            R::kRows,
            R::kTokens,
            R::kThreads,
            [](int) { return R::shared_bytes(); },
            R::shared_bytes()};
}

}  // namespace w4ax
