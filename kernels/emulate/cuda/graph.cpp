// What a latch tells and reads beside memory: conditional nodes of a graph, the clock, and looks at the flag.
#include <atomic>
#include <ctime>

#include "emulate/emulate_api.h"
#include "emulate/engine/block.h"
#include "emulate/cuda/graph.h"

namespace {

constexpr int handles = 8;
std::uint32_t values[handles];
std::uint64_t set_count;
std::uint64_t setting_block;  // who called last
int setting_thread;
std::atomic<std::uint64_t> flag_loads;

}  // namespace

namespace w4ax_emulate {

void set_graph_conditional(std::uint64_t handle, std::uint32_t value) {
  if (handle >= handles) fail("cudaGraphSetConditional: there is no handle %llu", static_cast<unsigned long long>(handle));
  // Undefined on a GPU as soon as two may run side by side. Another block of the grid could not be told from the next launch's.
  if (setting_block == block.serial && setting_thread != self().linear) fail("cudaGraphSetConditional: called by two threads of a block");
  setting_block = block.serial;
  setting_thread = self().linear;
  values[handle] = value;
  ++set_count;
}

void count_flag_load() { flag_loads.fetch_add(1, std::memory_order_relaxed); }

std::uint64_t nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::uint64_t(now.tv_sec) * 1000000000u + std::uint64_t(now.tv_nsec);
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
