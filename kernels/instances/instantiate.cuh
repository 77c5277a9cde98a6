// Instantiates the kernels of one file of the kernel list, and defines the function that lists them for the registry.
#pragma once

#include "common/kernel.cuh"
#include "instances/kernel_list.h"

#define W4AX_KERNEL_ENTRY(function, tile, ...) make_kernel<__VA_ARGS__>(&function<__VA_ARGS__>, tile),

#define W4AX_INSTANTIATE(file)                                                    \
    namespace w4ax {                                                              \
    KernelList file##_kernels() {                                                 \
        static Kernel const kernels[] = {W4AX_KERNELS_##file(W4AX_KERNEL_ENTRY)}; \
        return {kernels, int(sizeof kernels / sizeof kernels[0])};                \
    }                                                                             \
    }
