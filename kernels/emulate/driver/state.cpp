// Calls, refusals and the look-up of handles.
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "driver.h"
#include "entry.h"
#include "thread_state.h"

namespace w4ax_driver {

namespace {

constexpr std::uint64_t tag = std::uint64_t(0x0C0DA) << 44;  // handles are no addresses

char const* kind_name(HandleKind kind) {
    switch (kind) {
        case HandleKind::context: return "context";
        case HandleKind::stream: return "stream";
        case HandleKind::event: return "event";
        case HandleKind::function: return "function";
        case HandleKind::graph: return "graph";
        case HandleKind::node: return "graph node";
        case HandleKind::exec: return "executable graph";
        case HandleKind::conditional: return "conditional handle";
        case HandleKind::module: return "module";
        case HandleKind::pool: return "memory pool";
    }
    return "object";
}

template <class Found, class Value>
CUresult look_up(std::map<std::uint64_t, Found> const& table, void const* handle, HandleKind kind, Value& value,
                 CUresult error = CUDA_ERROR_INVALID_HANDLE) {
    auto const id = reinterpret_cast<std::uint64_t>(handle);
    auto const at = table.find(id);
    if (at == table.end()) return refuse(error, "%s", describe_handle(id, kind).c_str());
    value = at->second;
    return CUDA_SUCCESS;
}

bool works_before_init(std::string const& symbol) {
    return symbol == "cuInit" || symbol == "cuDriverGetVersion" || symbol.rfind("cuGetError", 0) == 0 ||
           symbol.rfind("cuGetProcAddress", 0) == 0 || symbol.rfind("w4ax", 0) == 0;
}

}  // namespace

ThreadState& thread_state() {
    thread_local ThreadState state;
    return state;
}

Driver& driver() {
    static Driver* const only = new Driver;
    return *only;
}

std::uint64_t new_handle(HandleKind kind) { return tag | std::uint64_t(kind) << 36 | ++driver().serial << 4; }

std::uint64_t this_thread() {
    static std::uint64_t count = 0;  // protected by the lock
    auto& number = thread_state().number;
    if (number == 0) number = ++count;
    return number;
}

std::string format(char const* text, ...) {
    char buffer[1024];
    va_list arguments;
    va_start(arguments, text);
    std::vsnprintf(buffer, sizeof buffer, text, arguments);
    va_end(arguments);
    return buffer;
}

CUresult refuse(CUresult result, char const* text, ...) {
    char buffer[1024];
    va_list arguments;
    va_start(arguments, text);
    std::vsnprintf(buffer, sizeof buffer, text, arguments);
    va_end(arguments);
    auto& state = thread_state();
    state.refusal = std::string(state.function) + ": " + buffer;
    return result;
}

Call::Call(Entry& entry) : outer_(thread_state().function) {
    thread_state().function = entry.symbol;
    std::uint64_t const number = ++entry.calls;
    if (entry.since > play().driver) {
        state = refuse(CUDA_ERROR_NOT_FOUND, "the function exists from CUDA %d.%d on, but the driver is of CUDA %d.%d",
                       entry.since / 1000, entry.since % 1000 / 10, play().driver / 1000, play().driver % 1000 / 10);
    } else if (thread_state().in_host_function) {
        state = refuse(CUDA_ERROR_NOT_PERMITTED, "a host function of a stream may not call CUDA");
    } else if (!driver().initialized && !works_before_init(entry.symbol)) {
        state = refuse(CUDA_ERROR_NOT_INITIALIZED, "cuInit was not called");
    } else if (auto const* fail = injected(entry.symbol, number)) {
        state = refuse(fail->result, "call %llu fails because W4AX_DEVICE_PLAY demands it",
                       static_cast<unsigned long long>(number));
    } else if (auto const* fail = std::strcmp(entry.symbol, entry.name) ? injected(entry.name, number) : nullptr) {
        state = refuse(fail->result, "call %llu fails because W4AX_DEVICE_PLAY demands it",
                       static_cast<unsigned long long>(number));
    }
}
Call::~Call() { thread_state().function = outer_; }

std::string describe_handle(std::uint64_t handle, HandleKind expected) {
    char const* const wanted = kind_name(expected);
    if (handle == 0) return format("the %s is null", wanted);
    auto const kind = HandleKind(handle >> 36 & 0xFF);
    std::uint64_t const number = handle >> 4 & 0xFFFFFFFF;
    if (handle >> 44 != tag >> 44 || number == 0 || number > driver().serial) {
        return format("%#llx is no %s of this driver", static_cast<unsigned long long>(handle), wanted);
    }
    if (kind != expected) return format("a %s was passed, where a %s is expected", kind_name(kind), wanted);
    return format("the %s was destroyed", wanted);
}

CUresult check_failure(Context const& context) {
    if (context.failure == CUDA_SUCCESS) return CUDA_SUCCESS;
    return refuse(context.failure, "the context failed: %s", context.failure_text.c_str());
}

CUresult current(Ref<Context>& context) {
    auto const& stack = thread_state().contexts;
    if (stack.empty() || stack.back() == 0) {
        return refuse(CUDA_ERROR_INVALID_CONTEXT, "the thread has no current context");
    }
    auto const at = driver().contexts.find(stack.back());
    if (at == driver().contexts.end()) {
        return refuse(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the current context was destroyed");
    }
    context = at->second;
    return check_failure(*context);
}

CUresult find_context(CUcontext handle, Ref<Context>& context) {
    return look_up(driver().contexts, handle, HandleKind::context, context, CUDA_ERROR_INVALID_CONTEXT);
}

CUresult find_stream(CUstream handle, Ref<Stream>& stream) {
    auto const id = reinterpret_cast<std::uint64_t>(handle);
    if (handle == nullptr || handle == CU_STREAM_LEGACY) {
        Ref<Context> context;
        W4AX_TRY(current(context));
        stream = context->legacy;
        return CUDA_SUCCESS;
    }
    if (handle == CU_STREAM_PER_THREAD) {
        Ref<Context> context;
        W4AX_TRY(current(context));
        Ref<Stream>& mine = context->per_thread[this_thread()];
        if (!mine) mine = make_stream(context, 0, 0, true);
        stream = mine;
        return CUDA_SUCCESS;
    }
    auto const at = driver().streams.find(id);
    if (at == driver().streams.end()) {
        return refuse(CUDA_ERROR_INVALID_HANDLE, "%s", describe_handle(id, HandleKind::stream).c_str());
    }
    stream = at->second;
    return CUDA_SUCCESS;
}

CUresult find_event(CUevent handle, Ref<Event>& event) {
    return look_up(driver().events, handle, HandleKind::event, event);
}
CUresult find_function(CUfunction handle, Ref<Function>& function) {
    return look_up(driver().functions, handle, HandleKind::function, function);
}
CUresult find_exec(CUgraphExec handle, Ref<Exec>& exec) {
    return look_up(driver().execs, handle, HandleKind::exec, exec, CUDA_ERROR_INVALID_VALUE);
}
CUresult find_node(CUgraphNode handle, Node*& node) {
    return look_up(driver().nodes, handle, HandleKind::node, node, CUDA_ERROR_INVALID_VALUE);
}
CUresult find_graph(CUgraph handle, Ref<Graph>& graph) {
    W4AX_TRY(look_up(driver().graphs, handle, HandleKind::graph, graph, CUDA_ERROR_INVALID_VALUE));
    if (graph->root().lost || graph->lost) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "a capture into the graph was invalidated: its state is undefined");
    }
    return CUDA_SUCCESS;
}

}  // namespace w4ax_driver

using namespace w4ax_driver;

extern "C" char const* w4axDriverLastRefusal(void) { return thread_state().refusal.c_str(); }
