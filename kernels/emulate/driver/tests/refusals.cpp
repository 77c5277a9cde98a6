// What is refused: handles, memory, launches.
#include <cstring>

#include "test.h"

using namespace test;

namespace {

constexpr CUresult invalid_value = CUDA_ERROR_INVALID_VALUE, invalid_handle = CUDA_ERROR_INVALID_HANDLE;

CUevent make_event() {
    CUevent event = nullptr;
    OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    return event;
}
CUresult launch_shape(CUstream stream, char const& key, unsigned grid, unsigned threads, unsigned shared,
                      CUlaunchAttribute* attribute = nullptr, CUdeviceptr at = 0) {
    AddParams params = {reinterpret_cast<std::uint32_t*>(at), 0, 1};
    void* parameters[] = {&params};
    CUlaunchConfig const config = {grid, 1, 1, threads, 1, 1, shared, stream, attribute, attribute ? 1u : 0u};
    return cuLaunchKernelEx(&config, function(key), parameters, nullptr);
}

}  // namespace

TEST(refuses_calls_before_init, "") {
    int count = 0;
    CUcontext context = nullptr;
    REFUSED(CUDA_ERROR_NOT_INITIALIZED, "cuInit", cuDeviceGetCount(&count));
    REFUSED(CUDA_ERROR_NOT_INITIALIZED, "cuInit", cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuDriverGetVersion(&count));
    OK(cuInit(0));
    REFUSED(invalid_value, "flags", cuInit(1));
}

TEST(refuses_wrong_devices_and_contexts, "") {
    Device device;
    CUdevice number = 0;
    CUcontext context = nullptr;
    size_t bytes = 0;
    REFUSED(CUDA_ERROR_INVALID_DEVICE, "device 1 of 1", cuDeviceGet(&number, 1));
    REFUSED(CUDA_ERROR_INVALID_DEVICE, "device -1", cuDeviceTotalMem(&bytes, -1));
    REFUSED(CUDA_ERROR_INVALID_CONTEXT, "is no context", cuCtxSetCurrent(reinterpret_cast<CUcontext>(0x1234)));
    REFUSED(CUDA_ERROR_INVALID_CONTEXT, "primary", cuCtxDestroy(device.context));
    OK(cuCtxCreate_v4(&context, nullptr, 0, 0));
    CUcontext popped = nullptr;
    OK(cuCtxPopCurrent(&popped));
    OK(cuCtxSetCurrent(context));
    OK(cuCtxPushCurrent(context));
    OK(cuCtxDestroy(context));  // still below on the stack
    REFUSED(CUDA_ERROR_CONTEXT_IS_DESTROYED, "destroyed", cuCtxSynchronize());
    REFUSED(CUDA_ERROR_INVALID_CONTEXT, "was destroyed", cuCtxDestroy(context));
    OK(cuCtxSetCurrent(nullptr));
    REFUSED(CUDA_ERROR_INVALID_CONTEXT, "no current context", cuCtxSynchronize());
    REFUSED(CUDA_ERROR_INVALID_CONTEXT, "no current context", cuCtxPopCurrent(&popped));
    OK(cuCtxSetCurrent(device.context));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuDevicePrimaryCtxRelease(0));
    OK(cuDevicePrimaryCtxRelease(0));
    REFUSED(CUDA_ERROR_INVALID_CONTEXT, "not retained", cuDevicePrimaryCtxRelease(0));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
}

TEST(refuses_freed_and_wrong_handles, "") {
    Device device;
    CUstream const stream = make_stream();
    CUevent const event = make_event();
    REFUSED(invalid_handle, "a event was passed", cuStreamSynchronize(reinterpret_cast<CUstream>(event)));
    REFUSED(invalid_handle, "a stream was passed", cuEventSynchronize(reinterpret_cast<CUevent>(stream)));
    OK(cuStreamDestroy(stream));
    OK(cuEventDestroy(event));
    REFUSED(invalid_handle, "the stream was destroyed", cuStreamDestroy(stream));
    REFUSED(invalid_handle, "the stream was destroyed", cuStreamSynchronize(stream));
    REFUSED(invalid_handle, "the event was destroyed", cuEventDestroy(event));
    REFUSED(invalid_handle, "the event was destroyed", cuEventRecord(event, nullptr));
    REFUSED(invalid_handle, "null", cuEventSynchronize(nullptr));
    CUevent unused = nullptr;
    REFUSED(invalid_value, "flags", cuEventCreate(&unused, 0x100));
    CUstream made = nullptr;
    REFUSED(invalid_value, "flags", cuStreamCreate(&made, 8));
    expect_clean();
}

TEST(refuses_foreign_contexts, "") {
    Device device;
    CUstream const stream = make_stream();
    CUevent const event = make_event();
    CUdeviceptr const at = zeros(4);
    CUfunction const kernel = function(add_key);
    CUcontext other = nullptr;
    OK(cuCtxCreate_v4(&other, nullptr, 0, 0));
    CUstream const foreign = make_stream();
    CUevent const foreign_event = make_event();
    REFUSED(invalid_handle, "different contexts", cuEventRecord(event, foreign));
    REFUSED(invalid_handle, "different contexts", cuEventRecord(foreign_event, stream));
    REFUSED(invalid_value, "of another context", cuMemsetD8Async(at, 0, 4, foreign));
    std::uint32_t word = 0;
    REFUSED(invalid_value, "of another context", cuMemcpyDtoHAsync(&word, at, 4, foreign));
    REFUSED(invalid_value, "another context", cuMemFreeAsync(at, foreign));
    AddParams params = {nullptr, 0, 1};
    void* parameters[] = {&params};
    REFUSED(invalid_handle, "different contexts",
            cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, foreign, parameters, nullptr));
    REFUSED(invalid_handle, "than the current one",
            cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, stream, parameters, nullptr));
    // A kernel that reads memory of another context fails its own context.
    OK(launch_add(foreign, at, 1, 1));
    REFUSED(CUDA_ERROR_ILLEGAL_ADDRESS, "of another context", cuStreamSynchronize(foreign));
    OK(cuCtxSetCurrent(device.context));
    OK(cuCtxSynchronize());
    // Waiting for an event of another context is allowed, but that context failed.
    OK(cuMemFree(at));
    OK(cuStreamDestroy(stream));
    OK(cuEventDestroy(event));
    std::string const text = w4axDriverReport();
    EXPECT(text.find("leaked: a context of device 0") != std::string::npos);
    OK(cuCtxDestroy(other));
    RETURNS(invalid_handle, cuStreamDestroy(foreign));
}

TEST(two_devices, "devices=2", 86, "leaked or damaged: 16 bytes of cuMemAlloc_v2") {
    Device first(0), second(1);
    EXPECT(first.context != second.context);
    CUdeviceptr const there = zeros(4);
    CUstream const stream = make_stream();
    OK(cuCtxSetCurrent(first.context));
    CUdeviceptr const here = zeros(4);
    int can = 1;
    OK(cuDeviceCanAccessPeer(&can, 0, 1));
    EXPECT(can == 0);
    REFUSED(invalid_value, "of another context", cuMemcpyDtoDAsync(there, here, 4, stream));
    OK(cuMemsetD32(here, 5, 1));
    OK(cuCtxSynchronize());
    OK(cuMemcpyPeerAsync(there, second.context, here, first.context, 4, stream));
    OK(cuStreamSynchronize(stream));
    OK(cuCtxSetCurrent(second.context));
    EXPECT(read(there) == 5);
    OK(cuStreamDestroy(stream));
    OK(cuMemFree(there));
    // `here` is lost with its context.
}

TEST(refuses_wrong_memory, "memory=1") {
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr at = 0, more = 0;
    char host[64] = {};
    REFUSED(invalid_value, "0 bytes", cuMemAlloc(&at, 0));
    REFUSED(CUDA_ERROR_OUT_OF_MEMORY, "do not hold", cuMemAlloc(&at, 2 << 20));
    REFUSED(CUDA_ERROR_OUT_OF_MEMORY, "do not hold", cuMemAllocAsync(&at, 2 << 20, stream));
    at = zeros(16);
    REFUSED(CUDA_ERROR_OUT_OF_MEMORY, "64 are in use", cuMemAlloc(&more, (1 << 20) - 63));
    auto const host_address = reinterpret_cast<CUdeviceptr>(host);
    REFUSED(invalid_value, "no memory of the driver", cuMemcpyHtoD(host_address, host, 4));
    REFUSED(invalid_value, "no memory of the driver", cuMemcpyHtoDAsync(host_address, host, 4, stream));
    REFUSED(invalid_value, "no memory of the driver", cuMemcpyDtoHAsync(host, host_address, 4, stream));
    REFUSED(invalid_value, "no memory of the driver", cuMemcpyDtoDAsync(at, host_address, 4, stream));
    REFUSED(invalid_value, "where host memory is expected",
            cuMemcpyHtoDAsync(at, reinterpret_cast<void*>(at), 4, stream));
    REFUSED(invalid_value, "where host memory is expected", cuMemcpyDtoH(reinterpret_cast<void*>(at), at, 4));
    REFUSED(invalid_value, "null", cuMemcpyHtoDAsync(at, nullptr, 4, stream));
    REFUSED(invalid_value, "65 bytes at", cuMemcpyHtoDAsync(at, host, 65, stream));
    REFUSED(invalid_value, "byte 60 of 64", cuMemcpyHtoDAsync(at + 60, host, 8, stream));
    REFUSED(invalid_value, "65 bytes", cuMemsetD8Async(at, 0, 65, stream));
    REFUSED(invalid_value, "no multiple of 4", cuMemsetD32Async(at + 2, 0, 1, stream));
    REFUSED(invalid_value, "no multiple of 2", cuMemsetD16Async(at + 1, 0, 1, stream));
    REFUSED(invalid_value, "no memory of the driver", cuMemsetD8(host_address, 0, 4));
    REFUSED(invalid_value, "is not the beginning", cuMemFree(at + 8));
    REFUSED(invalid_value, "is not the beginning", cuMemFree(host_address));
    REFUSED(invalid_value, "freed by another function", cuMemFreeHost(reinterpret_cast<void*>(at)));
    OK(cuMemFree(at));
    REFUSED(invalid_value, "freed before", cuMemFree(at));
    REFUSED(invalid_value, "freed before", cuMemFreeAsync(at, stream));
    REFUSED(invalid_value, "freed device memory", cuMemcpyHtoDAsync(at, host, 4, stream));
    OK(cuMemAllocAsync(&at, 64, stream));
    OK(cuMemFreeAsync(at, stream));
    REFUSED(invalid_value, "freed before", cuMemFreeAsync(at, stream));
    REFUSED(invalid_value, "device memory of", cuMemsetD8Async(at, 0, 4, stream));
    OK(cuStreamSynchronize(stream));
    OK(cuStreamDestroy(stream));
    expect_clean();
}

TEST(refuses_wrong_host_memory, "") {
    Device device;
    void *plain = nullptr, *portable = nullptr;
    CUdeviceptr at = 0;
    char host[64];
    OK(cuMemHostAlloc(&plain, 64, 0));
    OK(cuMemHostAlloc(&portable, 64, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP));
    REFUSED(invalid_value, "flags", cuMemHostAlloc(&plain, 64, 0x80));
    REFUSED(invalid_value, "DEVICEMAP", cuMemHostGetDevicePointer(&at, plain, 0));
    REFUSED(invalid_value, "no memory of the driver", cuMemHostGetDevicePointer(&at, host, 0));
    REFUSED(invalid_value, "flags", cuMemHostGetDevicePointer(&at, portable, 1));
    REFUSED(invalid_value, "is not the beginning", cuMemFreeHost(host));
    REFUSED(invalid_value, "another function", cuMemFree(reinterpret_cast<CUdeviceptr>(plain)));
    CUcontext other = nullptr;
    OK(cuCtxCreate_v4(&other, nullptr, 0, 0));
    REFUSED(invalid_value, "of another context", cuMemHostGetDevicePointer(&at, plain, 0));
    OK(cuMemHostGetDevicePointer(&at, portable, 0));
    OK(cuCtxDestroy(other));
    OK(cuMemHostRegister(host, sizeof host, CU_MEMHOSTREGISTER_DEVICEMAP));
    REFUSED(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "byte 0", cuMemHostRegister(host, sizeof host, 0));
    OK(cuMemHostGetDevicePointer(&at, host, 0));
    OK(cuMemHostUnregister(host));
    REFUSED(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "no registered", cuMemHostUnregister(host));
    unsigned type = 0;
    OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<CUdeviceptr>(plain)));
    EXPECT(type == CU_MEMORYTYPE_HOST);
    REFUSED(invalid_value, "no memory", cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 16));
    OK(cuMemFreeHost(plain));
    REFUSED(invalid_value, "freed before", cuMemFreeHost(plain));
    OK(cuMemFreeHost(portable));
    expect_clean();
}

TEST(refuses_wrong_launches, "arch=80") {
    Device device;
    CUstream const stream = make_stream();
    REFUSED(invalid_value, "0 x 1 x 1 blocks", launch_shape(stream, add_key, 0, 32, 0));
    REFUSED(invalid_value, "0 x 1 x 1 threads", launch_shape(stream, add_key, 1, 0, 0));
    REFUSED(invalid_value, "2048 x 1 x 1 threads", launch_shape(stream, add_key, 1, 2048, 0));
    REFUSED(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "at most 256", launch_shape(stream, add_key, 1, 288, 0));
    REFUSED(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "of 128 registers", launch_shape(stream, big_key, 1, 1024, 0));
    REFUSED(invalid_value, "allowed 49152", launch_shape(stream, big_key, 1, 32, 49153));
    CUfunction const big = function(big_key);
    auto const dynamic = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // 163 KiB of a block on sm_80, of which 1 KiB is static.
    REFUSED(invalid_value, "at most 165888 on sm_80", cuFuncSetAttribute(big, dynamic, (162 << 10) + 1));
    REFUSED(invalid_value, "-1 bytes", cuFuncSetAttribute(big, dynamic, -1));
    REFUSED(invalid_value, "cannot be set", cuFuncSetAttribute(big, CU_FUNC_ATTRIBUTE_NUM_REGS, 1));
    REFUSED(invalid_value, "at most", cuFuncSetAttribute(function(add_key), dynamic, 164 << 10));
    OK(cuFuncSetAttribute(big, dynamic, 162 << 10));
    OK(launch_shape(stream, big_key, 1, 32, 162 << 10));
    CUlaunchAttribute attribute = {};
    attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "on sm_80", launch_shape(stream, add_key, 1, 32, 0, &attribute));
    attribute = {};
    attribute.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attribute.value.clusterDim = {2, 1, 1};
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "clusters on sm_80", launch_shape(stream, add_key, 2, 32, 0, &attribute));
    attribute = {};
    attribute.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "launch attribute", launch_shape(stream, add_key, 1, 32, 0, &attribute));
    AddParams params = {nullptr, 0, 1};
    void* parameters[] = {&params};
    CUfunction const add = function(add_key);
    REFUSED(invalid_value, "parameter of add is null",
            cuLaunchKernel(add, 1, 1, 1, 32, 1, 1, 0, stream, nullptr, nullptr));
    REFUSED(invalid_handle, "a stream was passed",
            cuLaunchKernel(reinterpret_cast<CUfunction>(stream), 1, 1, 1, 32, 1, 1, 0, stream, parameters, nullptr));
    CUfunction other = nullptr;
    REFUSED(CUDA_ERROR_NO_BINARY_FOR_GPU, "code for sm_90", w4axDriverGetFunction(&other, &other_key));
    REFUSED(CUDA_ERROR_NOT_FOUND, "no kernel", w4axDriverGetFunction(&other, &params));
    REFUSED(invalid_value, "interface version 9", w4axDriverRegisterKernels(9, nullptr, 0, 80));
    OK(cuStreamSynchronize(stream));
    OK(cuStreamDestroy(stream));
    expect_clean();
}

TEST(shared_memory_by_architecture, "arch=120") {
    Device device;
    CUfunction const big = function(big_key);
    auto const dynamic = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    OK(cuFuncSetAttribute(big, dynamic, 98 << 10));
    REFUSED(invalid_value, "on sm_120", cuFuncSetAttribute(big, dynamic, (98 << 10) + 1));
    int value = 0;
    OK(cuFuncGetAttribute(&value, dynamic, big));
    EXPECT(value == 98 << 10);
    OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_BINARY_VERSION, big));
    EXPECT(value == 120);
}

TEST(shared_memory_of_hopper, "arch=90") {
    Device device;
    // The kernel itself declares 200 KiB, the device would have 226.
    REFUSED(invalid_value, "at most 204800",
            cuFuncSetAttribute(function(big_key), CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (200 << 10) + 1));
    CUfunction made = nullptr;
    OK(w4axDriverGetFunction(&made, &other_key));
}

TEST(refuses_wrong_events, "") {
    Device device;
    CUevent const plain = make_event();
    CUevent timed = nullptr;
    OK(cuEventCreate(&timed, CU_EVENT_DEFAULT));
    float milliseconds = 0;
    REFUSED(invalid_handle, "DISABLE_TIMING", cuEventElapsedTime(&milliseconds, plain, timed));
    REFUSED(invalid_handle, "never recorded", cuEventElapsedTime(&milliseconds, timed, timed));
    CUstream const stream = make_stream();
    void* host = nullptr;
    OK(cuMemHostAlloc(&host, 8, CU_MEMHOSTALLOC_DEVICEMAP));
    auto* const flag = static_cast<std::uint32_t*>(host);
    flag[0] = 0;
    PollParams poll = {flag, flag + 1};
    OK(launch(stream, poll_key, &poll));
    OK(cuEventRecord(timed, stream));
    REFUSED(CUDA_ERROR_NOT_READY, "has not ended", cuEventQuery(timed));
    REFUSED(CUDA_ERROR_NOT_READY, "has not ended", cuEventElapsedTime(&milliseconds, timed, timed));
    __atomic_store_n(flag, 1u, __ATOMIC_RELEASE);
    OK(cuEventSynchronize(timed));
    REFUSED(invalid_value, "outside of a capture", cuEventRecordWithFlags(timed, stream, CU_EVENT_RECORD_EXTERNAL));
    OK(cuMemFreeHost(host));
    OK(cuStreamDestroy(stream));
    OK(cuEventDestroy(plain));
    OK(cuEventDestroy(timed));
    expect_clean();
}

TEST(refuses_tensor_maps, "arch=90") {
    Device device;
    CUdeviceptr const at = zeros(1024);
    static int encoded = 0;
    auto const encode = [&](CUdeviceptr address, cuuint64_t stride, cuuint32_t columns, CUtensorMap* map) {
        cuuint64_t const extents[] = {64, 16}, strides[] = {stride};
        cuuint32_t const box[] = {columns, 8}, steps[] = {1, 1};
        return cuTensorMapEncodeTiled(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, reinterpret_cast<void*>(address),
                                      extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    };
    CUtensorMap maps[2];
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "encodes", encode(at, 128, 64, maps));  // no encoder
    w4axDriverSetTensorMapEncoder([](void*, void const*, int rows, int columns, std::int64_t stride, int box) {
        encoded = rows == 16 && columns == 64 && stride == 64 && box == 8;
    });
    OK(encode(at, 128, 64, maps));
    EXPECT(encoded);
    REFUSED(invalid_value, "multiple of 16", encode(at + 8, 128, 64, maps));
    REFUSED(invalid_value, "stride 0", encode(at, 136, 64, maps));
    REFUSED(invalid_value, "at most 128", encode(at, 128, 128, maps));
    REFUSED(invalid_value, "aligned to 64",
            encode(at, 128, 64, reinterpret_cast<CUtensorMap*>(reinterpret_cast<char*>(maps) + 32)));
    OK(cuMemFree(at));
}
