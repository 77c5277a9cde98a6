#include "emulate/sync/barrier.h"

#include <cstring>

#include "emulate/engine/block.h"
#include "emulate/engine/sanitizers.h"

namespace w4ax_emulate {

namespace {

int running_count = 0;
int last_count = 0;

Barrier& arrive(int id, int threads, char const* file, int line) {
    CudaThread& me = self();
    if (id < 0 || id >= max_barriers) fail("barrier %d: expected less than %d", id, max_barriers);
    if (threads < 0 || threads % 32 || threads > block.threads) {
        fail("barrier %d of %d threads: expected whole warps of the block's %d threads", id, threads, block.threads);
    }
    Barrier& barrier = block.on->barriers[id];
    bool const whole_block = threads == 0;
    int const expected = whole_block ? block.threads : threads;
    me.barrier = id;
    me.barrier_file = file;
    me.barrier_line = line;
    if (barrier.arrived == 0) {
        barrier.expected = expected;
        barrier.first = &me;
    } else if (barrier.expected != expected) {
        fail_with(barrier.first, "barrier %d: thread %d expects %d threads, thread %d expects %d", id, me.linear,
                  expected, barrier.first->linear, barrier.expected);
    } else if (whole_block && (barrier.first->barrier_line != line || std::strcmp(barrier.first->barrier_file, file))) {
        fail_with(barrier.first, "divergent barrier: thread %d is at %s:%d, thread %d at %s:%d", me.linear, file, line,
                  barrier.first->linear, barrier.first->barrier_file, barrier.first->barrier_line);
    }
    if (whole_block && block.exited) {
        fail("barrier at %s:%d: %d threads of the block have exited and will not arrive", file, line, block.exited);
    }
    ++counters.barriers;
    // For TSan: what precedes a barrier is ordered before what follows it, for the threads that take part.
    release(&barrier.clock[barrier.generation & 1]);
    ++barrier.arrived;
    return barrier;
}

/// All threads have arrived: makes those that wait ready.
void open(Barrier& barrier, int id) {
    barrier.arrived = 0;
    ++barrier.generation;
    if (id == 0) {  // barrier_count's
        last_count = running_count;
        running_count = 0;
    }
    for (int i = 0; i < block.threads; ++i) {
        CudaThread& thread = block.thread(i);
        if (thread.state == State::at_barrier && thread.barrier == id) make_ready(thread);
    }
}

}  // namespace

void barrier_sync(int id, int threads, char const* file, int line) {
    Barrier& barrier = arrive(id, threads, file, line);
    char* const clock = &barrier.clock[barrier.generation & 1];
    if (barrier.arrived == barrier.expected) {
        open(barrier, id);
        maybe_yield();
    } else {
        wait_in(State::at_barrier);
    }
    acquire(clock);
}

void barrier_arrive(int id, int threads, char const* file, int line) {
    Barrier& barrier = arrive(id, threads, file, line);
    if (barrier.arrived == barrier.expected) open(barrier, id);
}

int barrier_count(int value, char const* file, int line) {
    running_count += value != 0;
    barrier_sync(0, 0, file, line);
    return last_count;  // no other count can complete before all threads have left this one
}

}  // namespace w4ax_emulate
