// cp.async: bytes that arrive in shared memory some time between the issue and the wait.
//
// The copies themselves are made in this header, which the kernel's translation unit compiles: so the sanitizers see
// them as loads and stores of the thread that issued and waited, at its source line.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulate/engine/engine.h"
#include "emulate/engine/sanitizers.h"

namespace w4ax_emulate {

enum class Arrival { now, at_the_wait };

/// Checks the copy and notes it as under way. The addresses must be aligned to `bytes`, the destination must lie in the
/// block's shared memory, and no other copy may be under way into it.
Arrival begin_async_copy(void* destination, void const* source, int bytes, int source_bytes);
/// cp.async.commit_group
void commit_async_copies();
/// The next copy that has to be finished before a wait for all but `pending` groups returns; false if none is left.
/// `pending < 0`: those that no group was committed for, too (cp.async.wait_all).
struct LandingCopy {
  void* destination;
  void const* source;
  int bytes, source_bytes;
  bool landed;
};
bool next_landing_copy(int pending, LandingCopy& copy);
/// A read of shared memory that is not a plain load of the kernel: must not meet a copy under way.
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
    // The source is read at the wait; but where it may not be read at all, that is to be seen here, at the issue.
    for (int i = 0; i < source_bytes; ++i) (void)static_cast<char const volatile*>(source)[i];
    for (int i = 0; i < bytes; ++i) static_cast<char volatile*>(destination)[i] = static_cast<char>(0xCB);
    mark_uninitialized(destination, bytes);
  }
#ifdef W4AX_EMULATE_ASAN
  poison(destination, bytes);  // until the wait, even where the bytes have arrived
#endif
}

/// Finishes all but the last `pending` groups; -1: everything.
inline void cp_async_wait(int pending) {
  LandingCopy copy;
  while (next_landing_copy(pending, copy)) {
    unpoison(copy.destination, copy.bytes);
    // Also written again where it had landed: it may have arrived as late as this, and TSan is to know.
    copy_bytes(copy.destination, copy.source, copy.bytes, copy.source_bytes);
  }
}

}  // namespace w4ax_emulate
