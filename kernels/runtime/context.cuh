// Devices: what is loaded where, and whose context a launch runs in.
#pragma once

#include "runtime/registry.cuh"

#include <cuda_runtime.h>

namespace w4ax {

// A status for an error of the runtime; keeps its text for w4axk_last_cuda_error.
w4axk_status status_of(cudaError_t error);

struct LoadedKernel {
    bool there;  // false: the driver is too old for this one
    cudaFuncAttributes attributes;
};

struct Device {
    int ordinal;
    bool has_pdl;             // sm_90 and later
    bool has_wgmma;           // sm_90, and the build has code for sm_90a
    int largest_shared_bytes; // of a block
};

// Null if the device is not preloaded.
Device const* find_device(int ordinal);
// Whatever was preloaded, `there` or not.
LoadedKernel const* find_loaded(int ordinal, int kernel);

// How tensor copies see a BF16 matrix [rows, columns]: boxes of box_rows x 64 elements, swizzled over 128 bytes. Its address and
// the stride in bytes are multiples of 16.
w4axk_status make_row_map(TensorMap& map, void const* x, int rows, int columns, int64_t stride, int box_rows);

#ifndef W4AX_EMULATE
// Whether a kernel node of a graph runs in the device's primary context.
w4axk_status is_kernel_of(Device const& device, cudaGraphNode_t node, bool* is);
#endif

// Whether a stream is being captured into the body of a conditional node (kernels/runtime/graph.cu says so).
bool captures_body(cudaStream_t stream);
void begins_body(cudaStream_t stream);
void ends_body(cudaStream_t stream);

// Makes a device's primary context current while it lives, after it has checked that a stream belongs to it.
class ContextGuard {
public:
    ContextGuard() = default;
    ContextGuard(ContextGuard const&) = delete;
    ContextGuard& operator=(ContextGuard const&) = delete;
    ~ContextGuard();
    w4axk_status enter(Device const& device, cudaStream_t stream);

private:
    bool entered_ = false;
};

}  // namespace w4ax
