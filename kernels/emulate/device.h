// Included by kernels/common/device.cuh in place of CUDA's headers and CuTe: device code as plain C++17.
#pragma once

#ifdef NDEBUG
#error "the emulator needs assert: without it, CuTe's invalid control paths print and continue"
#endif

// CUDA declares threadIdx as const, so a compiler could keep it in a register across a switch of threads.
#define __DEVICE_LAUNCH_PARAMETERS_H__
#include <cuda_runtime.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// Small functions stay functions. -O1 inlines only always_inline functions, which make each kernel one huge function:
// with a sanitizer it takes twice as long to compile.
#undef __forceinline__
#define __forceinline__ inline

#include "emulate/cuda/intrinsics.h"
#include "emulate/cuda/intrinsics_bf16.h"
#include "emulate/cuda/cute_leaves.h"
#include "emulate/engine/launch.h"
#include "emulate/cuda/ptx.h"
#include "emulate/memory/shared_memory.h"

// To a host compiler `__shared__ int x;` is a variable of each thread, so it is an error. Kernels use the macro
// below, and W4AX_DYNAMIC_SHARED of kernels/common/device.cuh.
#undef __shared__
#define __shared__ _Pragma("GCC error \"__shared__ is not emulated: use W4AX_STATIC_SHARED or W4AX_DYNAMIC_SHARED\"")

/// `__shared__ type name;` inside a kernel or a device function.
#define W4AX_STATIC_SHARED(type, name)        \
    static char const name##_declaration = 0; \
    type& name = ::w4ax_emulate::static_shared<type>(&name##_declaration)
