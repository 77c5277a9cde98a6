// Plays, reports at exit, and what the sanitizers see.
#include <unistd.h>

#include <cstdlib>

#include "test.h"

using namespace test;

TEST(old_driver_has_no_conditionals, "driver=12030") {
    Device device;
    CUgraph graph = nullptr;
    OK(cuGraphCreate(&graph, 0));
    CUgraphConditionalHandle handle = 0;
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "from CUDA 12.4", cuGraphConditionalHandleCreate(&handle, graph, nullptr, 0, 0));
    CUcontext context = nullptr;
    REFUSED(CUDA_ERROR_NOT_FOUND, "from CUDA 12.5", cuCtxCreate_v4(&context, nullptr, 0, 0));
    CUfunction made = nullptr;
    REFUSED(CUDA_ERROR_NOT_FOUND, "sets conditional handles", w4axDriverGetFunction(&made, &set_key));
    // Before CUDA 12.5.
    CUstream const stream = make_stream();
    OK(cuStreamGetCtx(stream, &context));
    OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    REFUSED(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "before CUDA 12.5", cuStreamGetCtx(stream, &context));
    CUgraph ended = nullptr;
    RETURNS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &ended));
    OK(cuStreamDestroy(stream));
    OK(cuGraphDestroy(graph));
}

TEST(driver_without_switch, "driver=12040") {
    Device device;
    CUgraph graph = nullptr;
    OK(cuGraphCreate(&graph, 0));
    CUgraphConditionalHandle handle = 0;
    OK(cuGraphConditionalHandleCreate(&handle, graph, nullptr, 0, 0));
    CUgraphNodeParams params = {};
    params.type = CU_GRAPH_NODE_TYPE_CONDITIONAL;
    params.conditional.handle = handle;
    params.conditional.type = CU_GRAPH_COND_TYPE_SWITCH;
    params.conditional.size = 4;
    CUgraphNode node = nullptr;
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "from CUDA 12.8", cuGraphAddNode(&node, graph, nullptr, nullptr, 0, &params));
    params.conditional.type = CU_GRAPH_COND_TYPE_IF;
    params.conditional.size = 2;
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "from CUDA 12.8", cuGraphAddNode(&node, graph, nullptr, nullptr, 0, &params));
    params.conditional.size = 1;
    OK(cuGraphAddNode(&node, graph, nullptr, nullptr, 0, &params));
    OK(cuGraphDestroy(graph));
}

TEST(no_device, "devices=0") {
    RETURNS(CUDA_ERROR_NO_DEVICE, cuInit(0));
    int count = -1;
    OK(cuDeviceGetCount(&count));
    EXPECT(count == 0);
}

TEST(nth_call_fails, "fail=cuMemAlloc_v2:3,fail=cuMemAllocAsync:1:CUDA_ERROR_NOT_SUPPORTED,fail=cuEventCreate:2") {
    Device device;
    CUdeviceptr at[4] = {};
    OK(cuMemAlloc(&at[0], 4));
    OK(cuMemAlloc(&at[1], 4));
    REFUSED(CUDA_ERROR_OUT_OF_MEMORY, "call 3 fails", cuMemAlloc(&at[2], 4));
    OK(cuMemAlloc(&at[2], 4));
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "call 1 fails", cuMemAllocAsync(&at[3], 4, nullptr));
    CUevent event = nullptr, other = nullptr;
    OK(cuEventCreate(&event, 0));
    RETURNS(CUDA_ERROR_UNKNOWN, cuEventCreate(&other, 0));
    OK(cuEventDestroy(event));
    for (int i = 0; i < 3; ++i) OK(cuMemFree(at[i]));
    expect_clean();
}

// By the name without its variant.
TEST(nth_call_by_base_name, "fail=cuMemAlloc:1") {
    Device device;
    CUdeviceptr at = 0;
    RETURNS(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc(&at, 4));
}

TEST(nth_launch_fails, "fail=launch:3") {
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr const at = zeros(1);
    OK(launch_add(stream, at, 1, 1));
    OK(launch_add(stream, at, 1, 1));
    OK(cuStreamSynchronize(stream));
    EXPECT(read(at) == 2);
    OK(launch_add(stream, at, 1, 1));  // fails asynchronously
    REFUSED(CUDA_ERROR_LAUNCH_FAILED, "launch 3 fails", cuStreamSynchronize(stream));
    EXPECT(order().size() == 2);
}

TEST(malformed_play, "arch=81", 87, "arch=80, 86") { Device device; }
TEST(unknown_play, "speed=3", 87, "unknown setting") { Device device; }
TEST(unknown_function, "fail=cuMemAloc:1", 87, "an exported function") { Device device; }
TEST(malformed_failure, "fail=launch:1:CUDA_ERROR_NONE", 87, "name of a CUresult") { Device device; }

TEST(reports_leaks, "", 86, "leaked: a graph of 1 nodes") {
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr at = 0;
    void* host = nullptr;
    CUevent event = nullptr;
    CUgraph graph = nullptr, captured = nullptr;
    CUgraphNode node = nullptr;
    CUgraphExec exec = nullptr;
    OK(cuMemAlloc(&at, 20));
    OK(cuMemAllocAsync(&at, 24, stream));
    OK(cuMemHostAlloc(&host, 28, 0));
    OK(cuEventCreate(&event, 0));
    OK(cuGraphCreate(&graph, 0));
    OK(cuGraphAddEmptyNode(&node, graph, nullptr, 0));
    OK(cuGraphInstantiate(&exec, graph, 0));
    OK(cuStreamBeginCapture(make_stream(), CU_STREAM_CAPTURE_MODE_RELAXED));
    (void)captured;
    std::string const text = w4axDriverReport();
    for (char const* line :
         {"20 bytes of cuMemAlloc_v2", "24 bytes of cuMemAllocAsync", "28 bytes of cuMemHostAlloc", "leaked: an event",
          "leaked: a stream", "leaked: an executable graph", "leaked: a capture that was never ended"}) {
        expect_at(__FILE__, __LINE__, text.find(line) != std::string::npos, text + " lacks " + line);
    }
    // The primary context is not released: that is allowed.
    CUcontext context = nullptr;
    OK(cuDevicePrimaryCtxRetain(&context, 0));
}

TEST(reports_work_that_was_not_synchronized, "", 86, "the host never waited for the last kernel of a stream") {
    Device device;
    CUcontext context = nullptr;
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    CUstream const stream = make_stream();
    OK(launch_add(stream, 0, 0, 1));
    OK(cuStreamSynchronize(stream));
    OK(launch_add(stream, 0, 0, 1));
    OK(cuStreamDestroy(stream));
}

// The host waits for a stream that waited for the other one.
TEST(synchronization_is_transitive, "") {
    Device device;
    CUcontext context = nullptr;
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    CUstream const one = make_stream(), two = make_stream();
    CUevent event = nullptr;
    OK(cuEventCreate(&event, 0));
    OK(launch_add(one, 0, 0, 1));
    OK(cuEventRecord(event, one));
    OK(cuStreamWaitEvent(two, event, 0));
    OK(cuStreamSynchronize(two));
    OK(cuStreamDestroy(one));
    OK(cuStreamDestroy(two));
    OK(cuEventDestroy(event));
    expect_clean();
}

TEST(reports_contexts, "", 86, "leaked: a context of device 0") {
    Device device;
    CUcontext context = nullptr;
    OK(cuCtxCreate_v4(&context, nullptr, 0, 0));
}

// Kernels whose parameter lists no pointers can write anywhere: the canary past the end detects it at the release.
TEST(damage_is_found, "", 0) {
#ifndef W4AX_EMULATE_ASAN
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr const at = zeros(4);
    PollParams raise = {nullptr, reinterpret_cast<std::uint32_t*>(at + 16)};
    OK(launch(stream, raise_key, &raise));
    OK(cuStreamSynchronize(stream));
    REFUSED(CUDA_ERROR_ILLEGAL_ADDRESS, "was written past its end", cuMemFree(at));
    std::string const text = w4axDriverReport();
    EXPECT(text.find("past its end") != std::string::npos);
    setenv("W4AX_DRIVER_LEAKS", "0", 1);
#endif
}

// The pages around an allocation trap.
static void access_past_a_page() {
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr const at = zeros(1024);
    PollParams raise = {nullptr, reinterpret_cast<std::uint32_t*>(at + 4096)};
    OK(launch(stream, raise_key, &raise));
    OK(cuStreamSynchronize(stream));
}
#if defined(W4AX_EMULATE_ASAN)
TEST(access_past_a_page_traps, "", 1, "AddressSanitizer") { access_past_a_page(); }
#elif defined(W4AX_EMULATE_TSAN)  // not with the checked driver, whose handler TSan instruments
TEST(access_past_a_page_traps, "", 139, "+4096 bytes from the beginning of memory of 4096 bytes",
     Only::unchecked_thread) {
    access_past_a_page();
}
#else
TEST(access_past_a_page_traps, "", 139, "+4096 bytes from the beginning of memory of 4096 bytes of cuMemAlloc_v2") {
    access_past_a_page();
}
#endif

// Two streams add to the same memory.
static void race(bool ordered) {
    Device device;
    CUstream const one = make_stream(), two = make_stream();
    CUdeviceptr const at = zeros(64);
    CUevent event = nullptr;
    OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    AddParams params = {reinterpret_cast<std::uint32_t*>(at), 64, 1};
    OK(launch(one, slow_key, &params));
    OK(cuEventRecord(event, one));
    if (ordered) OK(cuStreamWaitEvent(two, event, 0));
    OK(launch(two, slow_key, &params));
    OK(cuStreamSynchronize(one));
    OK(cuStreamSynchronize(two));
    OK(cuEventDestroy(event));
    OK(cuStreamDestroy(one));
    OK(cuStreamDestroy(two));
    OK(cuMemFree(at));
}
TEST(race_of_streams_is_seen, "", 66, "data race", Only::unchecked_thread) { race(false); }
TEST(event_orders_the_streams, "", 0, nullptr, Only::unchecked_thread) { race(true); }

// The copy to pinned memory has not ended when the host reads it.
static void read_pinned(bool synchronizes) {
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr const at = zeros(64);
    void* host = nullptr;
    OK(cuMemHostAlloc(&host, 256, 0));
    AddParams params = {reinterpret_cast<std::uint32_t*>(at), 64, 1};
    OK(launch(stream, slow_key, &params));
    OK(cuMemcpyDtoHAsync(host, at, 256, stream));
    if (synchronizes) OK(cuStreamSynchronize(stream));
    std::uint32_t volatile const* const words = static_cast<std::uint32_t*>(host);
    EXPECT(synchronizes ? words[3] == 1 : words[3] == 0xFFFFFFFF);
    OK(cuStreamSynchronize(stream));
    OK(cuMemFreeHost(host));
    OK(cuMemFree(at));
    OK(cuStreamDestroy(stream));
}
TEST(missing_synchronization_shows, "", 66, "data race", Only::unchecked_thread) { read_pinned(false); }
TEST(synchronization_orders_the_host, "", 0, nullptr, Only::unchecked_thread) { read_pinned(true); }
// Without a sanitizer too: the host reads the garbage that was there before.
TEST(missing_synchronization_reads_garbage, "") {
#ifndef W4AX_EMULATE_TSAN
    read_pinned(false);
#endif
}

// ASan sees the bytes between the end of an allocation and its page.
#ifdef W4AX_EMULATE_ASAN
TEST(access_past_the_end_is_seen, "", 1, "use-after-poison", Only::unchecked) {
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr const at = zeros(4);
    PollParams raise = {nullptr, reinterpret_cast<std::uint32_t*>(at + 16)};
    OK(launch(stream, raise_key, &raise));
    OK(cuStreamSynchronize(stream));
}
#endif

// The pinned source of a copy changes before the copy runs.
TEST(changing_a_pinned_source_is_a_race, "", 66, "data race", Only::unchecked_thread) {
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr const at = zeros(64);
    void* host = nullptr;
    OK(cuMemHostAlloc(&host, 256, 0));
    AddParams params = {reinterpret_cast<std::uint32_t*>(at), 64, 1};
    OK(launch(stream, slow_key, &params));
    OK(cuMemcpyHtoDAsync(at, host, 256, stream));
    static_cast<std::uint32_t volatile*>(host)[0] = 1;
    OK(cuStreamSynchronize(stream));
    OK(cuMemFreeHost(host));
    OK(cuMemFree(at));
    OK(cuStreamDestroy(stream));
}

// Memory is released on one stream while another one uses it.
TEST(release_races_with_another_stream, "", 66, "data race", Only::unchecked_thread) {
    Device device;
    CUstream const one = make_stream(), two = make_stream();
    CUdeviceptr at = 0;
    OK(cuMemAllocAsync(&at, 256, one));
    OK(cuStreamSynchronize(one));
    AddParams params = {reinterpret_cast<std::uint32_t*>(at), 64, 1};
    OK(launch(two, slow_key, &params));
    OK(cuStreamSynchronize(two));
    OK(launch(two, slow_key, &params));
    usleep(200000);
    OK(cuMemFreeAsync(at, one));  // after the kernel, but by chance only
    OK(cuStreamSynchronize(one));
    OK(cuStreamSynchronize(two));
    OK(cuStreamDestroy(one));
    OK(cuStreamDestroy(two));
}
