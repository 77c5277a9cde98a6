// What every part of the emulator knows: the running CUDA thread, the options, the counters, and how to fail.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>  // dim3, uint3, cudaError_t; __global__ and its like are empty for a host compiler

// CUDA's built-in variables. threadIdx is set at each switch; the others at each block and launch.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace w4ax_emulate {

/// The place of a CUDA thread in its block.
struct Thread {
  uint3 index;
  int linear;
  int lane;
  int warp;
};

/// The running CUDA thread; null on the host.
extern Thread* current;

/// Ends the launch with a text: the rest of the grid does not run, and `launch` returns cudaErrorLaunchFailure. The
/// text gets the block, the thread and the source lines that called. Must be called from a CUDA thread.
[[noreturn]] void fail(char const* format, ...) __attribute__((format(printf, 1, 2)));

/// Order in which the threads of a block run between their meetings.
enum class Schedule : int { by_seed = -1, in_order = 0, random = 1, reversed = 2, warp_by_warp = 3 };

/// When the bytes of a cp.async arrive. Reading them before the wait is an error in every mode that can see it.
enum class AsyncCopies : int { by_seed = -1, late = 0, early = 1, random = 2 };

/// How a BF16 mma adds its products, each exact in f32: one by one with k ascending, each sum rounded to nearest even
/// (the scalar mirror's order, so a kernel that walks k in order gives the mirror's bits); or all at once, exactly,
/// with a single rounding. A tensor core does neither: a kernel must be right within the bound under both.
enum class Bf16Sum : int { ascending = 0, exact = 1 };

struct Options {
  std::uint64_t seed = 0;
  Schedule schedule = Schedule::by_seed;
  AsyncCopies async_copies = AsyncCopies::by_seed;
  Bf16Sum bf16_sum = Bf16Sum::ascending;
  int compute_capability = 80;  // what cudaDeviceGetAttribute answers, and the limit of shared memory
};
extern Options options;

/// Counted since the last reset. Global bytes are those of cp.async and of the loads of intrinsics.h and ptx.h; a
/// plain dereference is not counted.
struct Counters {
  std::uint64_t launches, blocks, switches;
  std::uint64_t barriers, warp_collectives, mma, ldmatrix, shuffles;
  std::uint64_t ldmatrix_phases, ldmatrix_conflicts;  // conflict: a further pass over the banks for 8 rows
  std::uint64_t async_copies, global_bytes_read;
};
extern Counters counters;
/// Not in a header: code of a kernel's translation unit would be seen racing for the counter.
void count_global_read(std::uint64_t bytes);

/// Reproducible bits for everything that a seed decides.
std::uint32_t random_bits();

}  // namespace w4ax_emulate
