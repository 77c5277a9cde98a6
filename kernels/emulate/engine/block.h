// The state of the running block: its threads, its barriers, its shared memory. For the emulator's own .cpp files.
#pragma once

#include <cstdint>
#include <vector>

#include "emulate/engine/engine.h"
#include "emulate/engine/fiber.h"
#include "emulate/memory/shared_memory.h"
#include "emulate/sync/warp.h"

namespace w4ax_emulate {

constexpr int max_threads = 1024;
constexpr int max_barriers = 16;

enum class State : std::uint8_t { ready, in_collective, at_barrier, at_counting_barrier, exited };

/// One cp.async that its thread has not waited for.
struct AsyncCopy {
  void* destination;
  void const* source;
  std::uint8_t bytes;
  std::uint8_t source_bytes;  // the rest is filled with zeros
  bool landed;                // the bytes are there already, only nobody may know yet
  std::uint32_t group;
};

struct CudaThread : Thread {
  Fiber fiber;
  State state = State::exited;
  int ready_position = -1;  // in the ready list, -1: not there

  // What it waits in, for the rendezvous and for the text of an error.
  char const* collective = nullptr;
  WarpFunction function = nullptr;
  std::uint32_t mask = 0;
  bool arrived = false;
  bool waited_for_previous_grid = false;
  int barrier = 0;
  char const* barrier_file = nullptr;
  int barrier_line = 0;
  void const* counting_barrier = nullptr;

  std::vector<AsyncCopy> copies;  // oldest first, from `first_copy` on
  std::size_t first_copy = 0;
  std::uint32_t committed_groups = 0;
};

struct Barrier {
  int arrived = 0;
  int expected = 0;
  std::uint32_t generation = 0;
  CudaThread* first = nullptr;
  char clock[2] = {};  // by generation: a thread still leaving must not be ordered after those who arrive again
};

/// What runs a block: threads and shared memory that the next block takes over. One is enough, but for TSan: blocks
/// that run on the same one are ordered by it, so two of them, and the blocks dealt out by the seed, show it races
/// between blocks too.
struct Multiprocessor {
  CudaThread threads[max_threads];
  WarpExchange exchange[max_threads / 32];
  SharedMemory shared;
  Barrier barriers[max_barriers];
  char warp_clock[max_threads / 32] = {};
  char block_clock = 0;  // released by each thread that ends a block, acquired by each that starts one
};

struct Block {
  Multiprocessor* on = nullptr;
  int threads = 0;
  int exited = 0;
  std::uint64_t serial = 0;  // unique, so that leftovers of an earlier block are known as such
  bool waited_for_previous_grid = false;

  CudaThread& thread(int linear) { return on->threads[linear]; }
};
extern Block block;

/// Whether the running grid may still overlap the one before it, for the running thread.
bool overlaps_previous_grid();

inline CudaThread& self() { return *static_cast<CudaThread*>(current); }

// scheduler.cpp
void make_ready(CudaThread& thread);
/// The running thread waits in `state` until another one calls make_ready for it.
void wait_in(State state);
/// A point at which another thread may go first, by the schedule.
void maybe_yield();
/// The running thread has ended; never returns to it within this block.
void leave_block();
void start_schedule();
extern Fiber host;
void run_block();  // from the host: until all threads have left, or one failed

// error.cpp
/// As `fail`, with the source lines of another thread beside the caller's.
[[noreturn]] void fail_beside(CudaThread const* other, char const* format, ...) __attribute__((format(printf, 2, 3)));
/// On the host: the text of what failed in the block just given up, with source lines.
void describe_failure();
bool failed();
/// An error that no thread made (a launch that cannot run).
void report(char const* format, ...) __attribute__((format(printf, 1, 2)));

// cp_async.cpp
/// Copies left in flight by a thread that exits are an error.
void check_no_copies(CudaThread& thread);
void forget_copies(CudaThread& thread);
/// Whether a copy that has just been issued, or is under way, lands now, by the options.
bool arrives_now();
void set_flight(void const* pointer, std::size_t bytes, Flight flight);

}  // namespace w4ax_emulate
