// The kinds of nodes: their parameters, and what a graph may hold.
#include <algorithm>

#include "copy.h"
#include "driver.h"
#include "entry.h"
#include "module.h"

namespace w4ax_driver {

namespace {

constexpr int conditional_nodes_driver = 12040, switch_nodes_driver = 12080;

bool holds_conditionals(Graph const& graph) {
    if (!graph.conditionals.empty()) return true;
    return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](auto const& node) {
        return node->type == CU_GRAPH_NODE_TYPE_CONDITIONAL ||
               std::any_of(node->graphs.begin(), node->graphs.end(),
                           [](Ref<Graph> const& inner) { return holds_conditionals(*inner); });
    });
}

bool holds_allocations(Graph const& graph) {
    return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](auto const& node) {
        return node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || node->type == CU_GRAPH_NODE_TYPE_MEM_FREE;
    });
}

CUresult find_context_or_current(CUcontext handle, Ref<Context>& context) {
    W4AX_TRY(handle ? find_context(handle, context) : current(context));
    return check_failure(*context);
}

CUresult kernel_operation(CUDA_KERNEL_NODE_PARAMS_v3 const& params, Operation& operation) {
    operation.work = Work::kernel;
    if (!params.func) return refuse(CUDA_ERROR_NOT_SUPPORTED, "the software driver has no CUkernel: `func` is null");
    W4AX_TRY(find_function(params.func, operation.function));
    operation.context = operation.function->context;
    W4AX_TRY(check_failure(*operation.context));
    operation.grid[0] = params.gridDimX;
    operation.grid[1] = params.gridDimY;
    operation.grid[2] = params.gridDimZ;
    operation.block[0] = params.blockDimX;
    operation.block[1] = params.blockDimY;
    operation.block[2] = params.blockDimZ;
    operation.dynamic_shared = params.sharedMemBytes;
    W4AX_TRY(take_parameter(params.kernelParams, params.extra, operation));
    return check_launch(*operation.function, operation);
}

CUresult copy_operation(CUDA_MEMCPY3D const& params, CUcontext context, Operation& operation) {
    operation.work = Work::copy;
    W4AX_TRY(find_context_or_current(context, operation.context));
    W4AX_TRY(shape_of(params, operation.copy));
    if (operation.copy.width == 0) return refuse(CUDA_ERROR_INVALID_VALUE, "a copy of 0 bytes");
    return check_copy(*operation.context, operation.copy);
}

CUresult fill_operation(CUDA_MEMSET_NODE_PARAMS_v1 const& params, CUcontext context, Operation& operation) {
    operation.work = Work::fill;
    W4AX_TRY(find_context_or_current(context, operation.context));
    operation.fill.to = params.dst;
    operation.fill.width = params.width;
    operation.fill.height = params.height;
    operation.fill.pitch = params.pitch;
    operation.fill.value = params.value;
    operation.fill.element = params.elementSize;
    if (params.width == 0 || params.height == 0) return refuse(CUDA_ERROR_INVALID_VALUE, "a memset of 0 bytes");
    return check_fill(*operation.context, operation.fill);
}

/// What a new node belongs to, and depends on.
struct Position {
    Ref<Graph> graph;
    std::vector<Node*> after;
};
CUresult find_position(CUgraph handle, CUgraphNode const* dependencies, std::size_t count, Position& position) {
    W4AX_TRY(find_graph(handle, position.graph));
    return find_nodes(*position.graph, dependencies, count, position.after);
}

CUresult add(Position& position, CUgraphNodeType type, Operation&& operation, CUgraphNode* made) {
    Node* node = nullptr;
    W4AX_TRY(add_node(*position.graph, std::move(position.after), type, std::move(operation), node));
    *made = reinterpret_cast<CUgraphNode>(node->handle);
    return CUDA_SUCCESS;
}

CUresult add_child(Position& position, CUgraph handle, CUgraphNode* made) {
    Ref<Graph> child;
    W4AX_TRY(find_graph(handle, child));
    if (child->capturing) return refuse(CUDA_ERROR_INVALID_VALUE, "a capture into the child is in progress");
    if (holds_conditionals(*child)) {
        return refuse(CUDA_ERROR_NOT_SUPPORTED, "a graph with conditional nodes cannot be a child");
    }
    if (holds_allocations(*child)) {
        return refuse(CUDA_ERROR_NOT_SUPPORTED, "a graph that allocates memory cannot be a child");
    }
    Node* node = nullptr;
    W4AX_TRY(add_node(*position.graph, std::move(position.after), CU_GRAPH_NODE_TYPE_GRAPH, {}, node));
    adopt_child(*node, *child);
    *made = reinterpret_cast<CUgraphNode>(node->handle);
    return CUDA_SUCCESS;
}

CUresult check_conditional(Graph& graph, CUDA_CONDITIONAL_NODE_PARAMS const& params, Ref<Conditional>& conditional) {
    if (play().driver < conditional_nodes_driver) {
        return refuse(CUDA_ERROR_NOT_SUPPORTED, "conditional nodes exist from CUDA 12.4 on, but the driver is of %d",
                      play().driver);
    }
    bool const is_if = params.type == CU_GRAPH_COND_TYPE_IF, is_while = params.type == CU_GRAPH_COND_TYPE_WHILE;
    if (!is_if && !is_while && params.type != CU_GRAPH_COND_TYPE_SWITCH) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "conditional type %d", int(params.type));
    }
    if (params.size == 0 || (is_if && params.size > 2) || (is_while && params.size > 1)) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "a conditional node of type %d with %u bodies", int(params.type),
                      params.size);
    }
    if (play().driver < switch_nodes_driver && ((!is_if && !is_while) || params.size > 1)) {
        return refuse(CUDA_ERROR_NOT_SUPPORTED, "SWITCH and ELSE exist from CUDA 12.8 on, but the driver is of %d",
                      play().driver);
    }
    auto const at = driver().conditionals.find(params.handle);
    if (at == driver().conditionals.end()) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "%s", describe_handle(params.handle, HandleKind::conditional).c_str());
    }
    conditional = at->second;
    bool of_this_graph = false;
    for (Graph const* outer = &graph; outer; outer = outer->parent) of_this_graph |= outer == conditional->graph;
    if (!of_this_graph) return refuse(CUDA_ERROR_INVALID_VALUE, "the conditional handle belongs to another graph");
    if (conditional->used) return refuse(CUDA_ERROR_INVALID_VALUE, "the conditional handle has a node already");
    if (params.ctx && reinterpret_cast<std::uint64_t>(params.ctx) != conditional->context->handle) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "the conditional handle belongs to another context");
    }
    return CUDA_SUCCESS;
}

CUresult add_conditional(Position& position, CUDA_CONDITIONAL_NODE_PARAMS& params, CUgraphNode* made) {
    Ref<Conditional> conditional;
    W4AX_TRY(check_conditional(*position.graph, params, conditional));
    Operation operation;
    operation.context = conditional->context;
    Node* node = nullptr;
    W4AX_TRY(add_node(*position.graph, std::move(position.after), CU_GRAPH_NODE_TYPE_CONDITIONAL, std::move(operation),
                      node));
    conditional->used = true;
    node->conditional = params.handle;
    node->conditional_type = params.type;
    for (unsigned i = 0; i < params.size; ++i) {
        Ref<Graph> const body = make_graph();
        body->parent = position.graph.get();
        body->is_body = true;
        node->graphs.push_back(body);
        node->graph_handles.push_back(reinterpret_cast<CUgraph>(body->handle));
    }
    params.phGraph_out = node->graph_handles.data();
    *made = reinterpret_cast<CUgraphNode>(node->handle);
    return CUDA_SUCCESS;
}

CUresult add_any(Position& position, CUgraphEdgeData const* edges, std::size_t count, CUgraphNodeParams* params,
                 CUgraphNode* made) {
    W4AX_NOT_NULL(made);
    W4AX_NOT_NULL(params);
    Operation operation;
    for (std::size_t i = 0; edges && i < count; ++i) {
        if (edges[i].to_port) return refuse(CUDA_ERROR_INVALID_VALUE, "edge %zu: to_port %d", i, edges[i].to_port);
        if (edges[i].type == CU_GRAPH_DEPENDENCY_TYPE_DEFAULT && edges[i].from_port == 0) continue;
        bool const between_kernels = params->type == CU_GRAPH_NODE_TYPE_KERNEL && i < position.after.size() &&
                                     position.after[i]->type == CU_GRAPH_NODE_TYPE_KERNEL;
        if (!between_kernels || play().arch < 90) {
            return refuse(CUDA_ERROR_INVALID_VALUE, "edge %zu: programmatic, but not between kernels of sm_90", i);
        }
        operation.programmatic = true;
    }
    switch (params->type) {
        case CU_GRAPH_NODE_TYPE_EMPTY: break;
        case CU_GRAPH_NODE_TYPE_KERNEL: W4AX_TRY(kernel_operation(params->kernel, operation)); break;
        case CU_GRAPH_NODE_TYPE_MEMCPY:
            W4AX_TRY(copy_operation(params->memcpy.copyParams, params->memcpy.copyCtx, operation));
            break;
        case CU_GRAPH_NODE_TYPE_MEMSET: {
            auto const& m = params->memset;
            CUDA_MEMSET_NODE_PARAMS_v1 const fill = {m.dst, m.pitch, m.value, m.elementSize, m.width, m.height};
            W4AX_TRY(fill_operation(fill, m.ctx, operation));
            break;
        }
        case CU_GRAPH_NODE_TYPE_HOST:
            operation.work = Work::host;
            operation.host = params->host.fn;
            operation.host_data = params->host.userData;
            if (!operation.host) return refuse(CUDA_ERROR_INVALID_VALUE, "the host function is null");
            break;
        case CU_GRAPH_NODE_TYPE_GRAPH: return add_child(position, params->graph.graph, made);
        case CU_GRAPH_NODE_TYPE_CONDITIONAL: return add_conditional(position, params->conditional, made);
        default: return refuse(CUDA_ERROR_NOT_SUPPORTED, "the software driver has no nodes of type %d", params->type);
    }
    return add(position, params->type, std::move(operation), made);
}

}  // namespace

}  // namespace w4ax_driver

using namespace w4ax_driver;

extern "C" {

CUresult cuGraphAddNode(CUgraphNode* made, CUgraph graph, CUgraphNode const* dependencies, size_t count,
                        CUgraphNodeParams* params) {
    W4AX_ENTRY(cuGraphAddNode);
    Position position;
    W4AX_TRY(find_position(graph, dependencies, count, position));
    return add_any(position, nullptr, count, params, made);
}
CUresult cuGraphAddNode_v2(CUgraphNode* made, CUgraph graph, CUgraphNode const* dependencies,
                           CUgraphEdgeData const* edges, size_t count, CUgraphNodeParams* params) {
    W4AX_ENTRY(cuGraphAddNode_v2);
    Position position;
    W4AX_TRY(find_position(graph, dependencies, count, position));
    return add_any(position, edges, count, params, made);
}
CUresult cuGraphAddEmptyNode(CUgraphNode* made, CUgraph graph, CUgraphNode const* dependencies, size_t count) {
    W4AX_ENTRY(cuGraphAddEmptyNode);
    W4AX_NOT_NULL(made);
    Position position;
    W4AX_TRY(find_position(graph, dependencies, count, position));
    return add(position, CU_GRAPH_NODE_TYPE_EMPTY, {}, made);
}
CUresult cuGraphAddKernelNode_v2(CUgraphNode* made, CUgraph graph, CUgraphNode const* dependencies, size_t count,
                                 CUDA_KERNEL_NODE_PARAMS const* params) {
    W4AX_ENTRY(cuGraphAddKernelNode_v2);
    W4AX_NOT_NULL(made);
    W4AX_NOT_NULL(params);
    Position position;
    W4AX_TRY(find_position(graph, dependencies, count, position));
    auto const& p = *params;
    CUDA_KERNEL_NODE_PARAMS_v3 const full = {p.func,         p.gridDimX,  p.gridDimY,  p.gridDimZ,
                                             p.blockDimX,    p.blockDimY, p.blockDimZ, p.sharedMemBytes,
                                             p.kernelParams, p.extra,     p.kern,      p.ctx};
    Operation operation;
    W4AX_TRY(kernel_operation(full, operation));
    return add(position, CU_GRAPH_NODE_TYPE_KERNEL, std::move(operation), made);
}
CUresult cuGraphAddMemcpyNode(CUgraphNode* made, CUgraph graph, CUgraphNode const* dependencies, size_t count,
                              CUDA_MEMCPY3D const* params, CUcontext context) {
    W4AX_ENTRY(cuGraphAddMemcpyNode);
    W4AX_NOT_NULL(made);
    W4AX_NOT_NULL(params);
    Position position;
    W4AX_TRY(find_position(graph, dependencies, count, position));
    Operation operation;
    W4AX_TRY(copy_operation(*params, context, operation));
    return add(position, CU_GRAPH_NODE_TYPE_MEMCPY, std::move(operation), made);
}
CUresult cuGraphAddMemsetNode(CUgraphNode* made, CUgraph graph, CUgraphNode const* dependencies, size_t count,
                              CUDA_MEMSET_NODE_PARAMS const* params, CUcontext context) {
    W4AX_ENTRY(cuGraphAddMemsetNode);
    W4AX_NOT_NULL(made);
    W4AX_NOT_NULL(params);
    Position position;
    W4AX_TRY(find_position(graph, dependencies, count, position));
    Operation operation;
    W4AX_TRY(fill_operation(*params, context, operation));
    return add(position, CU_GRAPH_NODE_TYPE_MEMSET, std::move(operation), made);
}
CUresult cuGraphAddHostNode(CUgraphNode* made, CUgraph graph, CUgraphNode const* dependencies, size_t count,
                            CUDA_HOST_NODE_PARAMS const* params) {
    W4AX_ENTRY(cuGraphAddHostNode);
    W4AX_NOT_NULL(made);
    W4AX_NOT_NULL(params);
    Position position;
    W4AX_TRY(find_position(graph, dependencies, count, position));
    Operation operation;
    operation.work = Work::host;
    operation.host = params->fn;
    operation.host_data = params->userData;
    if (!operation.host) return refuse(CUDA_ERROR_INVALID_VALUE, "the host function is null");
    return add(position, CU_GRAPH_NODE_TYPE_HOST, std::move(operation), made);
}
CUresult cuGraphAddChildGraphNode(CUgraphNode* made, CUgraph graph, CUgraphNode const* dependencies, size_t count,
                                  CUgraph child) {
    W4AX_ENTRY(cuGraphAddChildGraphNode);
    W4AX_NOT_NULL(made);
    Position position;
    W4AX_TRY(find_position(graph, dependencies, count, position));
    return add_child(position, child, made);
}
CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode handle, CUgraph* graph) {
    W4AX_ENTRY(cuGraphChildGraphNodeGetGraph);
    W4AX_NOT_NULL(graph);
    Node* node = nullptr;
    W4AX_TRY(find_node(handle, node));
    if (node->type != CU_GRAPH_NODE_TYPE_GRAPH || node->graphs.empty()) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "the node is no child graph");
    }
    *graph = reinterpret_cast<CUgraph>(node->graphs[0]->handle);
    return CUDA_SUCCESS;
}
CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode handle, CUDA_KERNEL_NODE_PARAMS* params) {
    W4AX_ENTRY(cuGraphKernelNodeGetParams_v2);
    W4AX_NOT_NULL(params);
    Node* node = nullptr;
    W4AX_TRY(find_node(handle, node));
    if (node->type != CU_GRAPH_NODE_TYPE_KERNEL) return refuse(CUDA_ERROR_INVALID_VALUE, "the node is no kernel");
    Operation const& operation = node->operation;
    node->parameters.assign(1, operation.parameter.get());
    *params = {reinterpret_cast<CUfunction>(operation.function->handle),
               operation.grid[0],
               operation.grid[1],
               operation.grid[2],
               operation.block[0],
               operation.block[1],
               operation.block[2],
               operation.dynamic_shared,
               node->parameters.data(),
               nullptr,
               nullptr,
               reinterpret_cast<CUcontext>(operation.function->context->handle)};
    return CUDA_SUCCESS;
}
CUresult cuGraphConditionalHandleCreate(CUgraphConditionalHandle* made, CUgraph graph_handle, CUcontext context_handle,
                                        unsigned int initial, unsigned int flags) {
    W4AX_ENTRY(cuGraphConditionalHandleCreate);
    W4AX_NOT_NULL(made);
    if (play().driver < conditional_nodes_driver) {
        return refuse(CUDA_ERROR_NOT_SUPPORTED, "conditional nodes exist from CUDA 12.4 on, but the driver is of %d",
                      play().driver);
    }
    if (flags & ~unsigned(CU_GRAPH_COND_ASSIGN_DEFAULT)) return refuse(CUDA_ERROR_INVALID_VALUE, "flags %#x", flags);
    Ref<Graph> graph;
    W4AX_TRY(find_graph(graph_handle, graph));
    auto const conditional = std::make_shared<Conditional>();
    W4AX_TRY(find_context_or_current(context_handle, conditional->context));
    conditional->handle = new_handle(HandleKind::conditional);
    conditional->graph = graph.get();
    conditional->initial = initial;
    conditional->assigns_default = flags != 0;
    graph->conditionals[conditional->handle] = conditional;
    driver().conditionals[conditional->handle] = conditional;
    *made = conditional->handle;
    return CUDA_SUCCESS;
}

}  // extern "C"
