// The registry: all kernels of the library under one numbering.
#pragma once

#include "common/kernel.cuh"
#include "instances/kernel_list.h"

namespace w4ax {

#define W4AX_DECLARE_KERNELS(file) KernelList file##_kernels();
W4AX_KERNEL_FILES(W4AX_DECLARE_KERNELS)
#undef W4AX_DECLARE_KERNELS

int kernel_count();
// Returns null if the index is out of range.
Kernel const* kernel_at(int index);
// Returns the index of a kernel, or -1 if none exists. A kernel for any width or grouping matches each.
int find_kernel(Role role, w4axk_family family, int bits, int group, w4axk_mode mode, int tile);
// Returns the index of a kernel that is not a GEMM.
inline int find_kernel(Role role, int tile = 1) { return find_kernel(role, W4AXK_AUTO, 0, 0, W4AXK_FUSED, tile); }

}  // namespace w4ax
