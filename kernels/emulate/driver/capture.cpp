// Stream capture.
#include <algorithm>
#include <set>

#include "driver.h"
#include "entry.h"
#include "thread_state.h"

namespace w4ax_driver {

namespace {

void forget_capture(Ref<Capture> const& capture) {
    capture->active = false;
    auto& captures = driver().captures;
    captures.erase(std::remove(captures.begin(), captures.end(), capture), captures.end());
    for (auto const& [handle, stream] : driver().streams) {
        if (stream->capture != capture) continue;
        stream->capture = nullptr;
        stream->tail.clear();
        stream->previous = Work::empty;
    }
    capture->graph->capturing = nullptr;
}

/// What a capture that failed leaves behind.
void discard_graph(Capture const& capture) {
    if (capture.to_graph) {
        capture.graph->root().lost = true;
    } else {
        forget_graph(*capture.graph);
    }
}

/// Whether every node of the capture is an ancestor of the nodes that the origin's next one would depend on.
bool is_joined(Capture const& capture) {
    std::set<Node*> reached;
    std::vector<Node*> open = capture.origin->tail;
    while (!open.empty()) {
        Node* const node = open.back();
        open.pop_back();
        if (!reached.insert(node).second) continue;
        open.insert(open.end(), node->after.begin(), node->after.end());
    }
    return std::all_of(capture.captured.begin(), capture.captured.end(),
                       [&](Node* node) { return reached.count(node) != 0; });
}

CUresult begin(CUstream handle, Ref<Graph> graph, std::vector<Node*> tail, CUstreamCaptureMode mode) {
    if (mode != CU_STREAM_CAPTURE_MODE_GLOBAL && mode != CU_STREAM_CAPTURE_MODE_THREAD_LOCAL &&
        mode != CU_STREAM_CAPTURE_MODE_RELAXED) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "capture mode %d", int(mode));
    }
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    W4AX_TRY(check_failure(*stream->context));
    if (stream->is_legacy()) {
        return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the legacy stream cannot be captured");
    }
    if (stream->capture) return refuse(CUDA_ERROR_ILLEGAL_STATE, "the stream is already being captured");
    auto const capture = std::make_shared<Capture>();
    capture->to_graph = graph != nullptr;
    if (!graph) {
        graph = make_graph();
        graph->owned_by_capture = true;
    }
    capture->id = ++driver().serial;
    capture->graph = graph;
    capture->mode = mode;
    capture->thread = this_thread();
    capture->origin = stream;
    graph->capturing = capture.get();
    driver().captures.push_back(capture);
    stream->capture = capture;
    stream->tail = std::move(tail);
    return CUDA_SUCCESS;
}

CUresult end(CUstream handle, CUgraph* made) {
    W4AX_NOT_NULL(made);
    *made = nullptr;
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    Ref<Capture> const capture = stream->capture;
    if (!capture) return refuse(CUDA_ERROR_ILLEGAL_STATE, "the stream is not being captured");
    if (capture->origin != stream) {
        invalidate(*capture, "it was ended on another stream than it began on");
        return refuse(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "the capture began on another stream");
    }
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != this_thread()) {
        return refuse(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "the capture began on another thread");
    }
    bool const joined = is_joined(*capture);
    bool const valid = !capture->invalidated && joined;
    Ref<Graph> const graph = capture->graph;
    forget_capture(capture);
    if (!valid) {
        discard_graph(*capture);
        if (capture->invalidated) {
            return refuse(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture was invalidated: %s",
                          capture->reason.c_str());
        }
        return refuse(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "the capture has a stream that was not joined to its origin");
    }
    graph->owned_by_capture = false;
    *made = reinterpret_cast<CUgraph>(graph->handle);
    return CUDA_SUCCESS;
}

CUresult info(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id, CUgraph* graph, CUgraphNode const** nodes,
              CUgraphEdgeData const** edges, std::size_t* count) {
    W4AX_NOT_NULL(status);
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    if (stream->is_legacy()) W4AX_TRY(check_implicit(*stream->context));
    if (edges && !nodes) return refuse(CUDA_ERROR_INVALID_VALUE, "edge data without dependencies");
    *status = !stream->capture               ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->capture->invalidated ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                             : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    if (*status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return CUDA_SUCCESS;
    stream->tail_handles.clear();
    for (Node const* node : stream->tail) stream->tail_handles.push_back(reinterpret_cast<CUgraphNode>(node->handle));
    stream->tail_edges.assign(stream->tail.size(), CUgraphEdgeData{});
    if (id) *id = stream->capture->id;
    if (graph) *graph = reinterpret_cast<CUgraph>(stream->capture->graph->handle);
    if (nodes) *nodes = stream->tail_handles.data();
    if (edges) *edges = stream->tail_edges.data();
    if (count) *count = stream->tail.size();
    return CUDA_SUCCESS;
}

CUresult update_tail(CUstream handle, CUgraphNode* handles, std::size_t count, unsigned flags) {
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    if (!stream->capture) return refuse(CUDA_ERROR_ILLEGAL_STATE, "the stream is not being captured");
    W4AX_TRY(check_capture(*stream));
    if (flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES) return refuse(CUDA_ERROR_INVALID_VALUE, "flags %u", flags);
    std::vector<Node*> nodes;
    W4AX_TRY(find_nodes(*stream->capture->graph, handles, count, nodes));
    if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES) stream->tail.clear();
    stream->tail.insert(stream->tail.end(), nodes.begin(), nodes.end());
    return CUDA_SUCCESS;
}

}  // namespace

void invalidate(Capture& capture, std::string reason) {
    if (capture.invalidated) return;
    capture.invalidated = true;
    capture.reason = std::move(reason);
}

void leave_capture(Ref<Stream> const& stream) {
    Ref<Capture> const capture = stream->capture;
    if (!capture) return;
    invalidate(*capture, "a stream was destroyed while it was captured");
    stream->capture = nullptr;
    if (capture->origin != stream) return;
    forget_capture(capture);
    discard_graph(*capture);
}

CUresult check_synchronization(Context const& context) {
    bool captures = false;
    for (auto const& [handle, stream] : driver().streams) {
        if (stream->context.get() != &context || !stream->capture) continue;
        captures = true;
        invalidate(*stream->capture, format("%s waits for a stream that is being captured", thread_state().function));
    }
    if (!captures) return CUDA_SUCCESS;
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "a stream of the context is being captured");
}

CUresult check_capture(Stream const& stream) {
    if (!stream.capture->invalidated) return CUDA_SUCCESS;
    return refuse(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture was invalidated: %s",
                  stream.capture->reason.c_str());
}

CUresult check_unsafe() {
    auto const& state = thread_state();
    if (state.capture_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
    bool const global = state.capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    Capture* prohibits = nullptr;
    for (auto const& capture : driver().captures) {
        bool const of_this_thread = capture->thread == this_thread() && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
        if (!of_this_thread && !(global && capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL)) continue;
        prohibits = capture.get();
        invalidate(*capture, format("%s during a capture is unsafe", state.function));
    }
    if (!prohibits) return CUDA_SUCCESS;
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the call is unsafe during a capture whose mode is %s",
                  prohibits->mode == CU_STREAM_CAPTURE_MODE_GLOBAL ? "global" : "thread-local");
}

CUresult check_implicit(Context const& context) {
    for (auto const& [handle, stream] : driver().streams) {
        if (stream->context.get() != &context || !stream->capture || !stream->is_blocking()) continue;
        invalidate(*stream->capture, "the legacy stream, which waits for this blocking stream, was used");
        return refuse(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
                      "the legacy stream waits for blocking streams, and one of them is being captured");
    }
    return CUDA_SUCCESS;
}

CUresult capture_operation(Ref<Stream> const& stream, Operation&& operation) {
    W4AX_TRY(check_capture(*stream));
    CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
    switch (operation.work) {
        case Work::empty: break;
        case Work::kernel: type = CU_GRAPH_NODE_TYPE_KERNEL; break;
        case Work::copy: type = CU_GRAPH_NODE_TYPE_MEMCPY; break;
        case Work::fill: type = CU_GRAPH_NODE_TYPE_MEMSET; break;
        case Work::host: type = CU_GRAPH_NODE_TYPE_HOST; break;
        case Work::graph: type = CU_GRAPH_NODE_TYPE_GRAPH; break;
        case Work::allocate: type = CU_GRAPH_NODE_TYPE_MEM_ALLOC; break;
        case Work::release: type = CU_GRAPH_NODE_TYPE_MEM_FREE; break;
    }
    if (operation.programmatic && stream->capture->graph->is_body) {
        return refuse(CUDA_ERROR_NOT_SUPPORTED,
                      "a programmatic dependent launch in the body of a conditional node: CUDA does not document it");
    }
    Node* node = nullptr;
    W4AX_TRY(add_node(*stream->capture->graph, stream->tail, type, std::move(operation), node));
    stream->tail.assign(1, node);
    stream->capture->captured.push_back(node);
    return CUDA_SUCCESS;
}

}  // namespace w4ax_driver

using namespace w4ax_driver;

extern "C" {

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
    W4AX_ENTRY(cuStreamBeginCapture_v2);
    return begin(stream, nullptr, {}, mode);
}
CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph_handle, CUgraphNode const* dependencies,
                                     CUgraphEdgeData const* edges, size_t count, CUstreamCaptureMode mode) {
    W4AX_ENTRY(cuStreamBeginCaptureToGraph);
    Ref<Graph> graph;
    W4AX_TRY(find_graph(graph_handle, graph));
    if (graph->capturing) return refuse(CUDA_ERROR_ILLEGAL_STATE, "another capture into the graph is in progress");
    std::vector<Node*> tail;
    W4AX_TRY(find_nodes(*graph, dependencies, count, tail));
    if (edges) {
        for (std::size_t i = 0; i < count; ++i) {
            if (edges[i].type || edges[i].from_port || edges[i].to_port) {
                return refuse(CUDA_ERROR_NOT_SUPPORTED, "the software driver has no programmatic edges of a capture");
            }
        }
    }
    return begin(stream, graph, std::move(tail), mode);
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
    W4AX_ENTRY(cuStreamEndCapture);
    return end(stream, graph);
}
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
    W4AX_ENTRY(cuStreamIsCapturing);
    return info(stream, status, nullptr, nullptr, nullptr, nullptr, nullptr);
}
CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus* status, cuuint64_t* id, CUgraph* graph,
                                   CUgraphNode const** nodes, size_t* count) {
    W4AX_ENTRY(cuStreamGetCaptureInfo_v2);
    return info(stream, status, id, graph, nodes, nullptr, count);
}
CUresult cuStreamGetCaptureInfo_v3(CUstream stream, CUstreamCaptureStatus* status, cuuint64_t* id, CUgraph* graph,
                                   CUgraphNode const** nodes, CUgraphEdgeData const** edges, size_t* count) {
    W4AX_ENTRY(cuStreamGetCaptureInfo_v3);
    return info(stream, status, id, graph, nodes, edges, count);
}
CUresult cuStreamUpdateCaptureDependencies(CUstream stream, CUgraphNode* nodes, size_t count, unsigned int flags) {
    W4AX_ENTRY(cuStreamUpdateCaptureDependencies);
    return update_tail(stream, nodes, count, flags);
}
CUresult cuStreamUpdateCaptureDependencies_v2(CUstream stream, CUgraphNode* nodes, CUgraphEdgeData const*, size_t count,
                                              unsigned int flags) {
    W4AX_ENTRY(cuStreamUpdateCaptureDependencies_v2);
    return update_tail(stream, nodes, count, flags);
}
CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
    W4AX_ENTRY(cuThreadExchangeStreamCaptureMode);
    W4AX_NOT_NULL(mode);
    std::swap(*mode, thread_state().capture_mode);
    return CUDA_SUCCESS;
}

}  // extern "C"
