// Memory, streams, events and launches: what works.
#include <unistd.h>

#include <cstring>
#include <thread>

#include "test.h"

using namespace test;

TEST(devices_and_versions, "devices=2,arch=90,memory=64,sms=7") {
    int count = 0, version = 0, value = 0;
    OK(cuInit(0));
    OK(cuDeviceGetCount(&count));
    EXPECT(count == 2);
    OK(cuDriverGetVersion(&version));
    EXPECT(version == 13000);
    OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 1));
    EXPECT(value == 9);
    OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
    EXPECT(value == 7);
    OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 0));
    EXPECT(value == 227 << 10);
    size_t bytes = 0;
    OK(cuDeviceTotalMem(&bytes, 0));
    EXPECT(bytes == 64u << 20);
    char name[64];
    OK(cuDeviceGetName(name, sizeof name, 0));
    EXPECT(std::strstr(name, "sm_90"));
}

TEST(copies_and_memsets, "") {
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr at = 0, other = 0;
    OK(cuMemAlloc(&at, 64));
    OK(cuMemAllocAsync(&other, 64, stream));
    std::uint32_t words[16];
    OK(cuMemcpyDtoH(words, at, 64));
    EXPECT(words[3] == 0xFFFFFFFF);  // fresh memory is garbage
    for (std::uint32_t i = 0; i < 16; ++i) words[i] = i;
    OK(cuMemcpyHtoDAsync(other, words, 64, stream));
    std::memset(words, 0, sizeof words);  // the copy was staged
    OK(cuMemcpyDtoDAsync(at, other, 64, stream));
    OK(cuMemsetD32Async(at + 8, 77, 2, stream));
    OK(cuMemsetD8Async(at + 16, 1, 4, stream));
    OK(cuMemcpyDtoHAsync(words, at, 64, stream));
    EXPECT(words[1] == 1 && words[2] == 77 && words[3] == 77 && words[4] == 0x01010101 && words[15] == 15);
    size_t free_bytes = 0, total = 0;
    OK(cuMemGetInfo(&free_bytes, &total));
    EXPECT(total - free_bytes == 128);
    OK(cuMemFreeAsync(other, stream));
    OK(cuMemFree(at));
    OK(cuStreamSynchronize(stream));
    OK(cuMemGetInfo(&free_bytes, &total));
    EXPECT(total == free_bytes);
    OK(cuStreamDestroy(stream));
    expect_clean();
}

TEST(pinned_memory_is_read_late, "") {
    Device device;
    CUstream const stream = make_stream();
    void* host = nullptr;
    OK(cuMemHostAlloc(&host, 64, CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_PORTABLE));
    auto* const words = static_cast<std::uint32_t*>(host);
    words[0] = 0;  // the flag
    words[1] = 5;
    CUdeviceptr mapped = 0;
    OK(cuMemHostGetDevicePointer(&mapped, host, 0));
    EXPECT(mapped == reinterpret_cast<CUdeviceptr>(host));
    CUdeviceptr const at = zeros(2);
    PollParams poll = {words, reinterpret_cast<std::uint32_t*>(at)};
    OK(launch(stream, poll_key, &poll));
    OK(cuMemcpyHtoDAsync(at + 4, words + 1, 4, stream));
    words[1] = 6;
    RETURNS(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
    __atomic_store_n(words, 9u, __ATOMIC_RELEASE);
    OK(cuStreamSynchronize(stream));
    EXPECT(read(at) == 9);
    EXPECT(read(at + 4) == 6);
    OK(cuMemFreeHost(host));
    OK(cuMemFree(at));
    OK(cuStreamDestroy(stream));
    expect_clean();
}

TEST(streams_run_side_by_side, "seed=3") {
    Device device;
    CUstream const one = make_stream(), two = make_stream();
    void* host = nullptr;
    OK(cuMemHostAlloc(&host, 8, CU_MEMHOSTALLOC_DEVICEMAP));
    auto* const flags = static_cast<std::uint32_t*>(host);
    flags[0] = flags[1] = 0;
    CUdeviceptr const at = zeros(1);
    PollParams poll = {flags, reinterpret_cast<std::uint32_t*>(at)};
    OK(launch(one, poll_key, &poll));
    // The other stream ends the kernel of the first one.
    PollParams raise = {nullptr, flags};
    OK(launch(two, raise_key, &raise));
    OK(cuStreamSynchronize(one));
    OK(cuStreamSynchronize(two));
    EXPECT(read(at) == 3);
    OK(cuMemFreeHost(host));
    OK(cuMemFree(at));
    OK(cuStreamDestroy(one));
    OK(cuStreamDestroy(two));
    expect_clean();
}

TEST(events_order_streams, "seed=5") {
    Device device;
    CUstream const one = make_stream(), two = make_stream();
    CUdeviceptr const at = zeros(256);
    CUevent done = nullptr, back = nullptr;
    OK(cuEventCreate(&done, CU_EVENT_DISABLE_TIMING));
    OK(cuEventCreate(&back, CU_EVENT_DEFAULT));
    OK(cuEventQuery(done));  // never recorded
    for (std::uint32_t i = 0; i < 20; ++i) {
        OK(launch_add(one, at, 256, i));
        OK(cuEventRecord(done, one));
        OK(cuStreamWaitEvent(two, done, 0));
        OK(launch_add(two, at, 256, i));
        OK(cuEventRecord(back, two));
        OK(cuStreamWaitEvent(one, back, 0));
    }
    OK(cuEventSynchronize(back));
    EXPECT(read(at, one) == 2 * 190);
    float milliseconds = -1;
    CUevent start = nullptr;
    OK(cuEventCreate(&start, CU_EVENT_DEFAULT));
    OK(cuEventRecord(start, one));
    OK(cuEventRecord(back, one));
    OK(cuEventSynchronize(back));
    OK(cuEventElapsedTime(&milliseconds, start, back));
    EXPECT(milliseconds >= 0);
    for (CUevent event : {done, back, start}) OK(cuEventDestroy(event));
    OK(cuMemFree(at));
    OK(cuStreamDestroy(one));
    OK(cuStreamDestroy(two));
    expect_clean();
}

TEST(legacy_stream_waits_for_blocking_streams, "seed=7") {
    Device device;
    CUstream const blocking = make_stream(CU_STREAM_DEFAULT);
    CUdeviceptr const at = zeros(64);
    for (std::uint32_t i = 0; i < 10; ++i) {
        OK(launch_add(blocking, at, 64, 1));
        OK(launch_add(nullptr, at, 64, 1));
        OK(launch_add(CU_STREAM_PER_THREAD, at, 64, 1));
        OK(launch_add(CU_STREAM_LEGACY, at, 64, 1));
    }
    OK(cuStreamSynchronize(nullptr));
    EXPECT(read(at) == 40);
    OK(cuMemFree(at));
    OK(cuStreamDestroy(blocking));
    expect_clean();
}

TEST(dependent_launches_overlap_kernels_only, "arch=90") {
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr const at = zeros(4);
    OK(launch_add(stream, at, 4, 1, true));
    OK(cuStreamSynchronize(stream));
    EXPECT(!last_grid.overlaps_previous);  // the first one
    OK(launch_add(stream, at, 4, 1, true));
    OK(cuStreamSynchronize(stream));
    EXPECT(last_grid.overlaps_previous);
    EXPECT(last_grid.compute_capability == 90);
    OK(cuMemsetD32Async(at, 0, 1, stream));
    OK(launch_add(stream, at, 4, 1, true));
    OK(cuStreamSynchronize(stream));
    EXPECT(!last_grid.overlaps_previous);
    OK(cuMemFree(at));
    OK(cuStreamDestroy(stream));
    expect_clean();
}

static void host_function(void* data) { *static_cast<int*>(data) = int(cuStreamQuery(nullptr)); }

TEST(host_functions_may_not_call_cuda, "") {
    Device device;
    CUstream const stream = make_stream();
    int result = -1;
    OK(cuLaunchHostFunc(stream, host_function, &result));
    OK(cuStreamSynchronize(stream));
    EXPECT(result == CUDA_ERROR_NOT_PERMITTED);
    OK(cuStreamDestroy(stream));
    expect_clean();
}

TEST(contexts_stack, "") {
    Device device;
    CUcontext other = nullptr, now = nullptr, popped = nullptr;
    OK(cuCtxCreate_v4(&other, nullptr, 0, 0));
    OK(cuCtxGetCurrent(&now));
    EXPECT(now == other && other != device.context);
    CUstream const stream = make_stream();
    OK(cuStreamGetCtx(stream, &now));
    EXPECT(now == other);
    OK(cuStreamDestroy(stream));
    OK(cuCtxPushCurrent(device.context));
    OK(cuCtxPopCurrent(&popped));
    EXPECT(popped == device.context);
    OK(cuCtxDestroy(other));
    OK(cuCtxGetCurrent(&now));
    EXPECT(now == device.context);
    expect_clean();
}
