// The table of exported functions, and cuGetProcAddress.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "driver.h"
#include "entry.h"

namespace w4ax_driver {

namespace {

/// The symbol without its variant: cuMemAlloc of cuMemAlloc_v2.
std::string base_name(std::string const& symbol) {
    std::size_t const at = symbol.rfind("_v");
    bool const numbered = at != std::string::npos &&
                          symbol.find_first_not_of("0123456789", at + 2) == std::string::npos;
    return numbered && at + 2 < symbol.size() ? symbol.substr(0, at) : symbol;
}

#define W4AX_EXPORT(symbol, since) {#symbol, nullptr, since, reinterpret_cast<void*>(&symbol)}
Entry entries[] = {
    W4AX_EXPORT(cuCtxCreate_v2, 9000),
    W4AX_EXPORT(cuCtxCreate_v3, 11040),
    W4AX_EXPORT(cuCtxCreate_v4, 12050),
    W4AX_EXPORT(cuCtxDestroy_v2, 9000),
    W4AX_EXPORT(cuCtxEnablePeerAccess, 9000),
    W4AX_EXPORT(cuCtxGetApiVersion, 9000),
    W4AX_EXPORT(cuCtxGetCacheConfig, 9000),
    W4AX_EXPORT(cuCtxGetCurrent, 9000),
    W4AX_EXPORT(cuCtxGetDevice, 9000),
    W4AX_EXPORT(cuCtxGetFlags, 9000),
    W4AX_EXPORT(cuCtxGetId, 12000),
    W4AX_EXPORT(cuCtxGetLimit, 9000),
    W4AX_EXPORT(cuCtxGetStreamPriorityRange, 9000),
    W4AX_EXPORT(cuCtxPopCurrent_v2, 9000),
    W4AX_EXPORT(cuCtxPushCurrent_v2, 9000),
    W4AX_EXPORT(cuCtxSetCacheConfig, 9000),
    W4AX_EXPORT(cuCtxSetCurrent, 9000),
    W4AX_EXPORT(cuCtxSetFlags, 12010),
    W4AX_EXPORT(cuCtxSetLimit, 9000),
    W4AX_EXPORT(cuCtxSynchronize, 9000),
    W4AX_EXPORT(cuDeviceCanAccessPeer, 9000),
    W4AX_EXPORT(cuDeviceComputeCapability, 9000),
    W4AX_EXPORT(cuDeviceGet, 9000),
    W4AX_EXPORT(cuDeviceGetAttribute, 9000),
    W4AX_EXPORT(cuDeviceGetCount, 9000),
    W4AX_EXPORT(cuDeviceGetDefaultMemPool, 11020),
    W4AX_EXPORT(cuDeviceGetMemPool, 11020),
    W4AX_EXPORT(cuDeviceGetName, 9000),
    W4AX_EXPORT(cuDeviceGetPCIBusId, 9000),
    W4AX_EXPORT(cuDeviceGetUuid, 9000),
    W4AX_EXPORT(cuDeviceGetUuid_v2, 11040),
    W4AX_EXPORT(cuDevicePrimaryCtxGetState, 9000),
    W4AX_EXPORT(cuDevicePrimaryCtxRelease_v2, 11000),
    W4AX_EXPORT(cuDevicePrimaryCtxReset_v2, 11000),
    W4AX_EXPORT(cuDevicePrimaryCtxRetain, 9000),
    W4AX_EXPORT(cuDevicePrimaryCtxSetFlags_v2, 11000),
    W4AX_EXPORT(cuDeviceTotalMem_v2, 9000),
    W4AX_EXPORT(cuDriverGetVersion, 9000),
    W4AX_EXPORT(cuEventCreate, 9000),
    W4AX_EXPORT(cuEventDestroy_v2, 9000),
    W4AX_EXPORT(cuEventElapsedTime, 9000),
    W4AX_EXPORT(cuEventElapsedTime_v2, 12080),
    W4AX_EXPORT(cuEventQuery, 9000),
    W4AX_EXPORT(cuEventRecord, 9000),
    W4AX_EXPORT(cuEventRecordWithFlags, 11010),
    W4AX_EXPORT(cuEventSynchronize, 9000),
    W4AX_EXPORT(cuFuncGetAttribute, 9000),
    W4AX_EXPORT(cuFuncSetAttribute, 9000),
    W4AX_EXPORT(cuFuncSetCacheConfig, 9000),
    W4AX_EXPORT(cuGetErrorName, 9000),
    W4AX_EXPORT(cuGetErrorString, 9000),
    W4AX_EXPORT(cuGetProcAddress, 11030),
    W4AX_EXPORT(cuGetProcAddress_v2, 12000),
    W4AX_EXPORT(cuGraphAddChildGraphNode, 9000),
    W4AX_EXPORT(cuGraphAddDependencies, 9000),
    W4AX_EXPORT(cuGraphAddDependencies_v2, 12030),
    W4AX_EXPORT(cuGraphAddEmptyNode, 9000),
    W4AX_EXPORT(cuGraphAddHostNode, 9000),
    W4AX_EXPORT(cuGraphAddKernelNode_v2, 12000),
    W4AX_EXPORT(cuGraphAddMemcpyNode, 9000),
    W4AX_EXPORT(cuGraphAddMemsetNode, 9000),
    W4AX_EXPORT(cuGraphAddNode, 12020),
    W4AX_EXPORT(cuGraphAddNode_v2, 12030),
    W4AX_EXPORT(cuGraphChildGraphNodeGetGraph, 9000),
    W4AX_EXPORT(cuGraphClone, 10000),
    W4AX_EXPORT(cuGraphConditionalHandleCreate, 12030),
    W4AX_EXPORT(cuGraphCreate, 9000),
    W4AX_EXPORT(cuGraphDestroy, 9000),
    W4AX_EXPORT(cuGraphDestroyNode, 9000),
    W4AX_EXPORT(cuGraphExecDestroy, 9000),
    W4AX_EXPORT(cuGraphGetEdges, 9000),
    W4AX_EXPORT(cuGraphGetEdges_v2, 12030),
    W4AX_EXPORT(cuGraphGetNodes, 9000),
    W4AX_EXPORT(cuGraphGetRootNodes, 9000),
    W4AX_EXPORT(cuGraphInstantiateWithFlags, 11040),
    W4AX_EXPORT(cuGraphInstantiateWithParams, 12000),
    W4AX_EXPORT(cuGraphKernelNodeGetParams_v2, 12000),
    W4AX_EXPORT(cuGraphLaunch, 9000),
    W4AX_EXPORT(cuGraphNodeGetDependencies, 9000),
    W4AX_EXPORT(cuGraphNodeGetDependencies_v2, 12030),
    W4AX_EXPORT(cuGraphNodeGetType, 9000),
    W4AX_EXPORT(cuGraphUpload, 9000),
    W4AX_EXPORT(cuInit, 9000),
    W4AX_EXPORT(cuLaunchCooperativeKernel, 9000),
    W4AX_EXPORT(cuLaunchHostFunc, 10000),
    W4AX_EXPORT(cuLaunchKernel, 9000),
    W4AX_EXPORT(cuLaunchKernelEx, 11060),
    W4AX_EXPORT(cuMemAllocAsync, 11020),
    W4AX_EXPORT(cuMemAllocFromPoolAsync, 11020),
    W4AX_EXPORT(cuMemAllocHost_v2, 9000),
    W4AX_EXPORT(cuMemAlloc_v2, 9000),
    W4AX_EXPORT(cuMemFreeAsync, 11020),
    W4AX_EXPORT(cuMemFreeHost, 9000),
    W4AX_EXPORT(cuMemFree_v2, 9000),
    W4AX_EXPORT(cuMemGetAddressRange_v2, 9000),
    W4AX_EXPORT(cuMemGetInfo_v2, 9000),
    W4AX_EXPORT(cuMemHostAlloc, 9000),
    W4AX_EXPORT(cuMemHostGetDevicePointer_v2, 9000),
    W4AX_EXPORT(cuMemHostGetFlags, 9000),
    W4AX_EXPORT(cuMemHostRegister_v2, 9000),
    W4AX_EXPORT(cuMemHostUnregister, 9000),
    W4AX_EXPORT(cuMemPoolSetAttribute, 11020),
    W4AX_EXPORT(cuMemPoolTrimTo, 11020),
    W4AX_EXPORT(cuMemcpy, 9000),
    W4AX_EXPORT(cuMemcpy2DAsync_v2, 9000),
    W4AX_EXPORT(cuMemcpy3DAsync_v2, 9000),
    W4AX_EXPORT(cuMemcpyAsync, 9000),
    W4AX_EXPORT(cuMemcpyDtoDAsync_v2, 9000),
    W4AX_EXPORT(cuMemcpyDtoD_v2, 9000),
    W4AX_EXPORT(cuMemcpyDtoHAsync_v2, 9000),
    W4AX_EXPORT(cuMemcpyDtoH_v2, 9000),
    W4AX_EXPORT(cuMemcpyHtoDAsync_v2, 9000),
    W4AX_EXPORT(cuMemcpyHtoD_v2, 9000),
    W4AX_EXPORT(cuMemcpyPeerAsync, 9000),
    W4AX_EXPORT(cuMemsetD16Async, 9000),
    W4AX_EXPORT(cuMemsetD16_v2, 9000),
    W4AX_EXPORT(cuMemsetD2D8Async, 9000),
    W4AX_EXPORT(cuMemsetD32Async, 9000),
    W4AX_EXPORT(cuMemsetD32_v2, 9000),
    W4AX_EXPORT(cuMemsetD8Async, 9000),
    W4AX_EXPORT(cuMemsetD8_v2, 9000),
    W4AX_EXPORT(cuModuleGetFunction, 9000),
    W4AX_EXPORT(cuModuleLoadData, 9000),
    W4AX_EXPORT(cuModuleUnload, 9000),
    W4AX_EXPORT(cuPointerGetAttribute, 9000),
    W4AX_EXPORT(cuStreamAttachMemAsync, 9000),
    W4AX_EXPORT(cuStreamBeginCaptureToGraph, 12030),
    W4AX_EXPORT(cuStreamBeginCapture_v2, 10010),
    W4AX_EXPORT(cuStreamCreate, 9000),
    W4AX_EXPORT(cuStreamCreateWithPriority, 9000),
    W4AX_EXPORT(cuStreamDestroy_v2, 9000),
    W4AX_EXPORT(cuStreamEndCapture, 9000),
    W4AX_EXPORT(cuStreamGetCaptureInfo_v2, 11030),
    W4AX_EXPORT(cuStreamGetCaptureInfo_v3, 12030),
    W4AX_EXPORT(cuStreamGetCtx, 9000),
    W4AX_EXPORT(cuStreamGetDevice, 12080),
    W4AX_EXPORT(cuStreamGetFlags, 9000),
    W4AX_EXPORT(cuStreamGetId, 12000),
    W4AX_EXPORT(cuStreamGetPriority, 9000),
    W4AX_EXPORT(cuStreamIsCapturing, 9000),
    W4AX_EXPORT(cuStreamQuery, 9000),
    W4AX_EXPORT(cuStreamSynchronize, 9000),
    W4AX_EXPORT(cuStreamUpdateCaptureDependencies, 11030),
    W4AX_EXPORT(cuStreamUpdateCaptureDependencies_v2, 12030),
    W4AX_EXPORT(cuStreamWaitEvent, 9000),
    W4AX_EXPORT(cuTensorMapEncodeTiled, 12000),
    W4AX_EXPORT(cuThreadExchangeStreamCaptureMode, 10010),
    W4AX_EXPORT(w4axDriverRegisterKernels, 0),
    W4AX_EXPORT(w4axDriverGetFunction, 0),
    W4AX_EXPORT(w4axDriverSetConditional, 0),
};
#undef W4AX_EXPORT

void complete_names() {
    static bool completed = false;
    static std::mutex mutex;
    std::lock_guard<std::mutex> const lock(mutex);
    if (completed) return;
    completed = true;
    for (auto& entry : entries) {
        std::string const base = base_name(entry.symbol);
        entry.name = base == entry.symbol ? entry.symbol : strdup(base.c_str());  // kept for the life of the process
    }
}

CUresult find_entry(char const* name, void** function, int version, CUdriverProcAddressQueryResult* status) {
    W4AX_NOT_NULL(name);
    W4AX_NOT_NULL(function);
    *function = nullptr;
    if (version > play().driver) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "version %d: the driver is of %d", version, play().driver);
    }
    Entry const* best = nullptr;
    bool known = false;
    for (auto const& entry : entries) {
        if (std::strcmp(entry.name, name) != 0 || entry.since == 0) continue;
        known = true;
        if (entry.since > version) continue;
        if (!best || entry.since > best->since) best = &entry;
    }
    if (best) *function = best->function;
    if (status) {
        *status = best    ? CU_GET_PROC_ADDRESS_SUCCESS
                  : known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                          : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    }
    return CUDA_SUCCESS;  // also without a function
}

}  // namespace

bool is_exported(std::string const& function) {
    complete_names();
    for (auto const& entry : entries) {
        if (function == entry.symbol || function == entry.name) return true;
    }
    return false;
}

Entry& entry_of(char const* symbol) {
    complete_names();
    for (auto& entry : entries) {
        if (std::strcmp(entry.symbol, symbol) == 0) return entry;
    }
    std::fprintf(stderr, "the software driver's table lacks %s\n", symbol);
    std::abort();
}

}  // namespace w4ax_driver

using namespace w4ax_driver;

extern "C" {

CUresult cuGetProcAddress(char const* name, void** function, int version, cuuint64_t) {
    W4AX_ENTRY(cuGetProcAddress);
    W4AX_TRY(find_entry(name, function, version, nullptr));
    return *function ? CUDA_SUCCESS : refuse(CUDA_ERROR_NOT_FOUND, "%s of CUDA %d", name, version);
}
CUresult cuGetProcAddress_v2(char const* name, void** function, int version, cuuint64_t,
                             CUdriverProcAddressQueryResult* status) {
    W4AX_ENTRY(cuGetProcAddress_v2);
    return find_entry(name, function, version, status);
}

}  // extern "C"
