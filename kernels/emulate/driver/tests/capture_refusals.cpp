// What is refused during captures, and of graphs.
#include <cstring>
#include <thread>

#include "test.h"

using namespace test;

namespace {

constexpr CUresult invalid_value = CUDA_ERROR_INVALID_VALUE;
constexpr CUstreamCaptureMode local = CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, global = CU_STREAM_CAPTURE_MODE_GLOBAL,
                              relaxed = CU_STREAM_CAPTURE_MODE_RELAXED;

CUevent make_event() {
    CUevent event = nullptr;
    OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    return event;
}
bool is_valid(CUstream stream) {
    CUstreamCaptureStatus status;
    OK(cuStreamIsCapturing(stream, &status));
    return status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
}
/// The capture of a stream was invalidated, for a reason. Ends it: the stream works again.
void expect_invalidated(CUstream stream, char const* reason) {
    CUstreamCaptureStatus status;
    OK(cuStreamIsCapturing(stream, &status));
    EXPECT(status == CU_STREAM_CAPTURE_STATUS_INVALIDATED);
    REFUSED(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, reason, launch_add(stream, 0, 0, 1));
    CUgraph graph = reinterpret_cast<CUgraph>(1);
    REFUSED(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, reason, cuStreamEndCapture(stream, &graph));
    EXPECT(graph == nullptr);
    OK(cuStreamIsCapturing(stream, &status));
    EXPECT(status == CU_STREAM_CAPTURE_STATUS_NONE);
    OK(cuStreamSynchronize(stream));
}
void end(CUstream stream) {
    CUgraph graph = nullptr;
    OK(cuStreamEndCapture(stream, &graph));
    if (graph) OK(cuGraphDestroy(graph));
}

}  // namespace

TEST(synchronization_invalidates_a_capture, "") {
    Device device;
    CUstream const stream = make_stream();
    CUevent const before = make_event(), inside = make_event();
    OK(cuEventRecord(before, stream));
    CUresult const unsupported = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    OK(cuStreamBeginCapture(stream, local));
    REFUSED(unsupported, "is being captured", cuStreamSynchronize(stream));
    expect_invalidated(stream, "cuStreamSynchronize");
    OK(cuStreamBeginCapture(stream, relaxed));
    REFUSED(unsupported, "is being captured", cuStreamQuery(stream));
    expect_invalidated(stream, "cuStreamQuery");
    OK(cuStreamBeginCapture(stream, relaxed));
    REFUSED(unsupported, "is being captured", cuCtxSynchronize());
    expect_invalidated(stream, "cuCtxSynchronize");
    OK(cuStreamBeginCapture(stream, relaxed));
    OK(cuEventRecord(inside, stream));
    REFUSED(CUDA_ERROR_CAPTURED_EVENT, "recorded in a capture", cuEventSynchronize(inside));
    expect_invalidated(stream, "cuEventSynchronize");
    OK(cuStreamBeginCapture(stream, relaxed));
    OK(cuEventRecord(inside, stream));
    REFUSED(CUDA_ERROR_CAPTURED_EVENT, "recorded in a capture", cuEventQuery(inside));
    expect_invalidated(stream, "cuEventQuery");
    OK(cuStreamBeginCapture(stream, relaxed));
    OK(cuEventSynchronize(before));  // of another place: allowed in relaxed mode
    EXPECT(is_valid(stream));
    REFUSED(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "outside of the capture", cuStreamWaitEvent(stream, before, 0));
    expect_invalidated(stream, "outside of it");
    REFUSED(CUDA_ERROR_CAPTURED_EVENT, "has ended", cuStreamWaitEvent(stream, inside, 0));
    OK(cuEventDestroy(before));
    OK(cuEventDestroy(inside));
    OK(cuStreamDestroy(stream));
    expect_clean();
}

TEST(unsafe_calls_by_mode, "") {
    Device device;
    CUstream const stream = make_stream();
    CUdeviceptr at = 0;
    CUresult const unsupported = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    void* host = nullptr;
    // Global: no thread may.
    OK(cuStreamBeginCapture(stream, global));
    std::thread([&] {
        OK(cuCtxSetCurrent(device.context));
        REFUSED(unsupported, "global", cuMemAlloc(&at, 4));
    }).join();
    expect_invalidated(stream, "cuMemAlloc_v2");
    // A thread that declares itself relaxed may.
    OK(cuStreamBeginCapture(stream, global));
    CUstreamCaptureMode mode = relaxed;
    OK(cuThreadExchangeStreamCaptureMode(&mode));
    EXPECT(mode == global);
    OK(cuMemAlloc(&at, 4));
    OK(cuMemFree(at));
    OK(cuThreadExchangeStreamCaptureMode(&mode));
    EXPECT(is_valid(stream));
    end(stream);
    // Thread-local: other threads may, this one may not.
    OK(cuStreamBeginCapture(stream, local));
    std::thread([&] {
        OK(cuCtxSetCurrent(device.context));
        OK(cuMemAlloc(&at, 4));
    }).join();
    EXPECT(is_valid(stream));
    REFUSED(unsupported, "thread-local", cuMemFree(at));
    expect_invalidated(stream, "cuMemFree_v2");
    OK(cuMemFree(at));
    for (auto const& call : std::vector<CUresult (*)(void**)>{
             [](void** made) { return cuMemHostAlloc(made, 4, 0); }, [](void** made) { return cuMemFreeHost(made); },
             [](void** made) { return cuMemHostRegister(made, 8, 0); }, [](void**) { return cuMemsetD8(0x1000, 0, 1); },
             [](void** made) { return cuMemcpyHtoD(0x1000, made, 1); }}) {
        OK(cuStreamBeginCapture(stream, local));
        REFUSED(unsupported, "unsafe", call(&host));
        expect_invalidated(stream, "unsafe");
    }
    // Relaxed: anything goes.
    OK(cuStreamBeginCapture(stream, relaxed));
    OK(cuMemAlloc(&at, 4));
    OK(cuMemFree(at));
    EXPECT(is_valid(stream));
    end(stream);
    OK(cuStreamDestroy(stream));
    expect_clean();
}

TEST(loading_a_kernel_is_unsafe, "arch=90") {
    Device device;
    CUstream const stream = make_stream();
    CUfunction made = nullptr;
    OK(cuStreamBeginCapture(stream, local));
    OK(w4axDriverGetFunction(&made, &add_key));  // loaded before
    REFUSED(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "unsafe", w4axDriverGetFunction(&made, &other_key));
    expect_invalidated(stream, "w4axDriverGetFunction");
    OK(w4axDriverGetFunction(&made, &other_key));
    OK(cuStreamDestroy(stream));
    expect_clean();
}

TEST(legacy_stream_and_captures, "") {
    Device device;
    CUstream const blocking = make_stream(CU_STREAM_DEFAULT), free = make_stream();
    CUdeviceptr const at = zeros(1);
    REFUSED(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "legacy", cuStreamBeginCapture(nullptr, local));
    OK(cuStreamBeginCapture(blocking, relaxed));
    REFUSED(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "blocking streams", launch_add(nullptr, at, 1, 1));
    expect_invalidated(blocking, "legacy stream");
    OK(cuStreamBeginCapture(blocking, relaxed));
    REFUSED(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "blocking streams", cuMemsetD8(at, 0, 1));
    expect_invalidated(blocking, "legacy stream");
    OK(cuStreamBeginCapture(blocking, relaxed));
    REFUSED(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "blocking streams", cuStreamSynchronize(nullptr));
    expect_invalidated(blocking, "legacy stream");
    OK(cuStreamBeginCapture(free, relaxed));
    OK(launch_add(nullptr, at, 1, 1));  // does not wait for the other stream
    EXPECT(is_valid(free));
    end(free);
    OK(cuStreamSynchronize(nullptr));
    OK(cuMemFree(at));
    OK(cuStreamDestroy(blocking));
    OK(cuStreamDestroy(free));
    expect_clean();
}

TEST(captures_end_where_they_began, "") {
    Device device;
    CUstream const stream = make_stream(), side = make_stream(), other = make_stream();
    CUevent const event = make_event(), foreign = make_event();
    CUgraph graph = nullptr;
    REFUSED(CUDA_ERROR_ILLEGAL_STATE, "not being captured", cuStreamEndCapture(stream, &graph));
    REFUSED(invalid_value, "mode 7", cuStreamBeginCapture(stream, CUstreamCaptureMode(7)));
    OK(cuStreamBeginCapture(stream, local));
    REFUSED(CUDA_ERROR_ILLEGAL_STATE, "already", cuStreamBeginCapture(stream, local));
    std::thread([&] {
        REFUSED(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "another thread", cuStreamEndCapture(stream, &graph));
    }).join();
    end(stream);
    OK(cuStreamBeginCapture(stream, relaxed));
    std::thread([&] { end(stream); }).join();
    // A stream that is not joined.
    OK(cuStreamBeginCapture(stream, local));
    OK(cuEventRecord(event, stream));
    OK(cuStreamWaitEvent(side, event, 0));
    OK(launch_add(side, 0, 0, 1));
    REFUSED(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "not joined", cuStreamEndCapture(stream, &graph));
    EXPECT(graph == nullptr);
    CUstreamCaptureStatus status;
    OK(cuStreamIsCapturing(side, &status));
    EXPECT(status == CU_STREAM_CAPTURE_STATUS_NONE);
    // The end on another stream.
    OK(cuStreamBeginCapture(stream, local));
    OK(cuEventRecord(event, stream));
    OK(cuStreamWaitEvent(side, event, 0));
    REFUSED(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "another stream", cuStreamEndCapture(side, &graph));
    expect_invalidated(stream, "another stream");
    // Two captures do not merge.
    OK(cuStreamBeginCapture(stream, local));
    OK(cuStreamBeginCapture(other, local));
    OK(cuEventRecord(foreign, other));
    REFUSED(CUDA_ERROR_STREAM_CAPTURE_MERGE, "another capture", cuStreamWaitEvent(stream, foreign, 0));
    expect_invalidated(stream, "another capture");
    expect_invalidated(other, "another capture");
    // A stream that is destroyed.
    OK(cuStreamBeginCapture(stream, local));
    OK(cuEventRecord(event, stream));
    OK(cuStreamWaitEvent(side, event, 0));
    OK(cuStreamDestroy(side));
    expect_invalidated(stream, "destroyed");
    // The legacy stream cannot join.
    OK(cuStreamBeginCapture(stream, local));
    OK(cuEventRecord(event, stream));
    REFUSED(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "legacy", cuStreamWaitEvent(nullptr, event, 0));
    expect_invalidated(stream, "legacy");
    for (CUevent one : {event, foreign}) OK(cuEventDestroy(one));
    for (CUstream one : {stream, other}) OK(cuStreamDestroy(one));
    expect_clean();
}

TEST(captures_into_graphs_that_fail, "") {
    Device device;
    CUstream const stream = make_stream();
    CUgraph graph = nullptr, ended = nullptr;
    OK(cuGraphCreate(&graph, 0));
    OK(cuStreamBeginCaptureToGraph(stream, graph, nullptr, nullptr, 0, local));
    CUstream const other = make_stream();
    REFUSED(CUDA_ERROR_ILLEGAL_STATE, "in progress",
            cuStreamBeginCaptureToGraph(other, graph, nullptr, nullptr, 0, local));
    REFUSED(invalid_value, "in progress", cuGraphDestroy(graph));
    CUgraphExec exec = nullptr;
    REFUSED(invalid_value, "in progress", cuGraphInstantiate(&exec, graph, 0));
    RETURNS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamSynchronize(stream));
    RETURNS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &ended));
    // The state of the graph is undefined.
    REFUSED(invalid_value, "undefined", cuGraphDestroy(graph));
    REFUSED(invalid_value, "undefined", cuGraphInstantiate(&exec, graph, 0));
    // Memory from outside cannot be released inside.
    CUdeviceptr at = 0;
    OK(cuMemAllocAsync(&at, 16, stream));
    OK(cuStreamSynchronize(stream));
    OK(cuStreamBeginCapture(stream, local));
    REFUSED(invalid_value, "outside of the capture", cuMemFreeAsync(at, stream));
    expect_invalidated(stream, "released memory");
    OK(cuMemFreeAsync(at, stream));
    OK(cuStreamDestroy(stream));
    OK(cuStreamDestroy(other));
    expect_clean();
}

TEST(refuses_wrong_graphs, "") {
    Device device;
    CUstream const stream = make_stream();
    CUgraph one = nullptr, two = nullptr;
    OK(cuGraphCreate(&one, 0));
    OK(cuGraphCreate(&two, 0));
    CUgraphNode node = nullptr, foreign = nullptr, next = nullptr;
    OK(cuGraphAddEmptyNode(&node, one, nullptr, 0));
    OK(cuGraphAddEmptyNode(&next, one, &node, 1));
    OK(cuGraphAddEmptyNode(&foreign, two, nullptr, 0));
    REFUSED(invalid_value, "of another graph", cuGraphAddEmptyNode(&node, one, &foreign, 1));
    REFUSED(invalid_value, "closes a cycle", cuGraphAddDependencies(one, &next, &node, nullptr, 1));
    REFUSED(invalid_value, "exists already", cuGraphAddDependencies(one, &node, &next, nullptr, 1));
    REFUSED(invalid_value, "of another graph", cuStreamBeginCaptureToGraph(stream, one, &foreign, nullptr, 1, local));
    CUgraphExec exec = nullptr;
    REFUSED(invalid_value, "flags", cuGraphInstantiate(&exec, one, 0x100));
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "by the device",
            cuGraphInstantiate(&exec, one, CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH));
    OK(cuGraphInstantiate(&exec, one, 0));
    CUcontext other = nullptr;
    OK(cuCtxCreate_v4(&other, nullptr, 0, 0));
    CUstream const foreign_stream = make_stream();
    REFUSED(CUDA_ERROR_INVALID_HANDLE, "different contexts", cuGraphLaunch(exec, foreign_stream));
    OK(cuStreamDestroy(foreign_stream));
    OK(cuCtxDestroy(other));
    OK(cuGraphDestroy(one));
    REFUSED(invalid_value, "the graph was destroyed", cuGraphDestroy(one));
    REFUSED(invalid_value, "the graph was destroyed", cuGraphAddEmptyNode(&node, one, nullptr, 0));
    CUgraphNodeType type;
    REFUSED(invalid_value, "the graph node was destroyed", cuGraphNodeGetType(node, &type));
    OK(cuGraphLaunch(exec, stream));  // outlives its graph
    OK(cuStreamSynchronize(stream));
    OK(cuGraphExecDestroy(exec));
    REFUSED(invalid_value, "the executable graph was destroyed", cuGraphLaunch(exec, stream));
    REFUSED(invalid_value, "the executable graph was destroyed", cuGraphExecDestroy(exec));
    OK(cuGraphDestroy(two));
    OK(cuStreamDestroy(stream));
    expect_clean();
}

TEST(refuses_wrong_conditionals, "") {
    Device device;
    CUstream const stream = make_stream();
    CUgraph one = nullptr, two = nullptr, copy = nullptr;
    OK(cuGraphCreate(&one, 0));
    OK(cuGraphCreate(&two, 0));
    CUgraphConditionalHandle handle = 0, foreign = 0, spare = 0;
    OK(cuGraphConditionalHandleCreate(&handle, one, nullptr, 0, CU_GRAPH_COND_ASSIGN_DEFAULT));
    OK(cuGraphConditionalHandleCreate(&foreign, two, nullptr, 0, CU_GRAPH_COND_ASSIGN_DEFAULT));
    REFUSED(invalid_value, "flags", cuGraphConditionalHandleCreate(&spare, one, nullptr, 0, 2));
    CUgraphNode node = nullptr;
    auto const add = [&](CUgraph graph, CUgraphConditionalHandle of, unsigned type, unsigned size,
                         CUgraph* body = nullptr) {
        CUgraphNodeParams params = {};
        params.type = CU_GRAPH_NODE_TYPE_CONDITIONAL;
        params.conditional.handle = of;
        std::memcpy(&params.conditional.type, &type, sizeof type);  // also a number that is none of the enumeration
        params.conditional.size = size;
        CUresult const result = cuGraphAddNode(&node, graph, nullptr, nullptr, 0, &params);
        if (result == CUDA_SUCCESS && body) *body = params.conditional.phGraph_out[0];
        return result;
    };
    REFUSED(invalid_value, "another graph", add(one, foreign, CU_GRAPH_COND_TYPE_IF, 1));
    REFUSED(invalid_value, "is no conditional handle", add(one, 5, CU_GRAPH_COND_TYPE_IF, 1));
    REFUSED(invalid_value, "3 bodies", add(one, handle, CU_GRAPH_COND_TYPE_IF, 3));
    REFUSED(invalid_value, "0 bodies", add(one, handle, CU_GRAPH_COND_TYPE_SWITCH, 0));
    REFUSED(invalid_value, "2 bodies", add(one, handle, CU_GRAPH_COND_TYPE_WHILE, 2));
    REFUSED(invalid_value, "type 9", add(one, handle, 9, 1));
    CUgraphExec exec = nullptr, second = nullptr;
    REFUSED(invalid_value, "has no node", cuGraphInstantiate(&exec, one, 0));
    CUgraph body = nullptr;
    OK(add(one, handle, CU_GRAPH_COND_TYPE_IF, 1, &body));
    REFUSED(invalid_value, "has a node already", add(one, handle, CU_GRAPH_COND_TYPE_IF, 1));
    REFUSED(invalid_value, "belongs to a node", cuGraphDestroy(body));
    REFUSED(invalid_value, "a body of a conditional node", cuGraphInstantiate(&exec, body, 0));
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "cannot be cloned", cuGraphClone(&copy, one));
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "cannot be a child", cuGraphAddChildGraphNode(&node, two, nullptr, 0, one));
    OK(cuGraphInstantiate(&exec, one, 0));
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "one instantiation", cuGraphInstantiate(&second, one, 0));
    OK(cuStreamBeginCapture(stream, local));
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "cannot be a child", cuGraphLaunch(exec, stream));
    CUgraph ended = nullptr;
    RETURNS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &ended));
    OK(cuGraphExecDestroy(exec));
    // A host function in a body is captured, but cannot be instantiated.
    OK(cuStreamBeginCaptureToGraph(stream, body, nullptr, nullptr, 0, local));
    OK(cuLaunchHostFunc(stream, [](void*) {}, nullptr));
    OK(cuStreamEndCapture(stream, &ended));
    REFUSED(CUDA_ERROR_NOT_SUPPORTED, "node of type 3", cuGraphInstantiate(&exec, one, 0));
    // Kernels of two contexts in one body.
    CUgraph inner = nullptr;
    OK(add(two, foreign, CU_GRAPH_COND_TYPE_IF, 1, &inner));
    AddParams params = {nullptr, 0, 1};
    void* parameters[] = {&params};
    CUcontext other = nullptr;
    CUDA_KERNEL_NODE_PARAMS kernel = {function(add_key), 1, 1, 1, 32, 1, 1, 0, parameters, nullptr, nullptr, nullptr};
    OK(cuGraphAddKernelNode(&node, inner, nullptr, 0, &kernel));
    OK(cuCtxCreate_v4(&other, nullptr, 0, 0));
    kernel.func = function(add_key);
    OK(cuGraphAddKernelNode(&node, inner, nullptr, 0, &kernel));
    OK(cuCtxSetCurrent(device.context));
    REFUSED(invalid_value, "of two contexts", cuGraphInstantiate(&exec, two, 0));
    OK(cuCtxDestroy(other));
    OK(cuGraphDestroy(one));
    OK(cuGraphDestroy(two));
    OK(cuStreamDestroy(stream));
    expect_clean();
}

// The kernel reports what the driver returned for a handle of another graph.
TEST(refuses_handle_of_another_graph_at_run_time, "") {
    Device device;
    CUstream const stream = make_stream();
    CUgraph one = nullptr, two = nullptr;
    OK(cuGraphCreate(&two, 0));
    CUgraphConditionalHandle foreign = 0;
    OK(cuGraphConditionalHandleCreate(&foreign, two, nullptr, 0, 0));
    int result = 0;
    SetParams params = {foreign, nullptr, &result};
    OK(cuStreamBeginCapture(stream, local));
    OK(launch(stream, set_key, &params));
    OK(cuStreamEndCapture(stream, &one));
    CUgraphExec exec = nullptr;
    OK(cuGraphInstantiate(&exec, one, 0));
    OK(cuGraphLaunch(exec, stream));
    OK(cuStreamSynchronize(stream));
    EXPECT(result == invalid_value);
    result = 0;
    OK(launch(stream, set_key, &params));  // outside of a graph
    OK(cuStreamSynchronize(stream));
    EXPECT(result == invalid_value);
    OK(cuGraphExecDestroy(exec));
    OK(cuGraphDestroy(one));
    OK(cuGraphDestroy(two));
    OK(cuStreamDestroy(stream));
    expect_clean();
}
