// What device code includes in place of CUDA's headers and CuTe when it is compiled for the emulator, as plain C++17.
// (kernels/common/device.cuh does.)
#pragma once

#ifdef NDEBUG
#error "the emulator needs assert: without it CuTe's invalid control paths print and go on"
#endif

// CUDA declares threadIdx as const, and a compiler could keep it in a register across a switch of threads.
#define __DEVICE_LAUNCH_PARAMETERS_H__
#include <cuda_runtime.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// Small functions stay functions. -O1 inlines nothing but always_inline functions, and with those each kernel becomes one
// huge function: with a sanitizer it takes twice as long to compile.
#undef __forceinline__
#define __forceinline__ inline

#include "emulate/cuda/intrinsics.h"
#include "emulate/cuda/intrinsics_bf16.h"
#include "emulate/cuda/cute_leaves.h"
#include "emulate/engine/launch.h"
#include "emulate/cuda/ptx.h"
#include "emulate/memory/shared_memory.h"

// A host compiler takes `__shared__ int x;` for a variable of each thread: better an error. For what a block shares there are
// the two macros below (and W4AX_DYNAMIC_SHARED of kernels/common/device.cuh).
#undef __shared__
#define __shared__ _Pragma("GCC error \"__shared__ is not emulated: use W4AX_STATIC_SHARED or W4AX_DYNAMIC_SHARED\"")

/// `__shared__ type name;` inside a kernel or a function of it.
#define W4AX_STATIC_SHARED(type, name)     \
  static char const name##_declaration = 0; \
  type& name = ::w4ax_emulate::static_shared<type>(&name##_declaration)
