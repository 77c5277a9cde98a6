// What is still alive or was never synchronized at the end.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

#include "driver.h"
#include "entry.h"

namespace w4ax_driver {

namespace {

void add(std::string& text, std::string const& line) { text += line + "\n"; }

void add_unsynchronized(std::string& text, Stream const& stream) {
    auto const at = driver().observed.find(stream.number);
    std::uint64_t const seen = at == driver().observed.end() ? 0 : at->second;
    if (stream.last_visible <= seen) return;
    bool const pending = stream.last && !stream.last->done;
    add(text, format("unsynchronized: the host never waited for the last %s of a stream%s",
                     name_of(stream.last_visible_work), pending ? ", which has not ended" : ""));
}

/// A failed context cannot release anything, so what it holds is no leak.
bool can_leak(Context const& context) { return context.failure == CUDA_SUCCESS && !context.destroyed; }

}  // namespace

std::string report() {
    auto const& d = driver();
    std::string text;
    for (auto const& line : d.lost) add(text, "leaked or damaged: " + line);
    for (auto const& [address, memory] : d.memory) {
        if (memory->state == Allocation::State::freed || memory->freeing || memory->of_graph) continue;
        if (!can_leak(*memory->context)) continue;
        add(text, format("leaked: %llu bytes of %s at %#llx", static_cast<unsigned long long>(memory->bytes),
                         memory->origin.c_str(), static_cast<unsigned long long>(address)));
    }
    for (auto const& [handle, event] : d.events) {
        if (can_leak(*event->context)) add(text, "leaked: an event");
    }
    for (auto const& [handle, exec] : d.execs) {
        if (can_leak(*exec->context)) add(text, "leaked: an executable graph");
    }
    for (auto const& [handle, graph] : d.graphs) {
        // A graph that an invalidated capture left undefined cannot be destroyed.
        if (graph->parent || graph->lost || graph->owned_by_capture) continue;
        add(text, format("leaked: a graph of %zu nodes", graph->nodes.size()));
    }
    for (auto const& capture : d.captures) {
        add(text, format("leaked: a capture that was never ended%s", capture->invalidated ? " (invalidated)" : ""));
    }
    for (auto const& [handle, stream] : d.streams) {
        Context const& context = *stream->context;
        if (!can_leak(context)) continue;
        bool per_thread = false;
        for (auto const& [thread, mine] : context.per_thread) per_thread |= mine == stream;
        if (!per_thread) add(text, "leaked: a stream");
        add_unsynchronized(text, *stream);
    }
    for (auto const& stream : d.destroyed_streams) {
        if (can_leak(*stream->context)) add_unsynchronized(text, *stream);
    }
    for (auto const& [handle, context] : d.contexts) {
        if (can_leak(*context)) add_unsynchronized(text, *context->legacy);
        // Programs may keep primary contexts: the CUDA runtime never releases its own.
        if (!context->primary) add(text, format("leaked: a context of device %d", context->device));
    }
    return text;
}

namespace {

struct AtExit {
    ~AtExit() {
        std::string text;
        {
            Lock const lock;
            text = report();
        }
        if (text.empty()) return;
        std::fprintf(stderr, "The software CUDA driver at exit:\n%s", text.c_str());
        std::fflush(stderr);
        char const* const setting = std::getenv("W4AX_DRIVER_LEAKS");
        if (setting && std::strcmp(setting, "0") == 0) return;
        std::fflush(stdout);
        _exit(86);
    }
};
AtExit at_exit;

}  // namespace

}  // namespace w4ax_driver

extern "C" char const* w4axDriverReport(void) {
    using namespace w4ax_driver;
    static std::string* const text = new std::string;
    Lock const lock;
    *text = report();
    return text->c_str();
}
