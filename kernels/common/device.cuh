// Selects the compiler of device code: nvcc for a GPU, or a host compiler with the emulator of kernels/emulate/.
// Every file with device code includes this file first.
// Apart from this file, only ptx.cuh, sm90.cuh, launch.cuh and context.cu distinguish the two.
#pragma once

#ifdef W4AX_EMULATE
// Declares threadIdx and the other built-ins, the collectives, CuTe's leaf operations and w4ax_emulate::dynamic_shared.
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

// The architecture of this compilation pass, in the units of __CUDA_ARCH__. The emulator selects it by a macro, so that
// both code paths are tested.
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

// Declares the dynamic shared memory of a block.
#ifdef W4AX_EMULATE
#define W4AX_DYNAMIC_SHARED(name, alignment) \
    unsigned char* name = static_cast<unsigned char*>(::w4ax_emulate::dynamic_shared(alignment))
#define W4AX_GRID_CONSTANT
#else
#define W4AX_DYNAMIC_SHARED(name, alignment) \
    extern __shared__ __align__(alignment)   \
    unsigned char name[]
// Keeps parameters in constant memory. Without it, each thread copies them to its stack when their address is taken.
#define W4AX_GRID_CONSTANT __grid_constant__
#endif

#define W4AX_DEVICE __device__ __forceinline__

namespace w4ax {

constexpr uint32_t kAllLanes = 0xFFFFFFFFu;  // mask of the warp-wide collectives

// s4 tensor-core instructions exist up to sm_89. From sm_90 on the assembler would emulate them, so s8 replaces them.
constexpr bool kHasS4 = W4AX_ARCH >= 800 && W4AX_ARCH < 900;

W4AX_DEVICE int warp_index() { return int(threadIdx.x) / 32; }
W4AX_DEVICE int lane_index() { return int(threadIdx.x) % 32; }

}  // namespace w4ax
