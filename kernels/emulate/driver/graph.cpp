// Graphs: nodes, dependencies, bodies of conditional nodes, copies.
#include <algorithm>

#include "driver.h"
#include "entry.h"

namespace w4ax_driver {

namespace {

CUgraph as_handle(Graph const& graph) { return reinterpret_cast<CUgraph>(graph.handle); }

template <class Handle>
CUresult list(std::vector<Handle> const& all, Handle* out, std::size_t* count) {
    W4AX_NOT_NULL(count);
    if (out) {
        std::size_t const room = *count;
        for (std::size_t i = 0; i < room; ++i) out[i] = i < all.size() ? all[i] : nullptr;
        *count = std::min(room, all.size());
    } else {
        *count = all.size();
    }
    return CUDA_SUCCESS;
}

bool reaches(Node const* from, Node const* to) {
    if (from == to) return true;
    return std::any_of(from->after.begin(), from->after.end(), [&](Node* node) { return reaches(node, to); });
}

CUresult list_edges(CUgraph handle, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* edges, std::size_t* count) {
    Ref<Graph> graph;
    W4AX_TRY(find_graph(handle, graph));
    W4AX_NOT_NULL(count);
    if (!from != !to) return refuse(CUDA_ERROR_INVALID_VALUE, "one of the arrays is null");
    std::vector<CUgraphNode> starts, ends;
    for (auto const& node : graph->nodes) {
        for (Node const* before : node->after) {
            starts.push_back(reinterpret_cast<CUgraphNode>(before->handle));
            ends.push_back(reinterpret_cast<CUgraphNode>(node->handle));
        }
    }
    std::size_t room = *count;
    W4AX_TRY(list(starts, from, count));
    if (edges) std::fill_n(edges, *count, CUgraphEdgeData{});
    return list(ends, to, from ? &room : count);
}

CUresult add_dependencies(CUgraph handle, CUgraphNode const* from, CUgraphNode const* to, std::size_t count) {
    Ref<Graph> graph;
    W4AX_TRY(find_graph(handle, graph));
    std::vector<Node*> before, after;
    W4AX_TRY(find_nodes(*graph, from, count, before));
    W4AX_TRY(find_nodes(*graph, to, count, after));
    for (std::size_t i = 0; i < count; ++i) {
        auto& known = after[i]->after;
        if (std::find(known.begin(), known.end(), before[i]) != known.end()) {
            return refuse(CUDA_ERROR_INVALID_VALUE, "dependency %zu exists already", i);
        }
        if (reaches(before[i], after[i])) return refuse(CUDA_ERROR_INVALID_VALUE, "dependency %zu closes a cycle", i);
        known.push_back(before[i]);
    }
    return CUDA_SUCCESS;
}

/// Gives a copy and its nodes handles.
void register_clone(Ref<Graph> const& copy) {
    copy->handle = new_handle(HandleKind::graph);
    driver().graphs[copy->handle] = copy;
    for (auto const& node : copy->nodes) {
        node->handle = new_handle(HandleKind::node);
        driver().nodes[node->handle] = node.get();
        for (auto const& inner : node->graphs) register_clone(inner);
    }
}

}  // namespace

Ref<Graph> make_graph() {
    auto const graph = std::make_shared<Graph>();
    graph->handle = new_handle(HandleKind::graph);
    driver().graphs[graph->handle] = graph;
    return graph;
}

void forget_graph(Graph& graph) {
    auto& d = driver();
    for (auto const& node : graph.nodes) {
        for (auto const& inner : node->graphs) forget_graph(*inner);
        if (node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC && node->operation.memory->state != Allocation::State::freed) {
            release_memory(*node->operation.memory);
        }
        d.nodes.erase(node->handle);
    }
    for (auto const& [handle, conditional] : graph.conditionals) d.conditionals.erase(handle);
    graph.destroyed = true;
    d.graphs.erase(graph.handle);
}

CUresult find_nodes(Graph const& graph, CUgraphNode const* handles, std::size_t count, std::vector<Node*>& nodes) {
    if (count && !handles) return refuse(CUDA_ERROR_INVALID_VALUE, "the dependencies are null");
    for (std::size_t i = 0; i < count; ++i) {
        Node* node = nullptr;
        W4AX_TRY(find_node(handles[i], node));
        if (node->graph != &graph) {
            return refuse(CUDA_ERROR_INVALID_VALUE, "dependency %zu is a node of another graph", i);
        }
        if (std::find(nodes.begin(), nodes.end(), node) == nodes.end()) nodes.push_back(node);
    }
    return CUDA_SUCCESS;
}

CUresult add_node(Graph& graph, std::vector<Node*> after, CUgraphNodeType type, Operation&& operation, Node*& node) {
    auto made = std::make_unique<Node>();
    made->handle = new_handle(HandleKind::node);
    made->type = type;
    made->graph = &graph;
    made->after = std::move(after);
    made->operation = std::move(operation);
    node = made.get();
    driver().nodes[made->handle] = node;
    graph.nodes.push_back(std::move(made));
    return CUDA_SUCCESS;
}

Ref<Graph> clone_graph(Graph const& graph, Graph* parent, std::map<Node const*, Node*>* outer) {
    std::map<Node const*, Node*> own;
    auto& copies = outer ? *outer : own;
    auto const copy = std::make_shared<Graph>();
    copy->parent = parent;
    copy->is_body = graph.is_body;
    copy->conditionals = graph.conditionals;
    for (auto const& node : graph.nodes) {
        auto made = std::make_unique<Node>();
        made->type = node->type;
        made->graph = copy.get();
        made->operation = node->operation;
        made->conditional_type = node->conditional_type;
        made->conditional = node->conditional;
        for (auto const& inner : node->graphs) made->graphs.push_back(clone_graph(*inner, copy.get()));
        copies[node.get()] = made.get();
        copy->nodes.push_back(std::move(made));
    }
    for (auto const& node : graph.nodes) {
        for (Node const* before : node->after) copies[node.get()]->after.push_back(copies[before]);
    }
    return copy;
}

Graph& adopt_child(Node& node, Graph const& child) {
    Ref<Graph> const copy = clone_graph(child, node.graph);
    copy->is_body = false;
    register_clone(copy);
    node.graphs.push_back(copy);
    return *copy;
}

}  // namespace w4ax_driver

using namespace w4ax_driver;

extern "C" {

CUresult cuGraphCreate(CUgraph* graph, unsigned int flags) {
    W4AX_ENTRY(cuGraphCreate);
    W4AX_NOT_NULL(graph);
    if (flags) return refuse(CUDA_ERROR_INVALID_VALUE, "flags %u: expected 0", flags);
    *graph = as_handle(*make_graph());
    return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph handle) {
    W4AX_ENTRY(cuGraphDestroy);
    Ref<Graph> graph;
    W4AX_TRY(find_graph(handle, graph));
    if (graph->parent) return refuse(CUDA_ERROR_INVALID_VALUE, "the graph belongs to a node of another graph");
    if (graph->capturing) return refuse(CUDA_ERROR_INVALID_VALUE, "a capture into the graph is in progress");
    for (auto const& capture : driver().captures) {
        if (&capture->graph->root() == graph.get()) {
            return refuse(CUDA_ERROR_INVALID_VALUE, "a capture into a body of the graph is in progress");
        }
    }
    forget_graph(*graph);
    return CUDA_SUCCESS;
}
CUresult cuGraphClone(CUgraph* made, CUgraph handle) {
    W4AX_ENTRY(cuGraphClone);
    W4AX_NOT_NULL(made);
    Ref<Graph> graph;
    W4AX_TRY(find_graph(handle, graph));
    if (!graph->conditionals.empty()) {
        return refuse(CUDA_ERROR_NOT_SUPPORTED, "a graph with conditional handles cannot be cloned");
    }
    Ref<Graph> const copy = clone_graph(*graph, nullptr);
    copy->is_body = false;
    register_clone(copy);
    *made = as_handle(*copy);
    return CUDA_SUCCESS;
}
CUresult cuGraphGetNodes(CUgraph handle, CUgraphNode* nodes, size_t* count) {
    W4AX_ENTRY(cuGraphGetNodes);
    Ref<Graph> graph;
    W4AX_TRY(find_graph(handle, graph));
    std::vector<CUgraphNode> all;
    for (auto const& node : graph->nodes) all.push_back(reinterpret_cast<CUgraphNode>(node->handle));
    return list(all, nodes, count);
}
CUresult cuGraphGetRootNodes(CUgraph handle, CUgraphNode* nodes, size_t* count) {
    W4AX_ENTRY(cuGraphGetRootNodes);
    Ref<Graph> graph;
    W4AX_TRY(find_graph(handle, graph));
    std::vector<CUgraphNode> roots;
    for (auto const& node : graph->nodes) {
        if (node->after.empty()) roots.push_back(reinterpret_cast<CUgraphNode>(node->handle));
    }
    return list(roots, nodes, count);
}
CUresult cuGraphGetEdges(CUgraph graph, CUgraphNode* from, CUgraphNode* to, size_t* count) {
    W4AX_ENTRY(cuGraphGetEdges);
    return list_edges(graph, from, to, nullptr, count);
}
CUresult cuGraphGetEdges_v2(CUgraph graph, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* edges, size_t* count) {
    W4AX_ENTRY(cuGraphGetEdges_v2);
    return list_edges(graph, from, to, edges, count);
}
CUresult cuGraphAddDependencies(CUgraph graph, CUgraphNode const* from, CUgraphNode const* to, size_t count) {
    W4AX_ENTRY(cuGraphAddDependencies);
    return add_dependencies(graph, from, to, count);
}
CUresult cuGraphAddDependencies_v2(CUgraph graph, CUgraphNode const* from, CUgraphNode const* to,
                                   CUgraphEdgeData const*, size_t count) {
    W4AX_ENTRY(cuGraphAddDependencies_v2);
    return add_dependencies(graph, from, to, count);
}
CUresult cuGraphNodeGetType(CUgraphNode handle, CUgraphNodeType* type) {
    W4AX_ENTRY(cuGraphNodeGetType);
    W4AX_NOT_NULL(type);
    Node* node = nullptr;
    W4AX_TRY(find_node(handle, node));
    *type = node->type;
    return CUDA_SUCCESS;
}
CUresult cuGraphNodeGetDependencies(CUgraphNode handle, CUgraphNode* nodes, size_t* count) {
    W4AX_ENTRY(cuGraphNodeGetDependencies);
    Node* node = nullptr;
    W4AX_TRY(find_node(handle, node));
    std::vector<CUgraphNode> all;
    for (Node const* before : node->after) all.push_back(reinterpret_cast<CUgraphNode>(before->handle));
    return list(all, nodes, count);
}
CUresult cuGraphNodeGetDependencies_v2(CUgraphNode handle, CUgraphNode* nodes, CUgraphEdgeData* edges, size_t* count) {
    W4AX_ENTRY(cuGraphNodeGetDependencies_v2);
    Node* node = nullptr;
    W4AX_TRY(find_node(handle, node));
    std::vector<CUgraphNode> all;
    for (Node const* before : node->after) all.push_back(reinterpret_cast<CUgraphNode>(before->handle));
    W4AX_TRY(list(all, nodes, count));
    if (edges) std::fill_n(edges, *count, CUgraphEdgeData{});
    return CUDA_SUCCESS;
}
CUresult cuGraphDestroyNode(CUgraphNode handle) {
    W4AX_ENTRY(cuGraphDestroyNode);
    Node* node = nullptr;
    W4AX_TRY(find_node(handle, node));
    Graph& graph = *node->graph;
    if (graph.capturing) return refuse(CUDA_ERROR_INVALID_VALUE, "a capture into the graph is in progress");
    if (node->type == CU_GRAPH_NODE_TYPE_CONDITIONAL || node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC ||
        node->type == CU_GRAPH_NODE_TYPE_MEM_FREE) {
        return refuse(CUDA_ERROR_NOT_SUPPORTED, "a node of type %d cannot be removed", int(node->type));
    }
    for (auto const& inner : node->graphs) forget_graph(*inner);
    for (auto const& other : graph.nodes) {
        other->after.erase(std::remove(other->after.begin(), other->after.end(), node), other->after.end());
    }
    driver().nodes.erase(node->handle);
    auto const at = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                 [&](auto const& one) { return one.get() == node; });
    graph.nodes.erase(at);
    return CUDA_SUCCESS;
}

}  // extern "C"
