// Which thread of the block runs next.
#include "emulate/engine/block.h"
#include "emulate/engine/sanitizers.h"
#include "emulate/memory/bulk_copy.h"

// Plain variables, set at every switch. Macros would break CUDA's headers.
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace w4ax_emulate {

Thread* current = nullptr;
Block block;
Fiber host;

namespace {

int ready[max_threads];  // linear indices, in no order
int ready_count = 0;
int last_linear = 0;  // position of an ordered schedule
int last_warp = 0;

Schedule schedule() {
    if (options.schedule != Schedule::by_seed) return options.schedule;
    return static_cast<Schedule>(options.seed % 4);
}

void remove_from_ready(CudaThread& thread) {
    int const moved = ready[--ready_count];
    ready[thread.ready_position] = moved;
    block.thread(moved).ready_position = thread.ready_position;
    thread.ready_position = -1;
}

CudaThread* next_thread() {
    if (ready_count == 0) return nullptr;
    auto random_one = [] { return &block.thread(ready[random_bits() % ready_count]); };
    auto walk = [](int step) {
        for (int i = 1; i <= block.threads; ++i) {
            CudaThread& thread = block.thread((last_linear + i * step + block.threads * 2) % block.threads);
            if (thread.state == State::ready) return &thread;
        }
        return static_cast<CudaThread*>(nullptr);
    };
    switch (schedule()) {
        case Schedule::random: return random_one();
        case Schedule::reversed: return walk(-1);
        case Schedule::warp_by_warp: {  // a warp runs until all its threads wait, then any other
            std::uint32_t const start = random_bits();
            for (int i = 0; i < 32; ++i) {
                CudaThread& thread = block.thread(32 * last_warp + ((start + i) & 31));
                if (thread.state == State::ready) return &thread;
            }
            return random_one();
        }
        default: return walk(1);
    }
}

/// If no thread is ready, completes copies until one is.
CudaThread* next_thread_or_copy() {
    CudaThread* next = next_thread();
    while (!next && complete_bulk_copy()) next = next_thread();
    return next;
}

void switch_to(CudaThread& to) {
    auto* from = static_cast<CudaThread*>(current);
    if (from == &to) return;
    ++counters.switches;
    current = &to;
    last_linear = to.linear;
    last_warp = to.warp;
    threadIdx = to.index;
    to.fiber.enter_from(from ? from->fiber : host);
}

[[noreturn]] void fail_deadlock() {
    CudaThread* in_collective = nullptr;
    CudaThread* at_barrier = nullptr;
    CudaThread* at_mbarrier = nullptr;
    int waiting[3] = {};
    for (int i = 0; i < block.threads; ++i) {
        CudaThread& thread = block.thread(i);
        if (thread.state == State::in_collective) ++waiting[0], in_collective = in_collective ? in_collective : &thread;
        if (thread.state == State::at_barrier) ++waiting[1], at_barrier = at_barrier ? at_barrier : &thread;
        if (thread.state == State::at_mbarrier) {
            ++waiting[2], at_mbarrier = at_mbarrier ? at_mbarrier : &thread;
        }
    }
    if (at_mbarrier) {
        fail_with(at_mbarrier,
                  "deadlock: %d threads wait at mbarriers (thread %d at the one of shared byte %td), %d in warp "
                  "collectives, %d at barriers, %d exited",
                  waiting[2], at_mbarrier->linear,
                  static_cast<char const*>(at_mbarrier->mbarrier) - block.on->shared.dynamic.bytes, waiting[0],
                  waiting[1], block.exited);
    }
    if (in_collective && at_barrier) {
        fail_with(
            in_collective,
            "deadlock: %d threads wait in warp collectives (thread %d in %s, mask %08x), %d at barriers (thread %d "
            "at barrier %d, %s:%d), %d exited",
            waiting[0], in_collective->linear, in_collective->collective, in_collective->mask, waiting[1],
            at_barrier->linear, at_barrier->barrier, at_barrier->barrier_file, at_barrier->barrier_line, block.exited);
    }
    if (in_collective) {
        fail_with(in_collective,
                  "deadlock: %d threads wait in warp collectives (thread %d in %s, mask %08x), %d exited", waiting[0],
                  in_collective->linear, in_collective->collective, in_collective->mask, block.exited);
    }
    fail_with(at_barrier, "deadlock: %d threads wait at barriers (thread %d at barrier %d, %s:%d), %d exited",
              waiting[1], at_barrier->linear, at_barrier->barrier, at_barrier->barrier_file, at_barrier->barrier_line,
              block.exited);
}

}  // namespace

void start_schedule() {
    ready_count = 0;
    last_linear = schedule() == Schedule::reversed ? 0 : block.threads - 1;
    last_warp = 0;
}

void make_ready(CudaThread& thread) {
    thread.state = State::ready;
    thread.ready_position = ready_count;
    ready[ready_count++] = thread.linear;
}

void wait_in(State state) {
    CudaThread& me = self();
    me.state = state;
    remove_from_ready(me);
    CudaThread* next = next_thread_or_copy();
    if (!next) fail_deadlock();
    switch_to(*next);
}

void maybe_yield() {
    // In order, the last thread to arrive continues: a behavior that the other schedules do not have.
    if (schedule() != Schedule::in_order) switch_to(*next_thread());
}

void leave_block() {
    CudaThread& me = self();
    me.state = State::exited;
    block.on->arrivals[me.warp].exited |= 1u << me.lane;
    remove_from_ready(me);
    ++block.exited;
    if (block.exited == block.threads) {
        current = nullptr;
        host.enter_from(me.fiber);
    } else {
        CudaThread* next = next_thread_or_copy();
        if (!next) fail_deadlock();
        switch_to(*next);
    }
}

void run_block() {
    current = nullptr;
    switch_to(*next_thread());
}

}  // namespace w4ax_emulate
