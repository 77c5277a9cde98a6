// The running block: threads, barriers and shared memory. Internal to the emulator's .cpp files.
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

enum class State : std::uint8_t { ready, in_collective, at_barrier, at_mbarrier, exited };

/// A cp.async that its thread has not waited for.
struct AsyncCopy {
    void* destination;
    void const* source;
    std::uint8_t bytes;
    std::uint8_t source_bytes;  // the rest is filled with zeros
    bool arrived;               // the bytes have arrived, but may not be read before the wait
    std::uint32_t group;
};

struct CudaThread : Thread {
    Fiber fiber;
    State state = State::exited;
    int ready_position = -1;  // in the ready list; -1: not in it

    // What the thread waits in.
    char const* collective = nullptr;
    WarpFunction function = nullptr;
    std::uint32_t mask = 0;
    bool waited_for_previous_grid = false;
    int barrier = 0;
    char const* barrier_file = nullptr;
    int barrier_line = 0;
    void const* mbarrier = nullptr;

    std::vector<AsyncCopy> copies;  // oldest first, from `first_copy` on
    std::size_t first_copy = 0;
    std::uint32_t committed_groups = 0;
};

struct Barrier {
    int arrived = 0;
    int expected = 0;
    std::uint32_t generation = 0;
    CudaThread* first = nullptr;
    char clock[2] = {};  // by generation: a thread that leaves must not be ordered after the next arrivals
};

/// The lanes of a warp that wait in collectives. Those that wait for each other, with the same function and mask, are a
/// group: a lane that arrives is compared with one lane of its group, not with all of them.
struct WarpArrivals {
    std::uint32_t arrived = 0;     // lanes that wait
    std::uint32_t exited = 0;      // lanes
    std::uint32_t group[32] = {};  // by the first lane of a group: its lanes that wait
    std::uint8_t first[32] = {};   // by lane that waits: the first of its group
};

/// The fibers and the shared memory on which one block after the other runs. TSan considers blocks on the same fibers
/// ordered, so its build has two multiprocessors, and the seed distributes the blocks.
struct Multiprocessor {
    CudaThread threads[max_threads];
    WarpExchange exchange[max_threads / 32];
    WarpArrivals arrivals[max_threads / 32];
    SharedMemory shared;
    Barrier barriers[max_barriers];
    char warp_clock[max_threads / 32] = {};
    char block_clock = 0;  // released by each thread that ends a block, acquired by each that starts one
};

struct Block {
    Multiprocessor* on = nullptr;
    int threads = 0;
    int exited = 0;
    std::uint64_t serial = 0;  // unique: distinguishes the leftovers of an earlier block
    bool waited_for_previous_grid = false;

    CudaThread& thread(int linear) { return on->threads[linear]; }
};
extern Block block;

/// Whether the previous grid may still run, as far as the running thread knows.
bool overlaps_previous_grid();

inline CudaThread& self() { return *static_cast<CudaThread*>(current); }

// scheduler.cpp
void make_ready(CudaThread& thread);
/// The running thread waits in `state` until another thread calls make_ready for it.
void wait_in(State state);
/// The schedule may switch to another thread here.
void maybe_yield();
/// Ends the running thread, for this block.
void leave_block();
void start_schedule();
extern Fiber host;
void run_block();  // called by the host: until all threads have ended, or one has failed

// error.cpp
/// As `fail`, with the source lines of another thread as well.
[[noreturn]] void fail_with(CudaThread const* other, char const* format, ...) __attribute__((format(printf, 2, 3)));
/// On the host: stores the error of the block that failed, with source lines.
void describe_failure();
bool failed();
/// An error of the host: a launch that cannot run.
void report(char const* format, ...) __attribute__((format(printf, 1, 2)));

// cp_async.cpp
/// A thread must not exit with copies in flight.
void check_no_copies(CudaThread& thread);
void forget_copies(CudaThread& thread);
/// Whether a copy in flight completes now, by the options.
bool arrives_now();
void set_flight(void const* pointer, std::size_t bytes, Flight flight);

}  // namespace w4ax_emulate
