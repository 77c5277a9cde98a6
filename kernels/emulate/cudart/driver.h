// The driver as the runtime's functions use it: found at the first use, as the static runtime does, so that a program
// starts without one.
#pragma once

#include "emulate/driver/kernel_interface.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

namespace w4ax_cudart {

// The functions of the driver that the runtime calls. <cuda.h> defines most names as macros for their newest version.
// clang-format off: it packs the names differently at each run.
#define W4AX_DRIVER_FUNCTIONS(F)         \
    F(cuInit)                            \
    F(cuDriverGetVersion)                \
    F(cuDeviceGetCount)                  \
    F(cuDeviceGet)                       \
    F(cuDeviceGetAttribute)              \
    F(cuDevicePrimaryCtxRetain)          \
    F(cuCtxGetCurrent)                   \
    F(cuCtxSetCurrent)                   \
    F(cuGetProcAddress)                  \
    F(cuGetErrorName)                    \
    F(cuGetErrorString)                  \
    F(cuFuncGetAttribute)                \
    F(cuFuncSetAttribute)                \
    F(cuLaunchKernelEx)                  \
    F(cuThreadExchangeStreamCaptureMode) \
    F(cuStreamIsCapturing)               \
    F(cuStreamBeginCaptureToGraph)       \
    F(cuStreamGetCaptureInfo)            \
    F(cuStreamEndCapture)                \
    F(cuGraphCreate)                     \
    F(cuGraphDestroy)                    \
    F(cuGraphConditionalHandleCreate)    \
    F(cuGraphAddNode)                    \
    F(cuGraphAddEmptyNode)               \
    F(cuGraphGetNodes)                   \
    F(cuGraphNodeGetType)                \
    F(cuGraphChildGraphNodeGetGraph)     \
    F(cuGraphInstantiate)                \
    F(cuGraphExecDestroy)                \
    F(cuGraphLaunch)                     \
    F(w4axDriverRegisterKernels)         \
    F(w4axDriverGetFunction)             \
    F(w4axDriverSetConditional)          \
    F(w4axDriverSetTensorMapEncoder)     \
    F(w4axDriverLastRefusal)
// clang-format on

struct Driver {
#define W4AX_DECLARE(name) decltype(&::name) name;
    W4AX_DRIVER_FUNCTIONS(W4AX_DECLARE)
#undef W4AX_DECLARE
    int version;
};

// Returns null if there is no driver.
Driver const* find_driver();

// Keeps an error for cudaGetLastError, and returns it.
cudaError_t record(cudaError_t error);
// Most errors of the runtime have the number of the driver's.
inline cudaError_t record(CUresult result) { return record(static_cast<cudaError_t>(result)); }

// Initializes the driver, and registers the kernels with it.
cudaError_t start(Driver const*& driver);
// As `start`, and makes the primary context of device 0 current if no context is.
cudaError_t start_in_context(Driver const*& driver);

// Calls a function of the driver in the current context. Drivers lack functions that are newer than they are.
template <class Member, class... Arguments>
cudaError_t call(Member function, Arguments... arguments) {
    Driver const* driver;
    if (cudaError_t const error = start_in_context(driver); error != cudaSuccess) return error;
    return driver->*function ? record((driver->*function)(arguments...)) : record(cudaErrorCallRequiresNewerDriver);
}

}  // namespace w4ax_cudart
