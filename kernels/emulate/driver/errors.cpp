// Names and texts of the errors.
#include <cstring>

#include "play.h"

namespace w4ax_driver {

namespace {

struct ErrorText {
    CUresult result;
    char const* name;
    char const* text;
};
#define W4AX_ERROR(result, text) {result, #result, text}
constexpr ErrorText errors[] = {
    W4AX_ERROR(CUDA_SUCCESS, "no error"),
    W4AX_ERROR(CUDA_ERROR_INVALID_VALUE, "invalid value"),
    W4AX_ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    W4AX_ERROR(CUDA_ERROR_NOT_INITIALIZED, "not initialized"),
    W4AX_ERROR(CUDA_ERROR_DEINITIALIZED, "deinitialized"),
    W4AX_ERROR(CUDA_ERROR_PROFILER_DISABLED, "profiler disabled"),
    W4AX_ERROR(CUDA_ERROR_PROFILER_NOT_INITIALIZED, "profiler not initialized"),
    W4AX_ERROR(CUDA_ERROR_PROFILER_ALREADY_STARTED, "profiler already started"),
    W4AX_ERROR(CUDA_ERROR_PROFILER_ALREADY_STOPPED, "profiler already stopped"),
    W4AX_ERROR(CUDA_ERROR_STUB_LIBRARY, "stub library"),
    W4AX_ERROR(CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER, "call requires newer driver"),
    W4AX_ERROR(CUDA_ERROR_DEVICE_UNAVAILABLE, "device unavailable"),
    W4AX_ERROR(CUDA_ERROR_NO_DEVICE, "no device"),
    W4AX_ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device"),
    W4AX_ERROR(CUDA_ERROR_DEVICE_NOT_LICENSED, "device not licensed"),
    W4AX_ERROR(CUDA_ERROR_INVALID_IMAGE, "invalid image"),
    W4AX_ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid context"),
    W4AX_ERROR(CUDA_ERROR_CONTEXT_ALREADY_CURRENT, "context already current"),
    W4AX_ERROR(CUDA_ERROR_MAP_FAILED, "map failed"),
    W4AX_ERROR(CUDA_ERROR_UNMAP_FAILED, "unmap failed"),
    W4AX_ERROR(CUDA_ERROR_ARRAY_IS_MAPPED, "array is mapped"),
    W4AX_ERROR(CUDA_ERROR_ALREADY_MAPPED, "already mapped"),
    W4AX_ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU, "no binary for gpu"),
    W4AX_ERROR(CUDA_ERROR_ALREADY_ACQUIRED, "already acquired"),
    W4AX_ERROR(CUDA_ERROR_NOT_MAPPED, "not mapped"),
    W4AX_ERROR(CUDA_ERROR_NOT_MAPPED_AS_ARRAY, "not mapped as array"),
    W4AX_ERROR(CUDA_ERROR_NOT_MAPPED_AS_POINTER, "not mapped as pointer"),
    W4AX_ERROR(CUDA_ERROR_ECC_UNCORRECTABLE, "ecc uncorrectable"),
    W4AX_ERROR(CUDA_ERROR_UNSUPPORTED_LIMIT, "unsupported limit"),
    W4AX_ERROR(CUDA_ERROR_CONTEXT_ALREADY_IN_USE, "context already in use"),
    W4AX_ERROR(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "peer access unsupported"),
    W4AX_ERROR(CUDA_ERROR_INVALID_PTX, "invalid ptx"),
    W4AX_ERROR(CUDA_ERROR_INVALID_GRAPHICS_CONTEXT, "invalid graphics context"),
    W4AX_ERROR(CUDA_ERROR_NVLINK_UNCORRECTABLE, "nvlink uncorrectable"),
    W4AX_ERROR(CUDA_ERROR_JIT_COMPILER_NOT_FOUND, "jit compiler not found"),
    W4AX_ERROR(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "unsupported ptx version"),
    W4AX_ERROR(CUDA_ERROR_JIT_COMPILATION_DISABLED, "jit compilation disabled"),
    W4AX_ERROR(CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY, "unsupported exec affinity"),
    W4AX_ERROR(CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC, "unsupported devside sync"),
    W4AX_ERROR(CUDA_ERROR_CONTAINED, "contained"),
    W4AX_ERROR(CUDA_ERROR_INVALID_SOURCE, "invalid source"),
    W4AX_ERROR(CUDA_ERROR_FILE_NOT_FOUND, "file not found"),
    W4AX_ERROR(CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND, "shared object symbol not found"),
    W4AX_ERROR(CUDA_ERROR_SHARED_OBJECT_INIT_FAILED, "shared object init failed"),
    W4AX_ERROR(CUDA_ERROR_OPERATING_SYSTEM, "operating system"),
    W4AX_ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid handle"),
    W4AX_ERROR(CUDA_ERROR_ILLEGAL_STATE, "illegal state"),
    W4AX_ERROR(CUDA_ERROR_LOSSY_QUERY, "lossy query"),
    W4AX_ERROR(CUDA_ERROR_NOT_FOUND, "not found"),
    W4AX_ERROR(CUDA_ERROR_NOT_READY, "not ready"),
    W4AX_ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "illegal address"),
    W4AX_ERROR(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "launch out of resources"),
    W4AX_ERROR(CUDA_ERROR_LAUNCH_TIMEOUT, "launch timeout"),
    W4AX_ERROR(CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING, "launch incompatible texturing"),
    W4AX_ERROR(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "peer access already enabled"),
    W4AX_ERROR(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "peer access not enabled"),
    W4AX_ERROR(CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, "primary context active"),
    W4AX_ERROR(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
    W4AX_ERROR(CUDA_ERROR_ASSERT, "assert"),
    W4AX_ERROR(CUDA_ERROR_TOO_MANY_PEERS, "too many peers"),
    W4AX_ERROR(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "host memory already registered"),
    W4AX_ERROR(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "host memory not registered"),
    W4AX_ERROR(CUDA_ERROR_HARDWARE_STACK_ERROR, "hardware stack error"),
    W4AX_ERROR(CUDA_ERROR_ILLEGAL_INSTRUCTION, "illegal instruction"),
    W4AX_ERROR(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address"),
    W4AX_ERROR(CUDA_ERROR_INVALID_ADDRESS_SPACE, "invalid address space"),
    W4AX_ERROR(CUDA_ERROR_INVALID_PC, "invalid pc"),
    W4AX_ERROR(CUDA_ERROR_LAUNCH_FAILED, "launch failed"),
    W4AX_ERROR(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "cooperative launch too large"),
    W4AX_ERROR(CUDA_ERROR_TENSOR_MEMORY_LEAK, "tensor memory leak"),
    W4AX_ERROR(CUDA_ERROR_NOT_PERMITTED, "not permitted"),
    W4AX_ERROR(CUDA_ERROR_NOT_SUPPORTED, "not supported"),
    W4AX_ERROR(CUDA_ERROR_SYSTEM_NOT_READY, "system not ready"),
    W4AX_ERROR(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "system driver mismatch"),
    W4AX_ERROR(CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, "compat not supported on device"),
    W4AX_ERROR(CUDA_ERROR_MPS_CONNECTION_FAILED, "mps connection failed"),
    W4AX_ERROR(CUDA_ERROR_MPS_RPC_FAILURE, "mps rpc failure"),
    W4AX_ERROR(CUDA_ERROR_MPS_SERVER_NOT_READY, "mps server not ready"),
    W4AX_ERROR(CUDA_ERROR_MPS_MAX_CLIENTS_REACHED, "mps max clients reached"),
    W4AX_ERROR(CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED, "mps max connections reached"),
    W4AX_ERROR(CUDA_ERROR_MPS_CLIENT_TERMINATED, "mps client terminated"),
    W4AX_ERROR(CUDA_ERROR_CDP_NOT_SUPPORTED, "cdp not supported"),
    W4AX_ERROR(CUDA_ERROR_CDP_VERSION_MISMATCH, "cdp version mismatch"),
    W4AX_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "stream capture unsupported"),
    W4AX_ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "stream capture invalidated"),
    W4AX_ERROR(CUDA_ERROR_STREAM_CAPTURE_MERGE, "stream capture merge"),
    W4AX_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "stream capture unmatched"),
    W4AX_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "stream capture unjoined"),
    W4AX_ERROR(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "stream capture isolation"),
    W4AX_ERROR(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "stream capture implicit"),
    W4AX_ERROR(CUDA_ERROR_CAPTURED_EVENT, "captured event"),
    W4AX_ERROR(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "stream capture wrong thread"),
    W4AX_ERROR(CUDA_ERROR_TIMEOUT, "timeout"),
    W4AX_ERROR(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "graph exec update failure"),
    W4AX_ERROR(CUDA_ERROR_EXTERNAL_DEVICE, "external device"),
    W4AX_ERROR(CUDA_ERROR_INVALID_CLUSTER_SIZE, "invalid cluster size"),
    W4AX_ERROR(CUDA_ERROR_FUNCTION_NOT_LOADED, "function not loaded"),
    W4AX_ERROR(CUDA_ERROR_INVALID_RESOURCE_TYPE, "invalid resource type"),
    W4AX_ERROR(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, "invalid resource configuration"),
    W4AX_ERROR(CUDA_ERROR_KEY_ROTATION, "key rotation"),
    W4AX_ERROR(CUDA_ERROR_UNKNOWN, "unknown"),
};
#undef W4AX_ERROR

ErrorText const* find(CUresult result) {
    for (auto const& error : errors) {
        if (error.result == result) return &error;
    }
    return nullptr;
}

}  // namespace

char const* error_name(CUresult result) {
    auto const* found = find(result);
    return found ? found->name : nullptr;
}
char const* error_description(CUresult result) {
    auto const* found = find(result);
    return found ? found->text : nullptr;
}
bool error_of_name(std::string const& name, CUresult& result) {
    for (auto const& error : errors) {
        if (name != error.name) continue;
        result = error.result;
        return true;
    }
    return false;
}

}  // namespace w4ax_driver
