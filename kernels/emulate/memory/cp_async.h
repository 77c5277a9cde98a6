// cp.async: bytes arrive in shared memory at any time between the issue and the wait.
//
// The bytes are copied in this header, in the kernel's translation unit: the sanitizers attribute the loads and
// stores to the thread that issued the copy and waited, at its source line.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulate/engine/engine.h"
#include "emulate/engine/sanitizers.h"

namespace w4ax_emulate {

enum class Arrival { now, at_the_wait };

/// Checks the copy and records it as in flight. The addresses must be aligned to `bytes`, the destination must be in
/// the block's shared memory, and no other copy into it may be in flight.
Arrival begin_async_copy(void* destination, void const* source, int bytes, int source_bytes);
/// cp.async.commit_group
void commit_async_copies();
/// Returns the next copy that must complete before a wait for all but `pending` groups returns; false if none is left.
/// `pending < 0` includes copies that were not committed (cp.async.wait_all).
struct CompletingCopy {
    void* destination;
    void const* source;
    int bytes, source_bytes;
    bool arrived;
};
bool next_completing_copy(int pending, CompletingCopy& copy);
/// Checks a read of shared memory that is not a plain load, such as ldmatrix: no copy into it may be in flight.
void check_not_in_flight(void const* pointer, std::size_t bytes, char const* reader);

inline void copy_bytes(void* destination, void const* source, int bytes, int source_bytes) {
    auto* to = static_cast<char*>(destination);
    auto* from = static_cast<char const*>(source);
    for (int i = 0; i < bytes; ++i) to[i] = i < source_bytes ? from[i] : 0;
}

inline void cp_async(void* destination, void const* source, int bytes, int source_bytes) {
    Arrival const arrival = begin_async_copy(destination, source, bytes, source_bytes);
    if (arrival == Arrival::now) {
        copy_bytes(destination, source, bytes, source_bytes);
    } else {
        // The source is read at the wait. It is also read here, so that a sanitizer reports an invalid address at the
        // issue.
        for (int i = 0; i < source_bytes; ++i) (void)static_cast<char const volatile*>(source)[i];
        for (int i = 0; i < bytes; ++i) static_cast<char volatile*>(destination)[i] = static_cast<char>(0xCB);
        mark_uninitialized(destination, bytes);
    }
#ifdef W4AX_EMULATE_ASAN
    poison(destination, bytes);  // until the wait, even if the bytes have arrived
#endif
}

/// cp.async.wait_group: completes all but the last `pending` groups; -1: all copies.
inline void cp_async_wait(int pending) {
    CompletingCopy copy;
    while (next_completing_copy(pending, copy)) {
        unpoison(copy.destination, copy.bytes);
        // A copy that has arrived is written again: it could arrive as late as here, and TSan must see that.
        copy_bytes(copy.destination, copy.source, copy.bytes, copy.source_bytes);
    }
}

}  // namespace w4ax_emulate
