// Kernels that fail, and what a failed context refuses.
#include "test.h"

using namespace test;

TEST(bad_pointers_fail_the_context, "") {
    Device device;
    CUstream const stream = make_stream();
    std::uint32_t host = 0;
    OK(launch_add(stream, reinterpret_cast<CUdeviceptr>(&host), 1, 1));
    REFUSED(CUDA_ERROR_ILLEGAL_ADDRESS, "values", cuStreamSynchronize(stream));
    EXPECT(host == 0);
    // The error is sticky.
    CUdeviceptr at = 0;
    REFUSED(CUDA_ERROR_ILLEGAL_ADDRESS, "the context failed", cuMemAlloc(&at, 4));
    RETURNS(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
    AddParams params = {nullptr, 0, 1};
    RETURNS(CUDA_ERROR_ILLEGAL_ADDRESS, launch(stream, add_key, &params));
    RETURNS(CUDA_ERROR_ILLEGAL_ADDRESS, cuStreamDestroy(stream));
    expect_clean();  // a failed context releases nothing
}

TEST(misaligned_pointers_fail_the_context, "") {
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr const at = zeros(4);
    OK(launch_add(stream, at + 2, 1, 1));
    REFUSED(CUDA_ERROR_MISALIGNED_ADDRESS, "expected a multiple of 4", cuStreamSynchronize(stream));
}

TEST(ranges_past_the_end_fail_the_context, "") {
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr const at = zeros(4);
    OK(launch_add(stream, at, 5, 1));
    REFUSED(CUDA_ERROR_ILLEGAL_ADDRESS, "20 bytes at", cuStreamSynchronize(stream));
}

TEST(use_after_release_fails_the_context, "") {
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr at = 0;
    OK(cuMemAllocAsync(&at, 16, stream));
    OK(cuMemFreeAsync(at, stream));
    OK(launch_add(stream, at, 4, 1));
    REFUSED(CUDA_ERROR_ILLEGAL_ADDRESS, "freed device memory", cuStreamSynchronize(stream));
}

// The other stream does not wait for the allocation.
TEST(use_before_allocation_fails_the_context, "") {
    Device device;
    CUstream const stream = make_stream(), other = make_stream();
    void* host = nullptr;
    OK(cuMemHostAlloc(&host, 8, CU_MEMHOSTALLOC_DEVICEMAP));
    auto* const flag = static_cast<std::uint32_t*>(host);
    flag[0] = 0;
    PollParams poll = {flag, flag + 1};
    OK(launch(stream, poll_key, &poll));
    CUdeviceptr at = 0;
    OK(cuMemAllocAsync(&at, 16, stream));
    OK(launch_add(other, at, 4, 1));
    REFUSED(CUDA_ERROR_ILLEGAL_ADDRESS, "before its allocation", cuStreamSynchronize(other));
    __atomic_store_n(flag, 1u, __ATOMIC_RELEASE);
    RETURNS(CUDA_ERROR_ILLEGAL_ADDRESS, cuStreamSynchronize(stream));
}

TEST(failing_kernels_fail_the_context, "") {
    Device device;
    CUstream const stream = make_stream();
    CUevent event = nullptr;
    OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    AddParams params = {nullptr, 0, 1};
    OK(launch(stream, fail_key, &params));
    cuEventRecord(event, stream);  // succeeds if the kernel has not failed yet
    RETURNS(CUDA_ERROR_LAUNCH_FAILED, cuEventSynchronize(event));
    REFUSED(CUDA_ERROR_LAUNCH_FAILED, "it always fails", cuStreamQuery(stream));
}
