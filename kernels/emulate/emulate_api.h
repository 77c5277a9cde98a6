/* Control of the CPU emulator, in addition to the C ABI of the kernels. Must not be called while a launch runs, unless
 * a function permits it. */
#ifndef W4AX_EMULATE_API_H
#define W4AX_EMULATE_API_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The seed decides the order of blocks and threads, when asynchronous copies arrive, and the garbage in shared memory.
 * The same seed and the same calls after it give the same run. */
void w4ax_emulate_set_seed(uint64_t seed);

/* When the bytes of asynchronous copies arrive: -1 by the seed, 0 at the wait, 1 at once, 2 at random. */
void w4ax_emulate_set_cp_async(int mode);

/* The order of threads: -1 by the seed, 0 in order, 1 random, 2 reversed, 3 warp by warp. */
void w4ax_emulate_set_schedule(int mode);

/* How a BF16 mma sums: 0 one product after the other with k ascending, 1 all at once with one rounding. */
void w4ax_emulate_set_bf16_sum(int mode);

/* The compute capability that the device reports, such as 80 or 90. It limits shared memory. */
void w4ax_emulate_set_compute_capability(int capability);

/* Adds memory that no launch writes, such as weights. If there is any, a bulk or tensor copy of a grid that overlaps
 * the previous one may read nothing else until its thread has executed griddepcontrol.wait. At most 16 ranges. */
void w4ax_emulate_add_constant(void const* at, uint64_t bytes);
void w4ax_emulate_clear_constants(void);

/* The text of the first error since the last clear, "" if there was none. No launch runs until it is cleared. The
 * pointer is valid until the next call. */
char const* w4ax_emulate_last_error(void);
void w4ax_emulate_clear_error(void);

/* As cudaDeviceSynchronize: the host may read results afterwards (TSan reports earlier reads). Returns 0, or 1 after an
 * error. */
int w4ax_emulate_synchronize(void);

typedef struct {
    uint64_t launches, blocks, switches;
    uint64_t barriers, warp_collectives, mma, ldmatrix, shuffles;
    uint64_t ldmatrix_phases, ldmatrix_conflicts;
    uint64_t async_copies, global_bytes_read;
} w4ax_emulate_counters;

/* Counts since the last reset. */
void w4ax_emulate_get_counters(w4ax_emulate_counters* out);
void w4ax_emulate_reset_counters(void);

/* Since the last reset: loads of the flag by latches (callable from any thread while a latch spins), calls of
 * cudaGraphSetConditional, and the last value of a handle from 0 to 7 (UINT32_MAX: not set). */
uint64_t w4ax_emulate_flag_loads(void);
uint64_t w4ax_emulate_conditionals_set(void);
uint32_t w4ax_emulate_conditional(uint64_t handle);
void w4ax_emulate_reset_flag(void);

/* The sanitizer of the build: "none", "address", "thread" or "memory". */
char const* w4ax_emulate_sanitizer(void);

#ifdef __cplusplus
}
#endif
#endif
