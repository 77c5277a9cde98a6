// The runtime's functions for captures and graphs.
#include "emulate/cudart/driver.h"

using namespace w4ax_cudart;

static_assert(sizeof(cudaGraphNodeParams) == sizeof(CUgraphNodeParams) &&
                  sizeof(cudaGraphEdgeData) == sizeof(CUgraphEdgeData),
              "the parameters of nodes and edges have the driver's layout");

extern "C" {

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
    return call(&Driver::cuThreadExchangeStreamCaptureMode, reinterpret_cast<CUstreamCaptureMode*>(mode));
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    return call(&Driver::cuStreamIsCapturing, stream, reinterpret_cast<CUstreamCaptureStatus*>(status));
}

cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t stream, cudaGraph_t graph, cudaGraphNode_t const* dependencies,
                                          cudaGraphEdgeData const* edges, size_t count, cudaStreamCaptureMode mode) {
    return call(&Driver::cuStreamBeginCaptureToGraph, stream, graph, dependencies,
                reinterpret_cast<CUgraphEdgeData const*>(edges), count, static_cast<CUstreamCaptureMode>(mode));
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id,
                                     cudaGraph_t* graph, cudaGraphNode_t const** dependencies,
                                     cudaGraphEdgeData const** edges, size_t* count) {
    return call(&Driver::cuStreamGetCaptureInfo, stream, reinterpret_cast<CUstreamCaptureStatus*>(status),
                reinterpret_cast<cuuint64_t*>(id), graph, dependencies,
                reinterpret_cast<CUgraphEdgeData const**>(edges), count);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    return call(&Driver::cuStreamEndCapture, stream, graph);
}

cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned flags) { return call(&Driver::cuGraphCreate, graph, flags); }

cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return call(&Driver::cuGraphDestroy, graph); }

cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle* handle, cudaGraph_t graph, unsigned initial,
                                             unsigned flags) {
    Driver const* driver;
    if (cudaError_t const error = start_in_context(driver); error != cudaSuccess) return error;
    CUcontext context = nullptr;
    if (CUresult const result = driver->cuCtxGetCurrent(&context); result != CUDA_SUCCESS) return record(result);
    return call(&Driver::cuGraphConditionalHandleCreate, reinterpret_cast<CUgraphConditionalHandle*>(handle), graph,
                context, initial, flags);
}

cudaError_t cudaGraphAddNode(cudaGraphNode_t* node, cudaGraph_t graph, cudaGraphNode_t const* dependencies,
                             cudaGraphEdgeData const* edges, size_t count, cudaGraphNodeParams* params) {
    Driver const* driver;
    if (cudaError_t const error = start_in_context(driver); error != cudaSuccess) return error;
    if (!params) return record(cudaErrorInvalidValue);
    // Kernels differ: a node of the runtime has their host function. The crate captures its kernels.
    if (params->type != cudaGraphNodeTypeConditional) return record(cudaErrorNotSupported);
    CUgraphNodeParams of_driver = {};
    of_driver.type = CU_GRAPH_NODE_TYPE_CONDITIONAL;
    of_driver.conditional.handle = params->conditional.handle;
    of_driver.conditional.type = static_cast<CUgraphConditionalNodeType>(params->conditional.type);
    of_driver.conditional.size = params->conditional.size;
    if (CUresult const result = driver->cuCtxGetCurrent(&of_driver.conditional.ctx); result != CUDA_SUCCESS)
        return record(result);
    cudaError_t const error = call(&Driver::cuGraphAddNode, node, graph, dependencies,
                                   reinterpret_cast<CUgraphEdgeData const*>(edges), count, &of_driver);
    if (error == cudaSuccess) params->conditional.phGraph_out = of_driver.conditional.phGraph_out;
    return error;
}

cudaError_t cudaGraphAddEmptyNode(cudaGraphNode_t* node, cudaGraph_t graph, cudaGraphNode_t const* dependencies,
                                  size_t count) {
    return call(&Driver::cuGraphAddEmptyNode, node, graph, dependencies, count);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
    return call(&Driver::cuGraphGetNodes, graph, nodes, count);
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
    CUgraphNodeType found;
    cudaError_t const error = call(&Driver::cuGraphNodeGetType, node, &found);
    if (error == cudaSuccess) *type = static_cast<cudaGraphNodeType>(found);
    return error;
}

cudaError_t cudaGraphChildGraphNodeGetGraph(cudaGraphNode_t node, cudaGraph_t* graph) {
    return call(&Driver::cuGraphChildGraphNodeGetGraph, node, graph);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
    return call(&Driver::cuGraphInstantiate, executable, graph, flags);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) { return call(&Driver::cuGraphExecDestroy, executable); }

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    return call(&Driver::cuGraphLaunch, executable, stream);
}

}  // extern "C"
