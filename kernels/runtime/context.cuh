// Devices: the kernels that are loaded on them, and the context that a launch runs in.
//
// A kernel is loaded where it is first used. The driver loads a module, which is a file of instances/, with the first
// kernel of it that is used, and compiles its PTX then if the build has no machine code for the device. Drivers before
// CUDA 12.2, and others with CUDA_MODULE_LOADING=EAGER, load all modules with the first kernel.
#pragma once

#include "common/params.cuh"
#include "runtime/registry.cuh"

#include <cuda_runtime.h>

#include <atomic>

namespace w4ax {

// Returns the status of a runtime error, and keeps its text for w4axk_last_cuda_error.
w4axk_status status_of(cudaError_t error);

struct LoadedKernel {
    std::atomic<bool> ready{false};  // set last: the other field is constant from then on
    cudaFuncAttributes attributes;
};

struct Device {
    int ordinal;
    bool has_pdl;          // programmatic dependent launch: sm_90 and later
    bool has_wgmma;        // sm_90, and the build has code for sm_90a
    int max_shared_bytes;  // of a block
};

// Returns null if the device is not preloaded.
Device const* find_device(int ordinal);
// Loads a kernel on a device unless it is loaded there. It may be called during captures and by several threads. A
// failure is not remembered: the next call tries again. `loaded` may be null.
w4axk_status load_kernel(Device const& device, int kernel, LoadedKernel const** loaded = nullptr);

// Describes a BF16 matrix [rows, columns] for TMA: boxes of box_rows x 64 elements with a 128-byte swizzle. Its address
// and its stride in bytes are multiples of 16.
w4axk_status make_row_map(TensorMap& map, void const* x, int rows, int columns, int64_t stride, int box_rows);

#ifndef W4AX_EMULATE
// Sets `belongs` to whether a kernel node of a graph runs in the device's primary context.
w4axk_status belongs_to_device(Device const& device, cudaGraphNode_t node, bool* belongs);
#endif

// Streams that are captured into the body of a conditional node; graph.cu maintains the list.
bool is_capturing_body(cudaStream_t stream);
void register_body(cudaStream_t stream);
void unregister_body(cudaStream_t stream);

// Makes a device's primary context current for its lifetime, after checking that a stream belongs to it.
class ContextGuard {
public:
    ContextGuard() = default;
    ContextGuard(ContextGuard const&) = delete;
    ContextGuard& operator=(ContextGuard const&) = delete;
    ~ContextGuard();
    w4axk_status enter(Device const& device, cudaStream_t stream);

private:
    [[maybe_unused]] bool entered_ = false;  // the emulator has no contexts
};

}  // namespace w4ax
