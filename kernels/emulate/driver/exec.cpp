// Executable graphs: instantiation, launches, conditional values.
#include <algorithm>
#include <random>

#include "driver.h"
#include "entry.h"
#include "thread_state.h"

namespace w4ax_driver {

namespace {

bool is_allowed_in_body(CUgraphNodeType type) {
    return type == CU_GRAPH_NODE_TYPE_KERNEL || type == CU_GRAPH_NODE_TYPE_EMPTY || type == CU_GRAPH_NODE_TYPE_GRAPH ||
           type == CU_GRAPH_NODE_TYPE_MEMSET || type == CU_GRAPH_NODE_TYPE_MEMCPY ||
           type == CU_GRAPH_NODE_TYPE_CONDITIONAL;
}

struct Survey {
    bool conditionals = false, memory = false;
    Ref<Context> context;  // of the first node that has one
};

/// Checks the nodes of a graph. `body_context`: that of the kernels of the body that holds it, as far as known.
CUresult survey(Graph const& graph, bool in_body, Ref<Context>& body_context, Survey& found) {
    if (graph.capturing) return refuse(CUDA_ERROR_INVALID_VALUE, "a capture into the graph is in progress");
    for (auto const& node : graph.nodes) {
        if (in_body && !is_allowed_in_body(node->type)) {
            return refuse(CUDA_ERROR_NOT_SUPPORTED, "a conditional body holds a node of type %d", int(node->type));
        }
        Operation const& operation = node->operation;
        if (operation.context && operation.context->destroyed) {
            return refuse(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the context of a node was destroyed");
        }
        if (operation.context && !found.context) found.context = operation.context;
        if (in_body && node->type == CU_GRAPH_NODE_TYPE_KERNEL) {
            if (body_context && body_context != operation.context) {
                return refuse(CUDA_ERROR_INVALID_VALUE, "a conditional body holds kernels of two contexts");
            }
            body_context = operation.context;
        }
        if (node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || node->type == CU_GRAPH_NODE_TYPE_MEM_FREE) {
            found.memory = true;
        }
        bool const is_conditional = node->type == CU_GRAPH_NODE_TYPE_CONDITIONAL;
        found.conditionals |= is_conditional;
        Ref<Context> const outer = body_context;
        if (is_conditional && !in_body) body_context = operation.context;
        for (auto const& inner : node->graphs) {
            W4AX_TRY(survey(*inner, in_body || is_conditional, body_context, found));
        }
        if (is_conditional && !in_body) body_context = outer;
    }
    for (auto const& [handle, conditional] : graph.conditionals) {
        if (!conditional->used) return refuse(CUDA_ERROR_INVALID_VALUE, "a conditional handle has no node");
    }
    return CUDA_SUCCESS;
}

void collect_conditionals(Graph const& graph, std::map<std::uint64_t, Ref<Conditional>>& all) {
    all.insert(graph.conditionals.begin(), graph.conditionals.end());
    for (auto const& node : graph.nodes) {
        for (auto const& inner : node->graphs) collect_conditionals(*inner, all);
    }
}

CUresult instantiate(CUgraphExec* made, CUgraph handle, unsigned long long flags) {
    W4AX_NOT_NULL(made);
    *made = nullptr;
    Ref<Graph> graph;
    W4AX_TRY(find_graph(handle, graph));
    constexpr unsigned long long known = CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH |
                                         CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
                                         CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
    if (flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) {
        bool const both = flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        return refuse(both ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_SUPPORTED,
                      "the software driver has no launches by the device");
    }
    if (flags & ~known) return refuse(CUDA_ERROR_INVALID_VALUE, "flags %#llx", flags);
    if (graph->is_body) return refuse(CUDA_ERROR_INVALID_VALUE, "a body of a conditional node cannot be instantiated");
    Survey found;
    Ref<Context> body_context;
    W4AX_TRY(survey(*graph, false, body_context, found));
    if ((found.conditionals || found.memory) && graph->instantiations > 0) {
        return refuse(CUDA_ERROR_NOT_SUPPORTED,
                      "a graph with conditional nodes or allocations has one instantiation at a time");
    }
    auto const exec = std::make_shared<Exec>();
    if (found.context) {
        exec->context = found.context;
        W4AX_TRY(check_failure(*found.context));
    } else {
        W4AX_TRY(current(exec->context));
    }
    exec->handle = new_handle(HandleKind::exec);
    exec->graph = clone_graph(*graph, nullptr);
    exec->source = graph;
    exec->has_memory = found.memory;
    exec->flags = flags;
    std::map<std::uint64_t, Ref<Conditional>> conditionals;
    collect_conditionals(*exec->graph, conditionals);
    for (auto const& [conditional, state] : conditionals) exec->values[conditional] = state->initial;
    ++graph->instantiations;
    driver().execs[exec->handle] = exec;
    *made = reinterpret_cast<CUgraphExec>(exec->handle);
    return CUDA_SUCCESS;
}

/// Runs one launch of a graph, on the thread of its stream.
class Run {
public:
    explicit Run(Exec& exec) : exec_(exec), random_(play().seed * 0x9E3779B97F4A7C15ull + exec.launches) {}

    Failure run(Graph const& graph) {
        // Independent nodes run in a random order.
        std::map<Node const*, std::size_t> open;
        std::map<Node const*, std::vector<Node const*>> next;
        std::vector<Node const*> ready;
        for (auto const& node : graph.nodes) {
            open[node.get()] = node->after.size();
            for (Node const* before : node->after) next[before].push_back(node.get());
            if (node->after.empty()) ready.push_back(node.get());
        }
        Node const* previous = nullptr;
        while (!ready.empty()) {
            std::size_t const choice = random_() % ready.size();
            Node const* const node = ready[choice];
            ready.erase(ready.begin() + std::ptrdiff_t(choice));
            Failure failure = run(*node, previous);
            if (failure.result != CUDA_SUCCESS) return failure;
            previous = node;
            for (Node const* after : next[node]) {
                if (--open[after] == 0) ready.push_back(after);
            }
        }
        return {};
    }

private:
    Failure run(Node const& node, Node const* previous) {
        if (node.type == CU_GRAPH_NODE_TYPE_CONDITIONAL) return run_conditional(node);
        if (node.type == CU_GRAPH_NODE_TYPE_GRAPH) {
            for (auto const& child : node.graphs) {
                Failure failure = run(*child);
                if (failure.result != CUDA_SUCCESS) return failure;
            }
            return {};
        }
        bool const overlaps = node.operation.programmatic && previous && previous->type == CU_GRAPH_NODE_TYPE_KERNEL &&
                              node.after.size() == 1 && node.after[0] == previous;
        Operation operation = node.operation;
        if (!operation.context) operation.context = exec_.context;
        return execute(operation, overlaps);
    }

    Failure run_conditional(Node const& node) {
        for (;;) {
            unsigned value = 0;
            {
                Lock const lock;
                value = exec_.values[node.conditional];
            }
            std::size_t body = value;  // of a SWITCH
            if (node.conditional_type != CU_GRAPH_COND_TYPE_SWITCH) body = value ? 0 : 1;
            if (body >= node.graphs.size()) return {};
            Failure failure = run(*node.graphs[body]);
            if (failure.result != CUDA_SUCCESS) return failure;
            if (node.conditional_type != CU_GRAPH_COND_TYPE_WHILE) return {};
        }
    }

    Exec& exec_;
    std::mt19937_64 random_;
};

}  // namespace

Failure execute_graph(Exec& exec) {
    {
        Lock const lock;
        ++exec.launches;
        std::map<std::uint64_t, Ref<Conditional>> conditionals;
        collect_conditionals(*exec.graph, conditionals);
        for (auto const& [handle, conditional] : conditionals) {
            if (conditional->assigns_default) exec.values[handle] = conditional->initial;
        }
    }
    thread_state().exec = &exec;
    Failure failure = Run(exec).run(*exec.graph);
    thread_state().exec = nullptr;
    return failure;
}

}  // namespace w4ax_driver

using namespace w4ax_driver;

extern "C" {

CUresult w4axDriverSetConditional(CUgraphConditionalHandle handle, unsigned value) {
    W4AX_ENTRY(w4axDriverSetConditional);
    Exec* const exec = thread_state().exec;
    if (!exec) return refuse(CUDA_ERROR_INVALID_VALUE, "no graph runs on this thread");
    auto const at = exec->values.find(handle);
    if (at == exec->values.end()) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "the handle %#llx does not belong to the graph that runs",
                      static_cast<unsigned long long>(handle));
    }
    at->second = value;
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long flags) {
    W4AX_ENTRY(cuGraphInstantiateWithFlags);
    return instantiate(exec, graph, flags);
}
CUresult cuGraphInstantiateWithParams(CUgraphExec* exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS* params) {
    W4AX_ENTRY(cuGraphInstantiateWithParams);
    W4AX_NOT_NULL(params);
    params->hErrNode_out = nullptr;
    CUresult const result = instantiate(exec, graph, params->flags & ~cuuint64_t(CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD));
    params->result_out = result == CUDA_SUCCESS ? CUDA_GRAPH_INSTANTIATE_SUCCESS : CUDA_GRAPH_INSTANTIATE_ERROR;
    return result;
}
CUresult cuGraphUpload(CUgraphExec handle, CUstream stream_handle) {
    W4AX_ENTRY(cuGraphUpload);
    Ref<Exec> exec;
    W4AX_TRY(find_exec(handle, exec));
    Ref<Stream> stream;
    W4AX_TRY(find_stream(stream_handle, stream));
    if (stream->capture) {
        W4AX_TRY(check_capture(*stream));
        invalidate(*stream->capture, "cuGraphUpload to a stream that is being captured");
        return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the stream is being captured");
    }
    return check_failure(*stream->context);
}
CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
    W4AX_ENTRY(cuGraphLaunch);
    Ref<Exec> exec;
    W4AX_TRY(find_exec(handle, exec));
    Ref<Stream> stream;
    W4AX_TRY(find_stream(stream_handle, stream));
    W4AX_TRY(check_failure(*stream->context));
    if (exec->context->destroyed) {
        return refuse(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the context of the graph was destroyed");
    }
    W4AX_TRY(check_failure(*exec->context));
    if (exec->context->device != stream->context->device || exec->context != stream->context) {
        return refuse(CUDA_ERROR_INVALID_HANDLE, "the graph and the stream belong to different contexts");
    }
    Operation operation;
    operation.work = Work::graph;
    operation.exec = exec;
    if (stream->capture) {
        bool const conditional = !exec->values.empty();
        if (conditional || exec->has_memory) {
            W4AX_TRY(check_capture(*stream));
            invalidate(*stream->capture, "a graph with conditional nodes or allocations was launched into it");
            return refuse(CUDA_ERROR_NOT_SUPPORTED, "a graph with conditional nodes or allocations cannot be a child");
        }
        operation.exec = nullptr;
        W4AX_TRY(capture_operation(stream, std::move(operation)));
        adopt_child(*stream->tail[0], *exec->graph);
        return CUDA_SUCCESS;
    }
    if (stream->is_legacy()) W4AX_TRY(check_implicit(*stream->context));
    std::vector<Ref<Fence>> waits;
    if (exec->last) waits.push_back(exec->last);
    exec->last = enqueue(stream, std::move(operation), std::move(waits));
    return CUDA_SUCCESS;
}
CUresult cuGraphExecDestroy(CUgraphExec handle) {
    W4AX_ENTRY(cuGraphExecDestroy);
    Ref<Exec> exec;
    W4AX_TRY(find_exec(handle, exec));
    exec->destroyed = true;
    --exec->source->instantiations;
    driver().execs.erase(exec->handle);
    return CUDA_SUCCESS;
}

}  // extern "C"
