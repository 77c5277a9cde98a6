// bar.sync and bar.arrive.
#pragma once

namespace w4ax_emulate {

/// Waits until `threads` threads (0: the whole block) have come to barrier `id`. Threads that come to the whole block's
/// barrier from different source lines have diverged: an error, even though the count would come out.
void barrier_sync(int id, int threads, char const* file, int line);
/// Counts the caller in and goes on.
void barrier_arrive(int id, int threads, char const* file, int line);
/// The whole block's barrier, with a sum over the threads.
int barrier_count(int value, char const* file, int line);

}  // namespace w4ax_emulate
