// The kernels of the library as the host sees them. Each .cu of a family gives one list.
#pragma once

#include "params.cuh"
#include "w4ax_kernels.h"

namespace w4ax {

struct Kernel {
    void const* function;         // a `void (*)(Params)`
    w4axk_family family;          // W4AXK_AUTO: quantize_pack
    int bits;                     // 4 takes 2 as well; 0: any
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

constexpr int kDecodeTiles = 3;
constexpr int kPrefillTiles = 3;

// All of them in one numbering.
int kernel_count();
Kernel const* kernel_at(int index);  // null beyond the last
// The index of the kernel for these, -1 if there is none.
int find_kernel(w4axk_family family, int bits, int group, bool fused, int tile);

}  // namespace w4ax
