// The one place where a kernel is launched.
#pragma once

#include "runtime/registry.cuh"

#ifdef W4AX_EMULATE
#include "emulate/device.h"
#else
#include <cuda_runtime.h>
#endif

namespace w4ax {

struct Launch {
    Kernel const* kernel;
    dim3 grid;
    int shared_bytes;
    bool pdl;  // may start before the launch before it has ended
    cudaStream_t stream;
};

// `Params` must be what the kernel takes. Under the emulator the launch is complete when this returns.
template <class Params>
cudaError_t launch(Launch const& l, Params const& params) {
    auto const function = reinterpret_cast<void (*)(Params)>(const_cast<void*>(l.kernel->function));
#ifdef W4AX_EMULATE
    w4ax_emulate::Grid grid;
    grid.grid = l.grid;
    grid.block = dim3(unsigned(l.kernel->threads));
    grid.dynamic_shared_bytes = std::size_t(l.shared_bytes);
    grid.overlaps_previous = l.pdl;
    grid.kernel = l.kernel->function;
    return w4ax_emulate::launch(grid, [function, params] { function(params); });
#else
    cudaLaunchAttribute attribute;
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = l.grid;
    config.blockDim = dim3(unsigned(l.kernel->threads));
    config.dynamicSmemBytes = size_t(l.shared_bytes);
    config.stream = l.stream;
    config.attrs = &attribute;
    config.numAttrs = l.pdl ? 1 : 0;
    cudaError_t const error = cudaLaunchKernelEx(&config, function, params);
    // It is told by the status, and must not come up again at somebody's next call.
    if (error != cudaSuccess) cudaGetLastError();
    return error;
#endif
}

}  // namespace w4ax
