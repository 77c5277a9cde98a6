// The kernels of one architecture: a library of its own, loaded when the first of them is asked for. So the host code
// is built once, and the device that the driver plays selects the architecture.
#pragma once

#include "common/kernel.cuh"
#include "emulate/driver/kernel_interface.h"

#include <cstdint>

namespace w4ax_cudart {

struct Module {
    int compute_capability;  // 80, 90 or 120
    w4ax_kernel const* const* kernels;
    int kernel_count;
    // The list of a file of instances/, by its position in W4AX_KERNEL_FILES.
    w4ax::KernelList (*list)(int file);
    // Of the emulator: for cuTensorMapEncodeTiled.
    w4ax_tensor_map_encoder encode_map;
    // What device code calls for cudaGraphSetConditional.
    void (*use_conditionals)(decltype(&w4axDriverSetConditional) set, decltype(&w4axDriverLastRefusal) refusal);
};

// The module for the first device of the driver. Ends the process if its library is missing.
Module const& the_module();

}  // namespace w4ax_cudart

// The only function of the library libw4ax_emulated_kernels-ARCH.so.
extern "C" w4ax_cudart::Module const* w4ax_emulated_module(void);
