// The description of a kernel: what its Config declares, and what the host knows about it.
#pragma once

#include "api/w4ax_kernels.h"
#include "common/layout.cuh"

namespace w4ax {

// What a kernel is for, and so which parameters it takes.
enum class Role {
    Gemm,          // GemmParams; the plain kernel: RoutedParams; the wgmma family: WgmmaParams
    RoutedGemm,    // RoutedParams; the wgmma family: RoutedWgmmaParams
    QuantizePack,  // QuantizeParams
    RmsNorm,       // RowOpParams
    SiluMul,       // RowOpParams
    Latch,         // LatchParams
    GraphLatch,    // LatchParams; also sets conditional nodes
    Gather,        // GatherParams
    SkipBegin,     // w4axk_skip_begin_args
    SkipDecide     // w4axk_skip_decide_args
};

// Returns whether a kernel sets conditional nodes, by a device function that drivers before CUDA 12.4 do not have.
constexpr bool sets_conditionals(Role role) {
    return role == Role::GraphLatch || role == Role::SkipBegin || role == Role::SkipDecide;
}

// A kernel as the host sees it.
struct Kernel {
    void const* function;  // a `void (*)(Params)`
    Role role;
    w4axk_family family;  // W4AXK_AUTO unless the kernel is a GEMM
    int bits;             // 4 takes 2 as well; 8 of the wgmma family takes 2 and 4; 0: any
    int group;            // group size; 0: per channel; kTwoLevelGroups
    w4axk_mode mode;
    int tile;                    // 1.., the number of the tile variant in its family
    int rows, tokens;            // outputs of a block: channels and tokens
    int threads;                 // of a block
    int (*shared_bytes)(int m);  // dynamic shared memory of a block for m tokens
    int max_shared_bytes;
};

struct KernelList {
    Kernel const* first;
    int count;
};

// The defaults of a kernel's Config, from which make_kernel reads its description.
struct KernelConfig {
    static constexpr w4axk_family kFamily = W4AXK_AUTO;
    static constexpr w4axk_mode kMode = W4AXK_FUSED;
    static constexpr int kBits = 0, kGroup = 0;   // any width; per channel, or any grouping
    static constexpr bool kTwoLevel = false;      // the weights have group steps
    static constexpr int kRows = 0, kTokens = 0;  // not tiled
    static constexpr int shared_bytes(int) { return 0; }
};

// Every architecture from sm_80 on gives a block this much shared memory; sm_86 and sm_89 have the least.
constexpr int kMaxShared = 99 * 1024;
constexpr int kMaxSharedSm90 = 227 * 1024;

template <class C, class Params>
Kernel make_kernel(void (*function)(Params), int tile) {
    constexpr int max_shared_bytes = C::shared_bytes(C::kTokens);
    static_assert(max_shared_bytes <= (C::kFamily == W4AXK_WGMMA ? kMaxSharedSm90 : kMaxShared),
                  "a block exceeds the shared memory of an architecture");
    return {
        .function = reinterpret_cast<void const*>(function),
        .role = C::kRole,
        .family = C::kFamily,
        .bits = C::kBits,
        .group = C::kTwoLevel ? kTwoLevelGroups : C::kGroup,
        .mode = C::kMode,
        .tile = tile,
        .rows = C::kRows,
        .tokens = C::kTokens,
        .threads = C::kLaunchThreads,
        .shared_bytes = [](int m) { return C::shared_bytes(m); },
        .max_shared_bytes = max_shared_bytes,
    };
}

}  // namespace w4ax
