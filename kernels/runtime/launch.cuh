// Launches kernels: the only place that does.
#pragma once

#include "common/kernel.cuh"

#ifdef W4AX_EMULATE
#include "emulate/device.h"
#else
#include <cuda_runtime.h>
#endif

namespace w4ax {

struct Launch {
    Kernel const* kernel;
    dim3 grid;
    int shared_bytes;  // dynamic shared memory of a block
    bool pdl;          // programmatic dependent launch: may start before the previous launch has ended
    cudaStream_t stream;
};

// `Params` is the parameter type of the kernel's role. Under the emulator the launch is complete on return.
template <class Params>
cudaError_t launch(Launch const& l, Params const& params) {
#ifdef W4AX_EMULATE
    auto const function = reinterpret_cast<void (*)(Params)>(const_cast<void*>(l.kernel->function));
    w4ax_emulate::Grid grid;
    grid.grid = l.grid;
    grid.block = dim3(unsigned(l.kernel->threads));
    grid.dynamic_shared_bytes = std::size_t(l.shared_bytes);
    grid.overlaps_previous = l.pdl;
    grid.kernel = l.kernel->function;
    return w4ax_emulate::launch(grid, [function, params] { function(params); });
#else
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t const config = {
        .gridDim = l.grid,
        .blockDim = dim3(unsigned(l.kernel->threads)),
        .dynamicSmemBytes = size_t(l.shared_bytes),
        .stream = l.stream,
        .attrs = &attribute,
        .numAttrs = l.pdl ? 1u : 0u,
    };
    // Not the template cudaLaunchKernelEx, which only nvcc has: the software device compiles this file without it.
    void* arguments[] = {const_cast<Params*>(&params)};
    cudaError_t const error = cudaLaunchKernelExC(&config, l.kernel->function, arguments);
    // The returned status reports the error. Clearing it here keeps it from surfacing at a later call.
    if (error != cudaSuccess) cudaGetLastError();
    return error;
#endif
}

}  // namespace w4ax
