// Capture, graphs, conditional nodes: what works.
#include <algorithm>
#include <thread>

#include "test.h"

using namespace test;

namespace {

constexpr CUstreamCaptureMode local = CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;

CUgraphExec instantiate(CUgraph graph) {
    CUgraphExec exec = nullptr;
    OK(cuGraphInstantiate(&exec, graph, 0));
    return exec;
}
CUgraph new_graph() {
    CUgraph graph = nullptr;
    OK(cuGraphCreate(&graph, 0));
    return graph;
}
CUgraphConditionalHandle handle_of(CUgraph graph, unsigned initial, unsigned flags = CU_GRAPH_COND_ASSIGN_DEFAULT) {
    CUgraphConditionalHandle handle = 0;
    OK(cuGraphConditionalHandleCreate(&handle, graph, nullptr, initial, flags));
    return handle;
}
/// Adds a conditional node after `after`, and returns its bodies.
std::vector<CUgraph> add_conditional(CUgraph graph, CUgraphConditionalHandle handle, CUgraphConditionalNodeType type,
                                     unsigned size, CUgraphNode* after = nullptr, CUgraphNode* made = nullptr) {
    CUgraphNodeParams params = {};
    params.type = CU_GRAPH_NODE_TYPE_CONDITIONAL;
    params.conditional.handle = handle;
    params.conditional.type = type;
    params.conditional.size = size;
    CUgraphNode node = nullptr;
    OK(cuGraphAddNode(&node, graph, after, nullptr, after ? 1 : 0, &params));
    if (made) *made = node;
    return {params.conditional.phGraph_out, params.conditional.phGraph_out + size};
}
/// Captures one add into a graph.
void capture_add(CUgraph graph, CUstream stream, CUdeviceptr at, std::uint32_t add) {
    OK(cuStreamBeginCaptureToGraph(stream, graph, nullptr, nullptr, 0, local));
    OK(launch_add(stream, at, 1, add));
    CUgraph ended = nullptr;
    OK(cuStreamEndCapture(stream, &ended));
    EXPECT(ended == graph);
}
/// Captures a kernel that sets a handle to the word at `value`. Returns its node.
CUgraphNode capture_set(CUgraph graph, CUstream stream, CUgraphConditionalHandle handle, CUdeviceptr value) {
    OK(cuStreamBeginCaptureToGraph(stream, graph, nullptr, nullptr, 0, local));
    SetParams params = {handle, reinterpret_cast<std::uint32_t const*>(value), nullptr};
    OK(launch(stream, set_key, &params));
    CUstreamCaptureStatus status;
    CUgraphNode const* nodes = nullptr;
    size_t count = 0;
    CUgraphEdgeData const* edges = nullptr;
    OK(cuStreamGetCaptureInfo(stream, &status, nullptr, nullptr, &nodes, &edges, &count));
    EXPECT(status == CU_STREAM_CAPTURE_STATUS_ACTIVE && count == 1);
    CUgraphNode const node = nodes[0];
    CUgraph ended = nullptr;
    OK(cuStreamEndCapture(stream, &ended));
    return node;
}
void run(CUgraphExec exec, CUstream stream) {
    order().clear();
    OK(cuGraphLaunch(exec, stream));
    OK(cuStreamSynchronize(stream));
}
bool ran(std::vector<std::uint32_t> const& expected) { return order() == expected; }
void set_word(CUdeviceptr at, std::uint32_t value) {
    OK(cuMemsetD32(at, value, 1));
    OK(cuStreamSynchronize(nullptr));
}

struct Fixture {
    Device device;
    CUstream stream = make_stream();
    CUdeviceptr at = zeros(4);
    void finish(std::vector<CUgraphExec> const& execs, std::vector<CUgraph> const& graphs) {
        for (CUgraphExec exec : execs) OK(cuGraphExecDestroy(exec));
        for (CUgraph graph : graphs) OK(cuGraphDestroy(graph));
        OK(cuMemFree(at));
        OK(cuStreamDestroy(stream));
        expect_clean();
    }
};

}  // namespace

TEST(capture_replays, "seed=1") {
    Fixture f;
    OK(cuStreamBeginCapture(f.stream, local));
    OK(cuMemsetD32Async(f.at, 5, 4, f.stream));
    OK(launch_add(f.stream, f.at, 4, 1));
    OK(cuMemcpyDtoDAsync(f.at + 4, f.at, 4, f.stream));
    OK(launch_add(f.stream, f.at, 4, 2));
    CUgraph graph = nullptr;
    OK(cuStreamEndCapture(f.stream, &graph));
    EXPECT(order().empty());  // nothing ran
    CUgraphNode nodes[8];
    size_t count = 8;
    OK(cuGraphGetNodes(graph, nodes, &count));
    EXPECT(count == 4);
    CUgraphNodeType type;
    OK(cuGraphNodeGetType(nodes[0], &type));
    EXPECT(type == CU_GRAPH_NODE_TYPE_MEMSET);
    CUDA_KERNEL_NODE_PARAMS params;
    OK(cuGraphKernelNodeGetParams(nodes[1], &params));
    EXPECT(params.func == function(add_key) && params.ctx == f.device.context && params.blockDimX == 32);
    EXPECT(static_cast<AddParams*>(params.kernelParams[0])->add == 1);
    size_t edges = 0;
    OK(cuGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges));
    EXPECT(edges == 3);
    CUgraphExec const exec = instantiate(graph), again = instantiate(graph);
    for (int i = 0; i < 3; ++i) {
        run(exec, f.stream);
        EXPECT(ran({1, 2}));
        EXPECT(read(f.at) == 8 && read(f.at + 4) == 8);
    }
    f.finish({exec, again}, {graph});
}

TEST(capture_forks_and_joins, "seed=9") {
    Fixture f;
    CUstream const side = make_stream();
    CUevent fork = nullptr, join = nullptr;
    OK(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
    OK(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
    OK(cuStreamBeginCapture(f.stream, local));
    OK(launch_add(f.stream, f.at, 1, 1));
    OK(cuEventRecord(fork, f.stream));
    OK(cuStreamWaitEvent(side, fork, 0));
    CUstreamCaptureStatus status;
    OK(cuStreamIsCapturing(side, &status));
    EXPECT(status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
    OK(launch_add(side, f.at, 1, 2));
    OK(launch_add(f.stream, f.at, 1, 3));
    OK(cuEventRecord(join, side));
    OK(cuStreamWaitEvent(f.stream, join, 0));
    OK(launch_add(f.stream, f.at, 1, 4));
    CUgraph graph = nullptr;
    OK(cuStreamEndCapture(f.stream, &graph));
    OK(cuStreamIsCapturing(side, &status));
    EXPECT(status == CU_STREAM_CAPTURE_STATUS_NONE);
    CUgraphExec const exec = instantiate(graph);
    bool both[2] = {false, false};
    for (int i = 0; i < 40; ++i) {
        run(exec, f.stream);
        EXPECT(ran({1, 2, 3, 4}) || ran({1, 3, 2, 4}));
        both[order()[1] - 2] = true;
    }
    EXPECT(both[0] && both[1]);  // independent branches run in either order
    EXPECT(read(f.at) == 400);
    OK(cuEventDestroy(fork));
    OK(cuEventDestroy(join));
    OK(cuStreamDestroy(side));
    f.finish({exec}, {graph});
}

TEST(capture_to_graph_appends, "") {
    Fixture f;
    CUgraph const graph = new_graph();
    capture_add(graph, f.stream, f.at, 1);
    CUgraphNode first = nullptr;
    size_t count = 1;
    OK(cuGraphGetNodes(graph, &first, &count));
    OK(cuStreamBeginCaptureToGraph(f.stream, graph, &first, nullptr, 1, local));
    OK(launch_add(f.stream, f.at, 1, 2));
    CUgraph ended = nullptr;
    OK(cuStreamEndCapture(f.stream, &ended));
    CUgraphExec const exec = instantiate(graph);
    run(exec, f.stream);
    EXPECT(ran({1, 2}));
    f.finish({exec}, {graph});
}

TEST(launches_of_an_exec_do_not_overlap, "seed=2") {
    Fixture f;
    CUstream const other = make_stream();
    CUgraph const graph = new_graph();
    capture_add(graph, f.stream, f.at, 1);
    CUgraphExec const exec = instantiate(graph);
    for (int i = 0; i < 100; ++i) OK(cuGraphLaunch(exec, i % 2 ? f.stream : other));
    OK(cuStreamSynchronize(f.stream));
    OK(cuStreamSynchronize(other));
    EXPECT(read(f.at) == 100);
    OK(cuStreamDestroy(other));
    f.finish({exec}, {graph});
}

TEST(switch_selects_a_body, "") {
    Fixture f;
    CUgraph const graph = new_graph();
    auto const handle = handle_of(graph, 2);
    CUdeviceptr const value = f.at + 8;
    CUgraphNode set = capture_set(graph, f.stream, handle, value);
    auto const bodies = add_conditional(graph, handle, CU_GRAPH_COND_TYPE_SWITCH, 4, &set);
    for (unsigned i = 0; i < 4; ++i) capture_add(bodies[i], f.stream, f.at, 10 + i);
    CUgraphExec const exec = instantiate(graph);
    for (std::uint32_t i = 0; i < 6; ++i) {
        set_word(value, i);
        run(exec, f.stream);
        EXPECT(i < 4 ? ran({10 + i}) : ran({}));
    }
    f.finish({exec}, {graph});
}

TEST(if_and_else, "") {
    Fixture f;
    CUgraph const graph = new_graph();
    auto const handle = handle_of(graph, 1);
    CUdeviceptr const value = f.at + 8;
    CUgraphNode set = capture_set(graph, f.stream, handle, value);
    auto const bodies = add_conditional(graph, handle, CU_GRAPH_COND_TYPE_IF, 2, &set);
    capture_add(bodies[0], f.stream, f.at, 1);
    capture_add(bodies[1], f.stream, f.at, 2);
    CUgraphExec const exec = instantiate(graph);
    set_word(value, 7);
    run(exec, f.stream);
    EXPECT(ran({1}));
    set_word(value, 0);
    run(exec, f.stream);
    EXPECT(ran({2}));
    f.finish({exec}, {graph});
}

// A handle with CU_GRAPH_COND_ASSIGN_DEFAULT begins each launch with its default, another keeps its value.
TEST(defaults_of_handles, "") {
    Fixture f;
    CUgraph const graph = new_graph();
    auto const with = handle_of(graph, 1), without = handle_of(graph, 0, 0);
    CUdeviceptr const value = f.at + 8;
    CUgraphNode first = nullptr, second = nullptr;
    auto const one = add_conditional(graph, with, CU_GRAPH_COND_TYPE_IF, 1, nullptr, &first);
    auto const two = add_conditional(graph, without, CU_GRAPH_COND_TYPE_IF, 1, &first, &second);
    capture_add(one[0], f.stream, f.at, 1);
    capture_add(two[0], f.stream, f.at, 2);
    // The last nodes set both handles.
    OK(cuStreamBeginCaptureToGraph(f.stream, graph, &second, nullptr, 1, local));
    for (auto handle : {with, without}) {
        SetParams params = {handle, reinterpret_cast<std::uint32_t const*>(value), nullptr};
        OK(launch(f.stream, set_key, &params));
    }
    CUgraph ended = nullptr;
    OK(cuStreamEndCapture(f.stream, &ended));
    CUgraphExec const exec = instantiate(graph);
    set_word(value, 1);
    run(exec, f.stream);
    EXPECT(ran({1}));
    set_word(value, 0);
    run(exec, f.stream);
    EXPECT(ran({1, 2}));
    run(exec, f.stream);
    EXPECT(ran({1}));
    f.finish({exec}, {graph});
}

TEST(nested_conditionals_and_children, "") {
    Fixture f;
    CUgraph const graph = new_graph(), child = new_graph();
    capture_add(child, f.stream, f.at, 3);
    auto const outer = handle_of(graph, 1), inner = handle_of(graph, 0);
    auto const body = add_conditional(graph, outer, CU_GRAPH_COND_TYPE_IF, 1)[0];
    CUgraphNode added = nullptr, copied = nullptr;
    OK(cuGraphAddChildGraphNode(&added, body, nullptr, 0, child));
    CUgraph of_node = nullptr;
    OK(cuGraphChildGraphNodeGetGraph(added, &of_node));
    EXPECT(of_node != child);
    auto const deepest = add_conditional(body, inner, CU_GRAPH_COND_TYPE_SWITCH, 2, &added, &copied);
    capture_add(deepest[0], f.stream, f.at, 4);
    capture_add(deepest[1], f.stream, f.at, 5);
    capture_add(child, f.stream, f.at, 99);  // the node holds a copy
    CUgraphExec const exec = instantiate(graph);
    run(exec, f.stream);
    EXPECT(ran({3, 4}));
    f.finish({exec}, {graph, child});
}

TEST(nodes_by_parameters, "arch=90") {
    Fixture f;
    CUgraph const graph = new_graph();
    AddParams add = {reinterpret_cast<std::uint32_t*>(f.at), 1, 7};
    void* parameters[] = {&add};
    CUgraphNodeParams params = {};
    params.type = CU_GRAPH_NODE_TYPE_KERNEL;
    params.kernel = {function(add_key), 1, 1, 1, 32, 1, 1, 0, parameters, nullptr, nullptr, nullptr};
    CUgraphNode first = nullptr, second = nullptr, third = nullptr, fourth = nullptr, last = nullptr;
    OK(cuGraphAddNode(&first, graph, nullptr, nullptr, 0, &params));
    add.add = 8;
    CUgraphEdgeData edge = {};
    edge.type = CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC;
    edge.from_port = CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC;
    OK(cuGraphAddNode(&second, graph, &first, &edge, 1, &params));
    CUDA_MEMSET_NODE_PARAMS fill = {f.at + 4, 0, 3, 4, 1, 1};
    OK(cuGraphAddMemsetNode(&third, graph, &second, 1, &fill, f.device.context));
    CUDA_MEMCPY3D copy = {};
    copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.srcDevice = f.at + 4;
    copy.dstDevice = f.at + 8;
    copy.WidthInBytes = 4;
    copy.Height = copy.Depth = 1;
    OK(cuGraphAddMemcpyNode(&fourth, graph, &third, 1, &copy, f.device.context));
    OK(cuGraphAddEmptyNode(&last, graph, &fourth, 1));
    CUgraphExec const exec = instantiate(graph);
    run(exec, f.stream);
    EXPECT(ran({7, 8}));
    EXPECT(last_grid.overlaps_previous);
    EXPECT(read(f.at) == 15 && read(f.at + 8) == 3);
    f.finish({exec}, {graph});
}

TEST(captured_allocations, "") {
    Fixture f;
    OK(cuStreamBeginCapture(f.stream, local));
    CUdeviceptr inside = 0;
    OK(cuMemAllocAsync(&inside, 64, f.stream));
    OK(cuMemsetD32Async(inside, 4, 1, f.stream));
    OK(cuMemcpyDtoDAsync(f.at, inside, 4, f.stream));
    OK(cuMemFreeAsync(inside, f.stream));
    CUgraph graph = nullptr;
    OK(cuStreamEndCapture(f.stream, &graph));
    CUgraphExec const exec = instantiate(graph);
    run(exec, f.stream);
    run(exec, f.stream);
    EXPECT(read(f.at) == 4);
    f.finish({exec}, {graph});
}

TEST(captured_graph_launch_is_a_child, "") {
    Fixture f;
    CUgraph const inner = new_graph();
    capture_add(inner, f.stream, f.at, 6);
    CUgraphExec const exec = instantiate(inner);
    OK(cuStreamBeginCapture(f.stream, local));
    OK(cuGraphLaunch(exec, f.stream));
    OK(cuGraphLaunch(exec, f.stream));
    CUgraph outer = nullptr;
    OK(cuStreamEndCapture(f.stream, &outer));
    CUgraphNode nodes[2];
    size_t count = 2;
    OK(cuGraphGetNodes(outer, nodes, &count));
    CUgraph child = nullptr;
    OK(cuGraphChildGraphNodeGetGraph(nodes[1], &child));
    OK(cuGraphGetNodes(child, nullptr, &count));
    EXPECT(count == 1);
    CUgraphExec const both = instantiate(outer);
    run(both, f.stream);
    EXPECT(ran({6, 6}));
    f.finish({exec, both}, {inner, outer});
}

TEST(while_repeats, "") {
    Fixture f;
    CUgraph const graph = new_graph();
    auto const handle = handle_of(graph, 1);
    auto const body = add_conditional(graph, handle, CU_GRAPH_COND_TYPE_WHILE, 1)[0];
    capture_add(body, f.stream, f.at, 1);
    CUgraphNode first = nullptr;
    size_t count = 1;
    OK(cuGraphGetNodes(body, &first, &count));
    OK(cuStreamBeginCaptureToGraph(f.stream, body, &first, nullptr, 1, local));
    SetParams params = {handle, reinterpret_cast<std::uint32_t const*>(f.at + 8), nullptr};
    OK(launch(f.stream, set_key, &params));
    CUgraph ended = nullptr;
    OK(cuStreamEndCapture(f.stream, &ended));
    CUgraphExec const exec = instantiate(graph);
    run(exec, f.stream);  // the word is 0
    EXPECT(ran({1}));
    f.finish({exec}, {graph});
}
