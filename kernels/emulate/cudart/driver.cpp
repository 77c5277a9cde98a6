#include "emulate/cudart/driver.h"

#include "emulate/cudart/module.h"

#include <dlfcn.h>
#include <mutex>

namespace w4ax_cudart {

namespace {

thread_local cudaError_t last_error = cudaSuccess;

Driver const* load() {
    void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!library) return nullptr;
    static Driver driver;
#define W4AX_STRING(name) #name
#define W4AX_LOAD(name) driver.name = reinterpret_cast<decltype(driver.name)>(dlsym(library, W4AX_STRING(name)));
    W4AX_DRIVER_FUNCTIONS(W4AX_LOAD)
#undef W4AX_LOAD
    // A real driver has no kernels of ours.
    if (!driver.w4axDriverRegisterKernels || !driver.w4axDriverGetFunction) return nullptr;
    if (driver.cuDriverGetVersion(&driver.version) != CUDA_SUCCESS) return nullptr;
    return &driver;
}

cudaError_t initialize(Driver const& driver) {
    if (CUresult const result = driver.cuInit(0); result != CUDA_SUCCESS) return static_cast<cudaError_t>(result);
    int devices = 0;
    CUresult result = driver.cuDeviceGetCount(&devices);
    if (result == CUDA_SUCCESS && devices == 0) return cudaErrorNoDevice;
    if (result == CUDA_SUCCESS) {
        Module const& module = the_module();
        result = driver.w4axDriverRegisterKernels(W4AX_DRIVER_INTERFACE, module.kernels, module.kernel_count,
                                                  module.compute_capability);
        driver.w4axDriverSetTensorMapEncoder(module.encode_map);
        module.use_conditionals(driver.w4axDriverSetConditional, driver.w4axDriverLastRefusal);
    }
    return static_cast<cudaError_t>(result);
}

}  // namespace

Driver const* find_driver() {
    static Driver const* const driver = load();
    return driver;
}

cudaError_t record(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

cudaError_t start(Driver const*& driver) {
    driver = find_driver();
    if (!driver) return record(cudaErrorInsufficientDriver);
    static cudaError_t const error = initialize(*driver);
    return record(error);
}

cudaError_t start_in_context(Driver const*& driver) {
    if (cudaError_t const error = start(driver); error != cudaSuccess) return error;
    CUcontext context = nullptr;
    CUresult result = driver->cuCtxGetCurrent(&context);
    if (result == CUDA_SUCCESS && !context) {
        CUdevice device;
        result = driver->cuDeviceGet(&device, 0);
        if (result == CUDA_SUCCESS) result = driver->cuDevicePrimaryCtxRetain(&context, device);
        if (result == CUDA_SUCCESS) result = driver->cuCtxSetCurrent(context);
    }
    return record(result);
}

}  // namespace w4ax_cudart

using namespace w4ax_cudart;

extern "C" {

cudaError_t cudaGetLastError(void) {
    cudaError_t const error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void) { return last_error; }

cudaError_t cudaDriverGetVersion(int* version) {
    Driver const* const driver = find_driver();
    *version = driver ? driver->version : 0;
    return cudaSuccess;
}

// The runtime of a toolkit of the driver's major version: a runtime of CUDA 13 refuses drivers of CUDA 12.
cudaError_t cudaRuntimeGetVersion(int* version) {
    Driver const* const driver = find_driver();
    *version = driver && driver->version < 13000 ? 12000 : CUDART_VERSION;
    return cudaSuccess;
}

char const* cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "cudaSuccess";
        case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
        case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
        case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
        case cudaErrorCallRequiresNewerDriver: return "cudaErrorCallRequiresNewerDriver";
        case cudaErrorNoDevice: return "cudaErrorNoDevice";
        case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
        case cudaErrorNoKernelImageForDevice: return "cudaErrorNoKernelImageForDevice";
        case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
        default: break;
    }
    char const* name = nullptr;
    Driver const* const driver = find_driver();
    bool const known = driver && driver->cuGetErrorName &&
                       driver->cuGetErrorName(static_cast<CUresult>(error), &name) == CUDA_SUCCESS;
    return known && name ? name : "unrecognized error code";
}

char const* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "no error";
        case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
        case cudaErrorCallRequiresNewerDriver: return "API call is not supported in the installed CUDA driver";
        default: break;
    }
    char const* text = nullptr;
    Driver const* const driver = find_driver();
    bool const known = driver && driver->cuGetErrorString &&
                       driver->cuGetErrorString(static_cast<CUresult>(error), &text) == CUDA_SUCCESS;
    return known && text ? text : "unrecognized error code";
}

}  // extern "C"
