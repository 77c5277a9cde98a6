// The state of the driver: contexts, streams, events, memory, graphs. Everything here is protected by the lock.
#pragma once

// Declares the old variants of functions beside the current ones, each by its own name.
#ifndef __CUDA_API_VERSION_INTERNAL
#define __CUDA_API_VERSION_INTERNAL
#endif
#include <cuda.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernel_interface.h"
#include "lock.h"
#include "play.h"

namespace w4ax_driver {

struct Capture;
struct Context;
struct Exec;
struct Graph;
struct Node;
struct Stream;

template <class T>
using Ref = std::shared_ptr<T>;
using Clock = std::chrono::steady_clock;

/// How much work of each stream, by its number, is known to have ended.
using Progress = std::map<std::uint64_t, std::uint64_t>;

/// The end of an operation of a stream.
struct Fence {
    bool done = false;
    CUresult result = CUDA_SUCCESS;
    Clock::time_point when;
    char enqueued = 0, ended = 0;  // clocks for TSan
};

/// Device memory, or host memory that the device can access. Addresses are never used again.
struct Allocation {
    enum class Place { device, pinned, registered };
    enum class State { reserved, live, freed };  // reserved: the allocation is enqueued
    std::uint64_t base = 0, bytes = 0;
    std::uint64_t mapped = 0, mapped_bytes = 0;  // the pages, without the guards
    Place place = Place::device;
    State state = State::live;
    Ref<Context> context;
    unsigned flags = 0;    // CU_MEMHOSTALLOC_*
    bool freeing = false;  // the release is enqueued
    bool stream_ordered = false, of_graph = false;
    std::string origin;  // the function that allocated it

    bool contains(std::uint64_t at, std::uint64_t count) const {
        return at >= base && count <= bytes && at - base <= bytes - count;
    }
};

/// A registered kernel in a context.
struct Function {
    std::uint64_t handle = 0;
    w4ax_kernel const* kernel = nullptr;
    Ref<Context> context;
    int allowed_dynamic_shared = 48 << 10;
    int image = 0;  // the compute capability that it was compiled for
};

enum class Work { empty, kernel, copy, fill, host, graph, allocate, release };

struct CopyShape {
    std::uint64_t to = 0, from = 0;
    std::size_t width = 0, height = 1, depth = 1;
    std::size_t to_pitch = 0, from_pitch = 0, to_slice = 0, from_slice = 0;
    bool to_is_device = false, from_is_device = false;
    CUmemorytype to_type = CU_MEMORYTYPE_UNIFIED, from_type = CU_MEMORYTYPE_UNIFIED;
    Ref<Context> to_context, from_context;  // of a copy between contexts
    bool to_is_pageable = false, from_is_pageable = false;

    std::size_t to_extent() const { return width ? (depth - 1) * to_slice + (height - 1) * to_pitch + width : 0; }
    std::size_t from_extent() const { return width ? (depth - 1) * from_slice + (height - 1) * from_pitch + width : 0; }
};

struct FillShape {
    std::uint64_t to = 0;
    std::size_t width = 0, height = 1, pitch = 0;  // width in elements, pitch in bytes
    unsigned value = 0, element = 1;

    std::size_t extent() const { return width ? (height - 1) * pitch + width * element : 0; }
};

/// What a stream executes and what a node of a graph holds.
struct Operation {
    Work work = Work::empty;
    Ref<Context> context;
    // A kernel.
    Ref<Function> function;
    std::uint32_t grid[3] = {1, 1, 1}, block[3] = {1, 1, 1}, dynamic_shared = 0;
    bool programmatic = false;  // programmatic stream serialization
    Ref<char> parameter;
    // A copy. The bytes of pageable host memory are staged when the copy is enqueued.
    CopyShape copy;
    Ref<std::vector<char>> staged;
    FillShape fill;
    CUhostFn host = nullptr;
    void* host_data = nullptr;
    Ref<Exec> exec;
    Ref<Allocation> memory;
    bool fails = false;  // injected by a play
};
char const* name_of(Work work);

struct Queued {
    Operation operation;
    std::vector<Ref<Fence>> waits;
    Ref<Fence> fence;
    bool follows_kernel = false;  // the previous operation of the stream is a kernel
};

struct Stream {
    std::uint64_t handle = 0;  // 0: the legacy default stream of its context
    std::uint64_t number = 0;
    Ref<Context> context;
    unsigned flags = 0;
    int priority = 0;
    std::deque<Queued> queue;
    bool has_thread = false, stopped = false;
    Ref<Fence> last;  // of the last operation
    Work previous = Work::empty;
    std::uint64_t enqueued = 0;      // operations so far
    std::uint64_t last_visible = 0;  // the last one with an effect that the host can observe
    Work last_visible_work = Work::empty;
    Progress seen;  // what the stream is ordered after
    // A capture, and the nodes that the next one depends on.
    Ref<Capture> capture;
    std::vector<Node*> tail;
    std::vector<CUgraphNode> tail_handles;  // returned by cuStreamGetCaptureInfo
    std::vector<CUgraphEdgeData> tail_edges;

    bool is_legacy() const { return handle == 0; }
    bool is_blocking() const { return !(flags & CU_STREAM_NON_BLOCKING); }
};

struct Event {
    std::uint64_t handle = 0;
    Ref<Context> context;
    unsigned flags = 0;
    Ref<Fence> record;  // the last record outside of a capture
    Progress seen;
    Ref<Capture> capture;  // the last record was in this capture
    std::vector<Node*> captured;
};

struct Capture {
    std::uint64_t id = 0;
    Ref<Graph> graph;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    std::uint64_t thread = 0;
    Ref<Stream> origin;
    bool active = true, invalidated = false, to_graph = false;
    std::string reason;           // why it was invalidated
    std::vector<Node*> captured;  // the nodes of this capture
};

struct Context {
    std::uint64_t handle = 0;
    int device = 0;
    bool primary = false, destroyed = false;
    unsigned flags = 0;
    int retained = 0;
    CUresult failure = CUDA_SUCCESS;  // sticky
    std::string failure_text;
    Ref<Stream> legacy;
    std::map<std::uint64_t, Ref<Stream>> per_thread;
    std::map<void const*, Ref<Function>> functions;
    std::map<int, std::uint64_t> limits;
};

struct Conditional {
    std::uint64_t handle = 0;
    Graph* graph = nullptr;  // the graph that it was created for
    Ref<Context> context;
    unsigned initial = 0;
    bool assigns_default = false, used = false;
};

struct Node {
    std::uint64_t handle = 0;
    CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
    Graph* graph = nullptr;
    std::vector<Node*> after;  // the nodes that this one depends on
    Operation operation;
    // A child graph, or the bodies of a conditional node.
    std::vector<Ref<Graph>> graphs;
    std::vector<CUgraph> graph_handles;
    CUgraphConditionalNodeType conditional_type = CU_GRAPH_COND_TYPE_IF;
    std::uint64_t conditional = 0;
    std::vector<void*> parameters;  // returned by cuGraphKernelNodeGetParams
};

struct Graph {
    std::uint64_t handle = 0;
    std::vector<std::unique_ptr<Node>> nodes;
    std::map<std::uint64_t, Ref<Conditional>> conditionals;
    Graph* parent = nullptr;  // of a body or a child graph
    bool is_body = false;
    bool destroyed = false;
    bool lost = false;       // by an invalidated capture into it or a body of it
    int instantiations = 0;  // alive
    Capture* capturing = nullptr;
    bool owned_by_capture = false;  // the program does not own it before cuStreamEndCapture

    Graph& root() { return parent ? parent->root() : *this; }
};

/// An executable graph.
struct Exec {
    std::uint64_t handle = 0;
    Ref<Graph> graph;  // a copy
    Ref<Graph> source;
    Ref<Context> context;
    Ref<Fence> last;                           // of the last launch
    std::map<std::uint64_t, unsigned> values;  // of the conditional handles
    bool destroyed = false, has_memory = false;
    std::uint64_t launches = 0;
    unsigned long long flags = 0;
};

enum class HandleKind : std::uint64_t {
    context = 1,
    stream,
    event,
    function,
    graph,
    node,
    exec,
    conditional,
    module,
    pool
};

struct Driver {
    bool initialized = false;
    std::uint64_t serial = 0;
    std::map<std::uint64_t, Ref<Context>> contexts;
    std::map<std::uint64_t, Ref<Stream>> streams;
    std::map<std::uint64_t, Ref<Event>> events;
    std::map<std::uint64_t, Ref<Function>> functions;
    std::map<std::uint64_t, Ref<Graph>> graphs;  // bodies and children too
    std::map<std::uint64_t, Node*> nodes;
    std::map<std::uint64_t, Ref<Exec>> execs;
    std::map<std::uint64_t, Ref<Conditional>> conditionals;
    std::map<std::uint64_t, Ref<Allocation>> memory;  // by address, freed memory too
    std::map<int, Ref<Context>> primary;              // by device
    std::vector<Ref<Capture>> captures;               // the active ones
    std::vector<Ref<Stream>> destroyed_streams;
    std::vector<std::string> lost;  // what its context took with it
    std::map<int, std::uint64_t> used_bytes;
    Progress observed;
    std::uint64_t launches = 0, graph_launches = 0;
};

Driver& driver();

std::uint64_t new_handle(HandleKind kind);
std::uint64_t this_thread();

// ---- Calls

/// One call of an exported function: holds the lock.
class Call {
public:
    explicit Call(struct Entry& entry);
    ~Call();
    Call(Call const&) = delete;
    CUresult state = CUDA_SUCCESS;  // an error if the function must not begin
    Lock lock;

private:
    char const* outer_;
};
/// An exported function; see entry.cpp.
struct Entry& entry_of(char const* symbol);

/// Describes why the current call is refused. Returns `result`.
CUresult refuse(CUresult result, char const* format, ...) __attribute__((format(printf, 2, 3)));
std::string format(char const* format, ...) __attribute__((format(printf, 1, 2)));

#define W4AX_ENTRY(symbol)                    \
    static Entry& entry_ = entry_of(#symbol); \
    Call call(entry_);                        \
    if (call.state != CUDA_SUCCESS) return call.state
#define W4AX_TRY(expression)                                                             \
    do {                                                                                 \
        if (CUresult const tried_ = (expression); tried_ != CUDA_SUCCESS) return tried_; \
    } while (false)
#define W4AX_NOT_NULL(pointer)                                                        \
    do {                                                                              \
        if (!(pointer)) return refuse(CUDA_ERROR_INVALID_VALUE, #pointer " is null"); \
    } while (false)

// ---- Look-ups. They refuse a null, freed or foreign handle.

CUresult current(Ref<Context>& context);
CUresult find_context(CUcontext handle, Ref<Context>& context);
CUresult find_stream(CUstream handle, Ref<Stream>& stream);
CUresult find_event(CUevent handle, Ref<Event>& event);
CUresult find_function(CUfunction handle, Ref<Function>& function);
CUresult find_graph(CUgraph handle, Ref<Graph>& graph);
CUresult find_node(CUgraphNode handle, Node*& node);
CUresult find_exec(CUgraphExec handle, Ref<Exec>& exec);
/// The sticky error of a context.
CUresult check_failure(Context const& context);
/// "a stream that was destroyed", "not a handle", and so on.
std::string describe_handle(std::uint64_t handle, HandleKind expected);

// ---- Contexts

void destroy_context(Ref<Context> const& context, Lock& lock);
void fail_context(Context& context, CUresult result, std::string text);

// ---- Streams

Ref<Stream> make_stream(Ref<Context> const& context, unsigned flags, int priority, bool with_handle);
/// Enqueues an operation, or captures it.
CUresult submit(Ref<Stream> const& stream, Operation&& operation, Ref<Fence>* fence = nullptr);
/// Enqueues an operation behind `waits`. The stream is not capturing.
Ref<Fence> enqueue(Ref<Stream> const& stream, Operation&& operation, std::vector<Ref<Fence>> waits = {});
void wait_for(Ref<Fence> const& fence, Lock& lock);
/// Waits for all streams of a context; the host is ordered after them.
void wait_for_context(Context const& context, Lock& lock);
void observe(Progress const& progress);

// ---- Captures

/// Refuses a call that is potentially unsafe during a capture, as its mode demands, and invalidates that capture.
CUresult check_unsafe();
/// Refuses what implies a synchronization of the legacy stream while a blocking stream of the context captures.
CUresult check_implicit(Context const& context);
void invalidate(Capture& capture, std::string reason);
/// A stream is destroyed: its capture is invalidated, and ends if it began there.
void leave_capture(Ref<Stream> const& stream);
/// Refuses what waits for all streams of a context while one of them is captured, and invalidates their captures.
CUresult check_synchronization(Context const& context);
CUresult check_capture(Stream const& stream);
CUresult capture_operation(Ref<Stream> const& stream, Operation&& operation);

// ---- Memory

/// The allocation that contains an address, freed ones too; null if no allocation of the driver does.
Ref<Allocation> find_memory(std::uint64_t address);
std::string describe_address(std::uint64_t address);
/// Refuses a range that is not memory of the device of `context`.
CUresult check_device_range(Context const& context, std::uint64_t at, std::size_t bytes, char const* what);
/// The same when an operation executes. Returns an empty text if the range is accessible.
std::string check_accessible(Context const& context, std::uint64_t at, std::size_t bytes);
CUresult allocate(Ref<Context> const& context, std::size_t bytes, Allocation::Place place, bool commit,
                  Ref<Allocation>& made);
void commit_memory(Allocation& memory);
/// Returns a text if a guard was overwritten.
std::string release_memory(Allocation& memory);
void fill_with_garbage(std::uint64_t at, std::size_t bytes);

// ---- Execution

struct Failure {
    CUresult result = CUDA_SUCCESS;
    std::string text;
};
/// Executes an operation on the thread of its stream, without the lock.
Failure execute(Operation const& operation, bool overlaps_previous);
Failure execute_graph(Exec& exec);
CUresult check_launch(Function const& function, Operation const& operation);
CUresult check_copy(Context const& context, CopyShape& copy);
CUresult check_fill(Context const& context, FillShape const& fill);

// ---- Graphs

Ref<Graph> make_graph();
CUresult add_node(Graph& graph, std::vector<Node*> after, CUgraphNodeType type, Operation&& operation, Node*& node);
CUresult find_nodes(Graph const& graph, CUgraphNode const* handles, std::size_t count, std::vector<Node*>& nodes);
/// Copies a graph with its bodies and children.
Ref<Graph> clone_graph(Graph const& graph, Graph* parent, std::map<Node const*, Node*>* copies = nullptr);
void forget_graph(Graph& graph);
/// Makes a copy of `child` the graph of a node.
Graph& adopt_child(Node& node, Graph const& child);

std::string report();

}  // namespace w4ax_driver
