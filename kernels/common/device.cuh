// What device code is compiled by: nvcc for a GPU, or a host compiler with the emulator in kernels/emulate/. Every file that
// holds device code includes this one first; nothing else in this folder but ptx.cuh and launch.cuh knows the difference.
#pragma once

#ifdef W4AX_EMULATE
// Declares threadIdx and its like, the collectives, CuTe's leaf operations, and w4ax_emulate::dynamic_shared(alignment).
#include "emulate/device.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <cute/tensor.hpp>
#include <cute/atom/copy_atom.hpp>
#include <cute/atom/mma_atom.hpp>
#endif

#include <cstdint>

// The architecture that this pass compiles for, as __CUDA_ARCH__ has it. The emulator chooses it, and so tests both.
#if defined(W4AX_EMULATE)
#ifndef W4AX_EMULATE_ARCH
#define W4AX_EMULATE_ARCH 800
#endif
#define W4AX_ARCH W4AX_EMULATE_ARCH
#elif defined(__CUDA_ARCH__)
#define W4AX_ARCH __CUDA_ARCH__
#else
#define W4AX_ARCH 0  // nvcc's host pass: kernels are declared, not compiled
#endif

// The dynamic shared memory of a block.
#ifdef W4AX_EMULATE
#define W4AX_DYNAMIC_SHARED(name, alignment) \
    unsigned char* name = static_cast<unsigned char*>(::w4ax_emulate::dynamic_shared(alignment))
#define W4AX_GRID_CONSTANT
#else
#define W4AX_DYNAMIC_SHARED(name, alignment) extern __shared__ __align__(alignment) unsigned char name[]
// Parameters stay in constant memory instead of being copied to each thread's stack when their address is taken.
#define W4AX_GRID_CONSTANT __grid_constant__
#endif

#define W4AX_DEVICE __device__ __forceinline__

namespace w4ax {

constexpr uint32_t kAllLanes = 0xFFFFFFFFu;

// s4 tensor instructions exist up to sm_89; from sm_90 on the assembler would emulate them, so s8 does their work.
constexpr bool kHasS4 = W4AX_ARCH >= 800 && W4AX_ARCH < 900;

W4AX_DEVICE int warp_index() { return int(threadIdx.x) / 32; }
W4AX_DEVICE int lane_index() { return int(threadIdx.x) % 32; }

}  // namespace w4ax
