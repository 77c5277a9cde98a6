// Graphs that route themselves: the runtime's conditional nodes, behind a few calls that enclose captures.
// Host code only. The emulator has no graphs.
#ifndef W4AX_EMULATE

#include "api/w4ax_skip.h"
#include "runtime/context.cuh"

#include <cuda_runtime.h>

#include <memory>
#include <new>
#include <utility>
#include <vector>

using namespace w4ax;

namespace {

// A graph with all its bodies. It is destroyed when no handle to it or to a body of it is left.
struct OwnedGraph {
    cudaGraph_t graph;
    // A capture into the graph or a body of it was invalidated. The driver then destroys the captured part, and the
    // state of the graph itself is undocumented. Destroying it again can end the process (NVIDIA/cuda-python #2834 and
    // #2918), so it is leaked instead.
    bool lost = false;

    explicit OwnedGraph(cudaGraph_t graph) : graph(graph) {}
    OwnedGraph(OwnedGraph const&) = delete;
    OwnedGraph& operator=(OwnedGraph const&) = delete;
    ~OwnedGraph() {
        if (!lost) cudaGraphDestroy(graph);
    }
};

}  // namespace

struct w4axk_graph {
    std::shared_ptr<OwnedGraph> owner;
    cudaGraph_t graph;  // the whole graph, or a body of it
    int device;
    std::vector<cudaGraphNode_t> tail;  // the nodes that the next capture or node depends on

    bool is_body() const { return graph != owner->graph; }
};

namespace {

// Conditional nodes depend on the version of the driver as well as on the toolkit's.
int driver_version() {
    int version = 0;
    return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

cudaError_t add_node(cudaGraphNode_t* node, w4axk_graph const& g, cudaGraphNodeParams* params) {
#if CUDART_VERSION >= 13000
    return cudaGraphAddNode(node, g.graph, g.tail.data(), nullptr, g.tail.size(), params);
#else
    return cudaGraphAddNode(node, g.graph, g.tail.data(), g.tail.size(), params);
#endif
}

cudaError_t capture_tail(cudaStream_t stream, std::vector<cudaGraphNode_t>& tail) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaGraphNode_t const* nodes = nullptr;
    size_t count = 0;
    // The query fails if edges have data and the caller does not take them. They are dropped: an edge without data
    // orders whole nodes, which is stricter.
    cudaGraphEdgeData const* edges = nullptr;
#if CUDART_VERSION >= 13000
    cudaError_t const error = cudaStreamGetCaptureInfo(stream, &status, nullptr, nullptr, &nodes, &edges, &count);
#else
    cudaError_t const error = cudaStreamGetCaptureInfo_v3(stream, &status, nullptr, nullptr, &nodes, &edges, &count);
#endif
    if (error != cudaSuccess) return error;
    if (status != cudaStreamCaptureStatusActive) return cudaErrorStreamCaptureInvalidated;
    tail.assign(nodes, nodes + count);
    return cudaSuccess;
}

// Returns whether CUDA allows a node in the body of a conditional node.
bool is_allowed_in_body(cudaGraphNodeType type) {
    switch (type) {
        case cudaGraphNodeTypeKernel:
        case cudaGraphNodeTypeEmpty:
        case cudaGraphNodeTypeGraph:
        case cudaGraphNodeTypeMemset:
        case cudaGraphNodeTypeMemcpy:
        case cudaGraphNodeTypeConditional: return true;
        default: return false;
    }
}

// Returns W4AXK_BAD_NODE and the type of the first node that is not allowed or belongs to another context.
w4axk_status check_nodes(Device const& device, cudaGraph_t graph, uint32_t* bad_type) {
    size_t count = 0;
    cudaError_t error = cudaGraphGetNodes(graph, nullptr, &count);
    if (error != cudaSuccess) return status_of(error);
    std::vector<cudaGraphNode_t> nodes(count);
    error = cudaGraphGetNodes(graph, nodes.data(), &count);
    if (error != cudaSuccess) return status_of(error);
    for (cudaGraphNode_t const node : nodes) {
        cudaGraphNodeType type;
        error = cudaGraphNodeGetType(node, &type);
        if (error != cudaSuccess) return status_of(error);
        if (!is_allowed_in_body(type)) {
            *bad_type = uint32_t(type);
            return W4AXK_BAD_NODE;
        }
        if (type == cudaGraphNodeTypeKernel) {
            bool ours = true;
            w4axk_status const status = belongs_to_device(device, node, &ours);
            if (status != W4AXK_OK) return status;
            if (!ours) {
                *bad_type = uint32_t(type) | W4AXK_OF_ANOTHER_CONTEXT;
                return W4AXK_BAD_NODE;
            }
        }
        if (type == cudaGraphNodeTypeGraph) {
            cudaGraph_t child;
            error = cudaGraphChildGraphNodeGetGraph(node, &child);
            if (error != cudaSuccess) return status_of(error);
            w4axk_status const status = check_nodes(device, child, bad_type);
            if (status != W4AXK_OK) return status;
        }
    }
    return W4AXK_OK;
}

w4axk_status make_graph(std::shared_ptr<OwnedGraph> owner, cudaGraph_t graph, int device, w4axk_graph** made) {
    *made = new (std::nothrow) w4axk_graph{std::move(owner), graph, device, {}};
    return *made ? W4AXK_OK : status_of(cudaErrorMemoryAllocation);
}

// Makes the graph's device current, after checking that the stream belongs to it.
w4axk_status enter(w4axk_graph const& g, void* stream, ContextGuard& guard) {
    Device const* device = find_device(g.device);
    return device ? guard.enter(*device, static_cast<cudaStream_t>(stream)) : W4AXK_NOT_PRELOADED;
}

}  // namespace

extern "C" {

uint32_t w4axk_conditional_nodes(void) {
    int const driver = driver_version();
#if CUDART_VERSION >= 12080
    if (driver >= 12080) return W4AXK_NODES_SWITCH;
#endif
    return driver >= 12040 ? W4AXK_NODES_IF : W4AXK_NODES_NONE;
}

w4axk_status w4axk_graph_create(int32_t device, w4axk_graph** graph) {
    if (!graph) return W4AXK_NULL_POINTER;
    *graph = nullptr;
    Device const* found = find_device(device);
    if (!found) return W4AXK_NOT_PRELOADED;
    ContextGuard guard;
    w4axk_status const status = guard.enter(*found, nullptr);
    if (status != W4AXK_OK) return status;
    cudaGraph_t made;
    cudaError_t const error = cudaGraphCreate(&made, 0);
    return error == cudaSuccess ? make_graph(std::make_shared<OwnedGraph>(made), made, device, graph)
                                : status_of(error);
}

void w4axk_graph_destroy(w4axk_graph* graph) { delete graph; }

w4axk_status w4axk_graph_conditionals(w4axk_graph* graph, uint32_t nodes, uint64_t handles[4]) {
    if (!graph || !handles) return W4AXK_NULL_POINTER;
    uint32_t const count = nodes == W4AXK_NODES_SWITCH ? 1 : nodes == W4AXK_NODES_IF ? 4 : 0;
    if (count == 0) return W4AXK_BAD_FLAGS;
    ContextGuard guard;
    w4axk_status const status = enter(*graph, nullptr, guard);
    if (status != W4AXK_OK) return status;
    for (uint32_t i = 0; i < count; ++i) {
        cudaGraphConditionalHandle handle;
        // The default at each launch is BF16, the last width, until the latch sets another one.
        unsigned const initial = count == 1 ? 3 : i == 3;
        cudaError_t const error = cudaGraphConditionalHandleCreate(&handle, graph->graph, initial,
                                                                   cudaGraphCondAssignDefault);
        if (error != cudaSuccess) return status_of(error);
        handles[i] = handle;
    }
    return W4AXK_OK;
}

w4axk_status w4axk_graph_capture(w4axk_graph* graph, void* stream) {
    if (!graph) return W4AXK_NULL_POINTER;
    ContextGuard guard;
    w4axk_status const status = enter(*graph, stream, guard);
    if (status != W4AXK_OK) return status;
    // Thread-local mode does not restrict the CUDA calls of other threads.
    auto const on = static_cast<cudaStream_t>(stream);
    cudaError_t const error = cudaStreamBeginCaptureToGraph(on, graph->graph, graph->tail.data(), nullptr,
                                                            graph->tail.size(), cudaStreamCaptureModeThreadLocal);
    if (error == cudaSuccess && graph->is_body()) register_body(on);
    return status_of(error);
}

w4axk_status w4axk_graph_end_capture(w4axk_graph* graph, void* stream) {
    if (!graph) return W4AXK_NULL_POINTER;
    auto const on = static_cast<cudaStream_t>(stream);
    if (graph->is_body()) unregister_body(on);
    ContextGuard guard;
    w4axk_status const status = enter(*graph, stream, guard);
    cudaError_t error = status == W4AXK_OK ? capture_tail(on, graph->tail) : cudaSuccess;
    // The capture ends in any case, because a stream that is left capturing cannot be used again.
    cudaGraph_t captured = nullptr;
    cudaError_t const ended = cudaStreamEndCapture(on, &captured);
    if (status != W4AXK_OK || ended != cudaSuccess || !captured) graph->owner->lost = true;
    if (status != W4AXK_OK) {
        if (ended != cudaSuccess) cudaGetLastError();
        return status;
    }
    if (error == cudaSuccess) error = ended;
    if (error == cudaSuccess && graph->is_body() && graph->tail.empty()) {
        // Drivers before 12.8 hang on a body without nodes (openxla/xla #25769).
        cudaGraphNode_t node;
        error = cudaGraphAddEmptyNode(&node, graph->graph, nullptr, 0);
    }
    if (error != cudaSuccess) cudaGetLastError();
    return status_of(error);
}

w4axk_status w4axk_graph_add_conditionals(w4axk_graph* graph, uint32_t nodes, const uint64_t handles[4],
                                          w4axk_graph* bodies[4]) {
    if (!graph || !handles || !bodies) return W4AXK_NULL_POINTER;
    for (int i = 0; i < 4; ++i) bodies[i] = nullptr;
    bool const is_switch = nodes == W4AXK_NODES_SWITCH;
    if (!is_switch && nodes != W4AXK_NODES_IF) return W4AXK_BAD_FLAGS;
    ContextGuard guard;
    w4axk_status status = enter(*graph, nullptr, guard);
    if (status != W4AXK_OK) return status;
    // IF nodes follow one another: each step runs one of the bodies and skips the other three.
    for (int i = 0; i < (is_switch ? 1 : 4); ++i) {
        cudaGraphNodeParams params = {};
        params.type = cudaGraphNodeTypeConditional;
        params.conditional.handle = handles[i];
        params.conditional.size = is_switch ? 4 : 1;
#if CUDART_VERSION >= 12080
        params.conditional.type = is_switch ? cudaGraphCondTypeSwitch : cudaGraphCondTypeIf;
#else
        if (is_switch) return W4AXK_BAD_FLAGS;
        params.conditional.type = cudaGraphCondTypeIf;
#endif
        cudaGraphNode_t node;
        cudaError_t const error = add_node(&node, *graph, &params);
        if (error != cudaSuccess) return status_of(error);
        graph->tail.assign(1, node);
        for (unsigned body = 0; body < params.conditional.size; ++body) {
            status = make_graph(graph->owner, params.conditional.phGraph_out[body], graph->device,
                                &bodies[is_switch ? body : unsigned(i)]);
            if (status != W4AXK_OK) return status;
        }
    }
    return W4AXK_OK;
}

w4axk_status w4axk_graph_if_handle(w4axk_graph* graph, uint32_t initial, uint64_t* handle) {
    if (!graph || !handle) return W4AXK_NULL_POINTER;
    if (initial > 1) return W4AXK_BAD_FLAGS;
    ContextGuard guard;
    w4axk_status const status = enter(*graph, nullptr, guard);
    if (status != W4AXK_OK) return status;
    cudaGraphConditionalHandle made;
    cudaError_t const error = cudaGraphConditionalHandleCreate(&made, graph->graph, initial,
                                                               cudaGraphCondAssignDefault);
    if (error == cudaSuccess) *handle = made;
    return status_of(error);
}

w4axk_status w4axk_graph_add_if(w4axk_graph* graph, uint64_t handle, w4axk_graph** body) {
    if (!graph || !body) return W4AXK_NULL_POINTER;
    *body = nullptr;
    ContextGuard guard;
    w4axk_status const status = enter(*graph, nullptr, guard);
    if (status != W4AXK_OK) return status;
    cudaGraphNodeParams params = {};
    params.type = cudaGraphNodeTypeConditional;
    params.conditional.handle = handle;
    params.conditional.type = cudaGraphCondTypeIf;
    params.conditional.size = 1;
    cudaGraphNode_t node;
    cudaError_t const error = add_node(&node, *graph, &params);
    if (error != cudaSuccess) return status_of(error);
    graph->tail.assign(1, node);
    return make_graph(graph->owner, params.conditional.phGraph_out[0], graph->device, body);
}

w4axk_status w4axk_graph_check_body(const w4axk_graph* body, uint32_t* bad_type) {
    if (!body || !bad_type) return W4AXK_NULL_POINTER;
    ContextGuard guard;
    w4axk_status const status = enter(*body, nullptr, guard);
    return status == W4AXK_OK ? check_nodes(*find_device(body->device), body->graph, bad_type) : status;
}

w4axk_status w4axk_graph_instantiate(const w4axk_graph* graph, void** executable) {
    if (!graph || !executable) return W4AXK_NULL_POINTER;
    ContextGuard guard;
    w4axk_status const status = enter(*graph, nullptr, guard);
    if (status != W4AXK_OK) return status;
    cudaGraphExec_t made = nullptr;
    cudaError_t const error = cudaGraphInstantiate(&made, graph->graph, 0);
    if (error != cudaSuccess) cudaGetLastError();
    *executable = made;
    return status_of(error);
}

void w4axk_graph_exec_destroy(void* executable) {
    if (executable) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable));
}

w4axk_status w4axk_graph_launch(int32_t device, void* executable, void* stream) {
    if (!executable) return W4AXK_NULL_POINTER;
    Device const* found = find_device(device);
    if (!found) return W4AXK_NOT_PRELOADED;
    ContextGuard guard;
    w4axk_status const status = guard.enter(*found, static_cast<cudaStream_t>(stream));
    if (status != W4AXK_OK) return status;
    auto const on = static_cast<cudaStream_t>(stream);
    cudaError_t const error = cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable), on);
    if (error != cudaSuccess) cudaGetLastError();
    return status_of(error);
}

}  // extern "C"

#endif
