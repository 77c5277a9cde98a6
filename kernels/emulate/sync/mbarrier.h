// mbarriers of sm_90: barriers in shared memory that count arrivals and the bytes of copies.
//
// PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier". A phase completes when the expected
// number of threads has arrived and all expected bytes have been copied.
#pragma once

#include <cstdint>

namespace w4ax_emulate {

/// mbarrier.init: `arrivals` threads complete a phase.
void mbarrier_init(std::uint64_t* barrier, int arrivals);
/// fence.mbarrier_init: asynchronous copies may use the barriers from here on.
void fence_mbarrier_init();
/// mbarrier.arrive.expect_tx. With 0 bytes, mbarrier.arrive.
void mbarrier_arrive(std::uint64_t* barrier, int expected_bytes);
/// mbarrier.try_wait in a loop: returns when the phase of that parity has completed.
void mbarrier_wait(std::uint64_t* barrier, int parity);

// For the rest of the emulator.

struct Mbarrier {
    std::uint64_t* at;
    int arrivals;            // of each phase
    int pending;             // arrivals that the running phase still needs
    std::int64_t bytes;      // expected and not copied yet
    std::int64_t unstarted;  // expected, and no copy of them has been issued
    std::uint64_t phase;
    bool published;  // fence_mbarrier_init was called
    char clock[2];   // for TSan, by parity
};
/// The barrier at an address; an error of `operation` if none was initialized there.
Mbarrier& find_mbarrier(std::uint64_t* at, char const* operation);
/// Starts the next phase and makes its waiters ready, if the running phase is complete.
void complete_phase(Mbarrier& barrier);
/// At a block's start: no barrier is initialized.
void reset_mbarriers();

}  // namespace w4ax_emulate
