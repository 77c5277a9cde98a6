// The kernels of the library as the host sees them. Each .cu of a family gives one list.
#pragma once

#include "common/params.cuh"
#include "api/w4ax_kernels.h"

namespace w4ax {

enum class Role {
    Gemm,          // takes GemmParams, the plain one RoutedParams, those of the wgmma family WgmmaParams
    RoutedGemm,    // takes RoutedParams
    QuantizePack,  // takes QuantizeParams
    Latch,         // takes LatchParams, as the last
    GraphLatch     // sets conditional nodes as well
};

struct Kernel {
    void const* function;         // a `void (*)(Params)`
    Role role;
    w4axk_family family;          // of the GEMMs; else W4AXK_AUTO
    int bits;                     // 4 takes 2 as well, 8 of the wgmma family both; 0: any
    int group;                    // 0: per channel
    bool fused;
    int tile;                     // 1.., its number in the family
    int rows, tokens;             // a block's outputs
    int threads;
    int (*shared_bytes)(int m);   // a block's dynamic shared memory for m tokens
    int largest_shared_bytes;
};

struct KernelList {
    Kernel const* first;
    int count;
};

// Groupings in the order in which every list holds them.
constexpr int kGroupings[] = {0, 32, 64, 128};

KernelList decode_a4_fused();
KernelList decode_a4_packed();
KernelList decode_a8_fused();
KernelList decode_a8_packed();
KernelList decode_bf16();
KernelList prefill_a4_fused();
KernelList prefill_a4_packed();
KernelList prefill_a8_fused();
KernelList prefill_a8_packed();
KernelList prefill_bf16();
KernelList quantize_pack_kernels();
KernelList plain_kernels();
KernelList wgmma_a8();
KernelList wgmma_bf16();
KernelList routed_decode_fused();
KernelList routed_decode_packed();
KernelList routed_prefill();
KernelList latch_kernels();
KernelList graph_latch_kernels();

constexpr int kDecodeTiles = 3;
constexpr int kPrefillTiles = 3;
constexpr int kWgmmaTiles = 2;

// All of them in one numbering.
int kernel_count();
Kernel const* kernel_at(int index);  // null beyond the last
// The index of the kernel for these, -1 if there is none. A kernel of any width or grouping is one for each.
int find_kernel(Role role, w4axk_family family, int bits, int group, bool fused, int tile);

}  // namespace w4ax
