// The part of CUDA's runtime that the host code calls. Streams do not exist: a launch is complete when it returns
// (for TSan, after a synchronizing call).
#include <cuda_runtime_api.h>

#include <cstring>

#include "emulate/engine/block.h"
#include "emulate/engine/launch.h"

namespace {

cudaError_t last_error = cudaSuccess;

cudaError_t record(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

}  // namespace

extern "C" {

cudaError_t cudaGetLastError(void) {
    cudaError_t const error = w4ax_emulate::failed() ? cudaErrorLaunchFailure : last_error;
    last_error = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError(void) { return w4ax_emulate::failed() ? cudaErrorLaunchFailure : last_error; }

char const* cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "cudaSuccess";
        case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
        case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
        case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
        default: return "unknown error of the emulated runtime";
    }
}
char const* cudaGetErrorString(cudaError_t error) {
    if (error == cudaErrorLaunchFailure) return "the emulator detected an error: see w4ax_emulate_last_error";
    return cudaGetErrorName(error);
}

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return record(device ? cudaErrorInvalidDevice : cudaSuccess); }
cudaError_t cudaInitDevice(int device, unsigned, unsigned) { return cudaSetDevice(device); }
cudaError_t cudaFree(void*) { return cudaSuccess; }  // cudaFree(0) initializes a device
cudaError_t cudaDriverGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    if (device) return record(cudaErrorInvalidDevice);
    int const capability = w4ax_emulate::options.compute_capability;
    switch (attribute) {
        case cudaDevAttrComputeCapabilityMajor: *value = capability / 10; break;
        case cudaDevAttrComputeCapabilityMinor: *value = capability % 10; break;
        case cudaDevAttrMultiProcessorCount: *value = 4; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = int(w4ax_emulate::largest_shared_bytes()); break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
            *value = int(w4ax_emulate::largest_shared_bytes()) + 1024;
            break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = 48 << 10; break;
        case cudaDevAttrReservedSharedMemoryPerBlock: *value = 1024; break;
        case cudaDevAttrMaxThreadsPerBlock: *value = w4ax_emulate::max_threads; break;
        case cudaDevAttrWarpSize: *value = 32; break;
        default: return record(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(void const* kernel, cudaFuncAttribute attribute, int value) {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    return record(value < 0 ? cudaErrorInvalidValue : w4ax_emulate::allow_dynamic_shared(kernel, value));
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void const*) {
    std::memset(attributes, 0, sizeof *attributes);
    attributes->maxThreadsPerBlock = w4ax_emulate::max_threads;
    attributes->binaryVersion = attributes->ptxVersion = w4ax_emulate::options.compute_capability;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaStreamGetDevice(cudaStream_t, int* device) { return cudaGetDevice(device); }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return w4ax_emulate::synchronize(); }
cudaError_t cudaDeviceSynchronize(void) { return w4ax_emulate::synchronize(); }
cudaError_t cudaMemsetAsync(void* bytes, int value, size_t count, cudaStream_t) {
    w4ax_emulate::synchronize();
    std::memset(bytes, value, count);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, void const* from, size_t count, cudaMemcpyKind, cudaStream_t) {
    w4ax_emulate::synchronize();
    std::memcpy(to, from, count);
    return cudaSuccess;
}

}  // extern "C"
