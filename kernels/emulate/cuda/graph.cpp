#include <atomic>
#include <ctime>

#include "emulate/emulate_api.h"
#include "emulate/engine/block.h"
#include "emulate/cuda/graph.h"
#include "emulate/cudart/conditionals.h"

namespace {

constexpr int handles = 8;
constexpr std::uint64_t clock_slowdown = 16;  // nanoseconds of the host in one of the software device
std::uint32_t values[handles];
std::uint64_t set_count;
std::uint64_t setting_block;  // block and thread of the last call
int setting_thread;
std::atomic<std::uint64_t> flag_loads;
w4ax_emulate::SetConditional set_in_driver = nullptr;

}  // namespace

namespace w4ax_emulate {

void set_graph_conditional(std::uint64_t handle, std::uint32_t value) {
    if (!set_in_driver && handle >= handles) {
        fail("cudaGraphSetConditional: handle %llu: expected less than %d", static_cast<unsigned long long>(handle),
             handles);
    }
    // Undefined on a GPU if two threads call it concurrently. A call by another block of the grid cannot be
    // distinguished from one by the next launch.
    if (setting_block == block.serial && setting_thread != self().linear) {
        fail("cudaGraphSetConditional: called by two threads of a block");
    }
    setting_block = block.serial;
    setting_thread = self().linear;
    if (set_in_driver) {
        if (char const* const refusal = set_in_driver(handle, value)) fail("cudaGraphSetConditional: %s", refusal);
        return;
    }
    values[handle] = value;
    ++set_count;
}

void use_conditionals(SetConditional set) { set_in_driver = set; }

void count_flag_load() { flag_loads.fetch_add(1, std::memory_order_relaxed); }

std::uint64_t nanoseconds() {
    // A latch that polls the flag reads the clock each time: the host thread that stores the word needs the core.
    if (set_in_driver) {
        timespec const pause = {0, 20000};
        nanosleep(&pause, nullptr);
    }
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    std::uint64_t const elapsed = std::uint64_t(now.tv_sec) * 1000000000u + std::uint64_t(now.tv_nsec);
    // A latch waits for at most a second, which is short for a host thread that shares its core with emulated grids.
    return set_in_driver ? elapsed / clock_slowdown : elapsed;
}

}  // namespace w4ax_emulate

extern "C" {

std::uint64_t w4ax_emulate_flag_loads(void) { return flag_loads.load(std::memory_order_relaxed); }
std::uint32_t w4ax_emulate_conditional(std::uint64_t handle) { return handle < handles ? values[handle] : UINT32_MAX; }
std::uint64_t w4ax_emulate_conditionals_set(void) { return set_count; }
void w4ax_emulate_reset_flag(void) {
    flag_loads.store(0, std::memory_order_relaxed);
    set_count = 0;
    for (auto& value : values) value = UINT32_MAX;
}

}  // extern "C"
