// bar.sync and bar.arrive.
#pragma once

namespace w4ax_emulate {

/// bar.sync: waits until `threads` threads (0: the whole block) have arrived at barrier `id`. Threads that arrive at
/// the whole block's barrier from different source lines have diverged, which is an error even if the count matches.
void barrier_sync(int id, int threads, char const* file, int line);
/// bar.arrive: arrives without waiting.
void barrier_arrive(int id, int threads, char const* file, int line);
/// bar.red.popc of the whole block: returns the number of threads whose value is not 0.
int barrier_count(int value, char const* file, int line);

}  // namespace w4ax_emulate
