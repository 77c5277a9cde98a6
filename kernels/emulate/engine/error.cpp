// Errors: the first one ends the launch. Its text is kept until it is cleared.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <string>

#include "emulate/engine/block.h"
#include "emulate/emulate_api.h"
#include "emulate/engine/sanitizers.h"

namespace w4ax_emulate {

namespace {

struct Trace {
    int thread = -1;
    int depth = 0;
    void* addresses[32];
};

char text[1024];
char failure_clock = 0;  // orders the host after the failed thread: TSan intercepts libc's functions
Trace traces[2];
std::string* last_error = nullptr;  // a pointer: must outlive all static destructors

// For MSan: it has no shadow of other threads' stacks.
#if defined(__clang__)
__attribute__((no_sanitize("memory")))
#endif
void walk(Trace& trace, CudaThread const& thread, void** frame) {
    trace.thread = thread.linear;
    trace.depth = 0;
    auto on_stack = [&](void** pointer) {
        auto* at = reinterpret_cast<char const*>(pointer);
        return at >= thread.fiber.stack_begin() && at + 16 <= thread.fiber.stack_end();
    };
    while (on_stack(frame) && frame[1] && trace.depth < 32) {
        trace.addresses[trace.depth++] = frame[1];
        auto** caller = static_cast<void**>(frame[0]);
        if (caller <= frame) break;
        frame = caller;
    }
}

/// Whether a source line is a kernel's, not the emulator's or CuTe's.
bool is_kernel_line(char const* file) {
    if (std::strstr(file, "/cute/") || std::strstr(file, "/cutlass/") || std::strstr(file, "launch.cuh")) return false;
    char const* line = std::strrchr(file, ':');
    if (file[0] == '?' || !line || line[1] < '1' || line[1] > '9') return false;  // code without a line
    char const* emulator = std::strstr(file, "emulate/");
    return !emulator || (std::strstr(emulator, "/tests/") && !std::strstr(emulator, "/../"));
}

/// Returns "file:line" of the innermost kernel lines of a trace. Runs addr2line, which is slow, but errors are rare.
std::string lines_of(Trace const& trace, int most) {
    std::string lines;
    std::string previous;
    for (int i = 0; i < trace.depth && most > 0; ++i) {
        Dl_info object;
        auto* const address = static_cast<char*>(trace.addresses[i]) - 1;  // inside the call instruction, not after it
        if (!dladdr(address, &object) || !object.dli_fname) continue;
        char command[1200];
        std::snprintf(command, sizeof command, "addr2line -i -e '%s' %#zx 2>/dev/null", object.dli_fname,
                      static_cast<std::size_t>(address - static_cast<char*>(object.dli_fbase)));
        std::FILE* output = popen(command, "r");
        if (!output) break;
        char line[1200];
        while (std::fgets(line, sizeof line, output)) {
            line[std::strcspn(line, " \n")] = 0;
            if (most == 0 || !is_kernel_line(line) || previous == line) continue;
            previous = line;
            char const* name = std::strrchr(line, '/');
            lines += (lines.empty() ? "" : " < ") + std::string(name ? name + 1 : line);
            --most;
        }
        pclose(output);
    }
    return lines;
}

[[noreturn]] void abandon_launch(CudaThread const* other, void** frame) {
    walk(traces[0], self(), frame);
    traces[1].depth = 0;
    if (other && other != &self()) walk(traces[1], *other, other->fiber.frame());
    Fiber& here = self().fiber;
    release(&failure_clock);
    self().state = State::ready;  // its stack is abandoned
    current = nullptr;
    host.enter_from(here);
    std::abort();  // no switch returns to a failed thread
}

void set_error(std::string const& message) {
    if (!last_error) last_error = new std::string;
    if (last_error->empty()) *last_error = message;
}

}  // namespace

void fail(char const* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    abandon_launch(nullptr, static_cast<void**>(__builtin_frame_address(0)));
}

void fail_with(CudaThread const* other, char const* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    abandon_launch(other, static_cast<void**>(__builtin_frame_address(0)));
}

void report(char const* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    char message[sizeof text];
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    set_error(message);
}

bool failed() { return last_error && !last_error->empty(); }

void describe_failure() {
    acquire(&failure_clock);
    char where[128];
    std::snprintf(where, sizeof where, " [block (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z);
    std::string message = std::string(text) + where;
    for (Trace const& trace : traces) {
        if (trace.depth == 0) continue;
        message += "; thread " + std::to_string(trace.thread);
        std::string const lines = lines_of(trace, 3);
        if (!lines.empty()) message += " at " + lines;
    }
    set_error(message + "]");
}

}  // namespace w4ax_emulate

extern "C" char const* w4ax_emulate_last_error(void) {
    return w4ax_emulate::failed() ? w4ax_emulate::last_error->c_str() : "";
}

extern "C" void w4ax_emulate_clear_error(void) {
    if (w4ax_emulate::last_error) w4ax_emulate::last_error->clear();
}
