/* What the software driver (libcuda.so.1) and a program's kernels know of each other.
 *
 * A program registers its kernels, as a module that the CUDA runtime would load. The driver launches them: in the order
 * of a stream, from a graph, on the thread of the stream. The emulator behind `run` executes one grid. */
#ifndef W4AX_DRIVER_KERNEL_INTERFACE_H
#define W4AX_DRIVER_KERNEL_INTERFACE_H

#include <cuda.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define W4AX_DRIVER_INTERFACE 1

/* One grid. */
typedef struct {
    uint32_t grid[3], block[3];
    uint32_t dynamic_shared_bytes;
    /* Whether the previous launch of the stream allowed it to begin early: programmatic dependent launch. */
    int overlaps_previous;
    /* The single parameter of the kernel, by value. The driver keeps a copy of `parameter_bytes` until the grid ends.
     */
    void const* parameter;
    /* The architecture that the device plays, such as 80, 87, 90 or 120. */
    int compute_capability;
} w4ax_grid;

/* A pointer in a kernel's parameter, and the bytes behind it that the kernel may touch; 0 if they are unknown. */
typedef struct {
    char const* name;
    void const* address;
    uint64_t bytes;
    uint32_t alignment;
} w4ax_pointer;

typedef struct w4ax_kernel {
    char const* name;
    void const* function; /* the key: what cudaLaunchKernelExC receives */
    uint32_t parameter_bytes;
    uint32_t max_threads; /* of a block, __launch_bounds__ */
    uint32_t registers;
    uint32_t static_shared_bytes;
    uint32_t max_dynamic_shared_bytes; /* the most that cudaFuncSetAttribute may allow */
    int sets_conditionals;             /* calls cudaGraphSetConditional: needs a driver of CUDA 12.4 */
    /* Runs a grid to its end on the calling thread. Returns 0; or a CUresult, after which the context is lost as after
     * a real launch failure, with a text that stays valid until the next call on any thread. */
    CUresult (*run)(struct w4ax_kernel const* kernel, w4ax_grid const* grid, char const** error);
    /* Lists at most `room` pointers of a parameter; returns their number. */
    int (*pointers)(struct w4ax_kernel const* kernel, void const* parameter, w4ax_pointer* out, int room);
} w4ax_kernel;

/* ---- Exported by the driver, beside the functions of <cuda.h>. The program finds them with dlsym. */

/* Adds the kernels of a program. They stay valid for the life of the process. `compute_capability` is that of the
 * emulated code (80 runs on 80 to 89, 90 on 90, 120 on 100 to 121): on other devices the kernels have no image
 * (CUDA_ERROR_NO_BINARY_FOR_GPU). Refuses another `interface` version. */
CUresult w4axDriverRegisterKernels(int interface_version, w4ax_kernel const* const* kernels, int count,
                                   int compute_capability);

/* cudaGetFuncBySymbol: the function of a registered kernel in the current context. */
CUresult w4axDriverGetFunction(CUfunction* function, void const* key);

/* Called by the emulator for cudaGraphSetConditional, on the thread that runs the grid. Refuses a handle that does not
 * belong to the graph that is running there. */
CUresult w4axDriverSetConditional(CUgraphConditionalHandle handle, unsigned value);

/* The emulator's part of cuTensorMapEncodeTiled, after the driver has checked the arguments: writes the 128 bytes of a
 * map of a BF16 matrix [rows, columns] whose rows are `stride` elements apart, in boxes of box_rows x 64 elements with
 * a 128-byte swizzle. Other maps are refused with CUDA_ERROR_NOT_SUPPORTED, and so is every map without an encoder. */
typedef void (*w4ax_tensor_map_encoder)(void* map, void const* x, int rows, int columns, int64_t stride, int box_rows);
void w4axDriverSetTensorMapEncoder(w4ax_tensor_map_encoder encoder);

/* Everything that is still alive or was never synchronized, one line each; "" if there is nothing. The text is valid
 * until the next call. At exit the driver prints the lines to standard error and, unless W4AX_DRIVER_LEAKS=0, ends the
 * process with code 86. */
char const* w4axDriverReport(void);

/* The description of the last refused call of this thread: the function, and what a real driver would not accept. */
char const* w4axDriverLastRefusal(void);

#ifdef __cplusplus
}
#endif
#endif
