// The state that every part of the emulator uses: the running CUDA thread, options, counters, failure.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>  // dim3, uint3, cudaError_t; __global__ etc. are empty for a host compiler

// CUDA's built-in variables. threadIdx is set at each switch; the others at each block and launch.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace w4ax_emulate {

/// The position of a CUDA thread in its block.
struct Thread {
    uint3 index;
    int linear;
    int lane;
    int warp;
};

/// The running CUDA thread; null on the host.
extern Thread* current;

/// Ends the launch with an error: the rest of the grid does not run, and `launch` returns cudaErrorLaunchFailure. The
/// block, the thread and the source lines of the caller are appended. Must be called from a CUDA thread.
[[noreturn]] void fail(char const* format, ...) __attribute__((format(printf, 1, 2)));

/// The order in which the threads of a block run between barriers and collectives.
enum class Schedule : int { by_seed = -1, in_order = 0, random = 1, reversed = 2, warp_by_warp = 3 };

/// When the bytes of an asynchronous copy arrive. Reading them before the wait is an error in every mode that can
/// detect it.
enum class AsyncCopies : int { by_seed = -1, late = 0, early = 1, random = 2 };

/// How a BF16 mma sums its products, each exact in f32. `ascending`: one by one with k ascending, each sum rounded to
/// nearest even, which is the scalar reference's order. `exact`: all at once with a single rounding. A tensor core does
/// neither, so a kernel must be within the bound under both.
enum class Bf16Sum : int { ascending = 0, exact = 1 };

struct Options {
    std::uint64_t seed = 0;
    Schedule schedule = Schedule::by_seed;
    AsyncCopies async_copies = AsyncCopies::by_seed;
    Bf16Sum bf16_sum = Bf16Sum::ascending;
    int compute_capability = 80;  // what cudaDeviceGetAttribute reports; limits shared memory
};
extern Options options;

/// Counts since the last reset. Global bytes are those of asynchronous copies and of the loads in intrinsics.h and
/// ptx.h; plain loads are not counted.
struct Counters {
    std::uint64_t launches, blocks, switches;
    std::uint64_t barriers, warp_collectives, mma, ldmatrix, shuffles;
    std::uint64_t ldmatrix_phases, ldmatrix_conflicts;  // conflict: one more pass over the banks for 8 rows
    std::uint64_t async_copies, global_bytes_read;
};
extern Counters counters;
/// Not inline: TSan would report races for the counter in a kernel's translation unit.
void count_global_read(std::uint64_t bytes);

/// The random bits of everything that the seed decides.
std::uint32_t random_bits();

}  // namespace w4ax_emulate
