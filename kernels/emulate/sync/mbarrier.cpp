#include "emulate/sync/mbarrier.h"

#include "emulate/engine/block.h"
#include "emulate/engine/sanitizers.h"
#include "emulate/memory/bulk_copy.h"

namespace w4ax_emulate {

namespace {

// A fixed array: TSan would report a race for memory that one fiber frees and another one allocates.
constexpr int max_mbarriers = 64;
Mbarrier mbarriers[max_mbarriers];
int mbarrier_count = 0;

}  // namespace

Mbarrier& find_mbarrier(std::uint64_t* at, char const* operation) {
    for (int i = 0; i < mbarrier_count; ++i) {
        if (mbarriers[i].at == at) return mbarriers[i];
    }
    fail("%s: no mbarrier was initialized at %p", operation, static_cast<void*>(at));
}

void complete_phase(Mbarrier& barrier) {
    if (barrier.pending || barrier.bytes) return;
    ++barrier.phase;
    barrier.pending = barrier.arrivals;
    for (int i = 0; i < block.threads; ++i) {
        CudaThread& thread = block.thread(i);
        if (thread.state == State::at_mbarrier && thread.mbarrier == barrier.at) make_ready(thread);
    }
}

void reset_mbarriers() { mbarrier_count = 0; }

void mbarrier_init(std::uint64_t* at, int arrivals) {
    if (reinterpret_cast<std::uintptr_t>(at) % 8 || !block.on->shared.find(at, 8)) {
        fail("mbarrier.init: %p is not 8 aligned bytes of the block's shared memory", static_cast<void*>(at));
    }
    for (int i = 0; i < mbarrier_count; ++i) {
        if (mbarriers[i].at == at) {
            fail("mbarrier.init: an mbarrier was already initialized at %p", static_cast<void*>(at));
        }
    }
    if (arrivals < 1) fail("mbarrier.init: %d arrivals: expected at least 1", arrivals);
    if (mbarrier_count == max_mbarriers) fail("mbarrier.init: more than %d in a block", max_mbarriers);
    Mbarrier& barrier = mbarriers[mbarrier_count++];
    barrier = {};
    barrier.at = at;
    barrier.arrivals = barrier.pending = arrivals;
}

void fence_mbarrier_init() {
    for (int i = 0; i < mbarrier_count; ++i) mbarriers[i].published = true;
}

void mbarrier_arrive(std::uint64_t* at, int expected_bytes) {
    Mbarrier& barrier = find_mbarrier(at, "mbarrier.arrive");
    ++counters.barriers;
    release(&barrier.clock[barrier.phase & 1]);
    barrier.bytes += expected_bytes;
    barrier.unstarted += expected_bytes;
    --barrier.pending;
    complete_phase(barrier);
    maybe_complete_bulk_copy();
}

void mbarrier_wait(std::uint64_t* at, int parity) {
    Mbarrier& barrier = find_mbarrier(at, "mbarrier.try_wait");
    if (parity != 0 && parity != 1) fail("mbarrier.try_wait: parity %d: expected 0 or 1", parity);
    CudaThread& me = self();
    maybe_complete_bulk_copy();
    while ((barrier.phase & 1) == std::uint64_t(parity)) {
        me.mbarrier = at;
        wait_in(State::at_mbarrier);
    }
    acquire(&barrier.clock[parity]);
}

}  // namespace w4ax_emulate
