// The runtime's functions for devices, kernels and launches.
#include "emulate/cudart/driver.h"

#include <cstring>
#include <vector>

using namespace w4ax_cudart;

namespace {

// The function of a kernel in the current context.
cudaError_t find_function(void const* kernel, CUfunction* function) {
    cudaError_t const error = call(&Driver::w4axDriverGetFunction, function, kernel);
    // As the runtime reports a symbol that is not a kernel.
    return error == cudaErrorInvalidResourceHandle || error == cudaErrorSymbolNotFound
               ? record(cudaErrorInvalidDeviceFunction)
               : error;
}

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
    if (!count) return record(cudaErrorInvalidValue);
    *count = 0;
    Driver const* driver;
    cudaError_t const error = start(driver);
    return error == cudaSuccess ? record(driver->cuDeviceGetCount(count)) : error;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int ordinal) {
    Driver const* driver;
    if (cudaError_t const error = start(driver); error != cudaSuccess) return error;
    CUdevice device;
    CUresult result = driver->cuDeviceGet(&device, ordinal);
    // The numbers of the attributes are the driver's.
    if (result == CUDA_SUCCESS)
        result = driver->cuDeviceGetAttribute(value, static_cast<CUdevice_attribute>(attribute), device);
    return record(result);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void const* kernel) {
    if (!attributes) return record(cudaErrorInvalidValue);
    CUfunction function;
    if (cudaError_t const error = find_function(kernel, &function); error != cudaSuccess) return error;
    std::memset(attributes, 0, sizeof *attributes);
    int shared = 0, constant = 0, local = 0;
    struct {
        int* to;
        CUfunction_attribute attribute;
    } const all[] = {
        {&shared, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES},
        {&constant, CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES},
        {&local, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES},
        {&attributes->maxThreadsPerBlock, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK},
        {&attributes->numRegs, CU_FUNC_ATTRIBUTE_NUM_REGS},
        {&attributes->ptxVersion, CU_FUNC_ATTRIBUTE_PTX_VERSION},
        {&attributes->binaryVersion, CU_FUNC_ATTRIBUTE_BINARY_VERSION},
        {&attributes->maxDynamicSharedSizeBytes, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES},
    };
    for (auto const& one : all) {
        cudaError_t const error = call(&Driver::cuFuncGetAttribute, one.to, one.attribute, function);
        if (error != cudaSuccess) return error;
    }
    attributes->sharedSizeBytes = size_t(shared);
    attributes->constSizeBytes = size_t(constant);
    attributes->localSizeBytes = size_t(local);
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(void const* kernel, cudaFuncAttribute attribute, int value) {
    CUfunction function;
    if (cudaError_t const error = find_function(kernel, &function); error != cudaSuccess) return error;
    return call(&Driver::cuFuncSetAttribute, function, static_cast<CUfunction_attribute>(attribute), value);
}

cudaError_t cudaLaunchKernelExC(cudaLaunchConfig_t const* config, void const* kernel, void** arguments) {
    if (!config) return record(cudaErrorInvalidConfiguration);
    CUfunction function;
    if (cudaError_t const error = find_function(kernel, &function); error != cudaSuccess) return error;
    static_assert(sizeof(cudaLaunchAttribute) == sizeof(CUlaunchAttribute), "attributes are the driver's");
    std::vector<CUlaunchAttribute> attributes(config->numAttrs);
    if (config->numAttrs) std::memcpy(attributes.data(), config->attrs, config->numAttrs * sizeof(CUlaunchAttribute));
    CUlaunchConfig launch = {};
    launch.gridDimX = config->gridDim.x;
    launch.gridDimY = config->gridDim.y;
    launch.gridDimZ = config->gridDim.z;
    launch.blockDimX = config->blockDim.x;
    launch.blockDimY = config->blockDim.y;
    launch.blockDimZ = config->blockDim.z;
    launch.sharedMemBytes = static_cast<unsigned>(config->dynamicSmemBytes);
    launch.hStream = config->stream;
    launch.attrs = attributes.data();
    launch.numAttrs = config->numAttrs;
    return call(&Driver::cuLaunchKernelEx, &launch, function, arguments, static_cast<void**>(nullptr));
}

cudaError_t cudaGetDriverEntryPointByVersion(char const* symbol, void** function, unsigned version,
                                             unsigned long long flags, cudaDriverEntryPointQueryResult* status) {
    CUdriverProcAddressQueryResult found = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    Driver const* driver;
    if (cudaError_t const error = start(driver); error != cudaSuccess) return error;
    CUresult const result = driver->cuGetProcAddress(symbol, function, static_cast<int>(version), flags, &found);
    if (status) *status = static_cast<cudaDriverEntryPointQueryResult>(found);
    // A symbol that does not exist is reported by the status alone.
    return result == CUDA_ERROR_NOT_FOUND ? cudaSuccess : record(result);
}

}  // extern "C"
