/* w4ax on NVIDIA GPUs, compute capability 8.0 and newer: the GEMM of w4ax.h, enqueued on the caller's stream.
 *
 *     w4ax_weight -> w4ax_gpu_weight ----------------------+
 *                                                          v
 *     x (BF16) ------------------------------------> w4ax_gpu_gemm -> y     all on one stream
 *        \-> w4ax_gpu_quantize_pack -> packed x -----------^
 *
 * What w4ax.h says of statuses, structures, handles and threads holds here too. And:
 *
 * Builds and machines
 * - These functions are in every build of this library. In one without feature `cuda` or without kernels (scripts/build-capi says
 *   how to get them) those that need a device or a kernel are W4AX_NO_BACKEND. Nothing falls back to the CPU.
 * - A wrong pointer, enumeration value, width or reserved field has the same status in every build.
 *
 * Memory
 * - x, y, bias, packed activations and workspaces are device memory of the caller's, of the device of the w4ax_gpu (from
 *   cudaMalloc, or anything else that kernels in its primary context may use). This library allocates device memory for weights
 *   and orders of k only. Addresses are checked as numbers: null, alignment, length, overlap. Whether the device can use them is not.
 * - A launch has bare addresses. What they point at must be there until the launch has ended on the stream; what was captured
 *   into a graph, until the graph's last replay has. Argument structures may go when the call returns, the w4ax_gpu too.
 * - A workspace and packed activations serve one launch at a time: one of each for each stream in flight.
 *
 * Streams
 * - `stream` is a cudaStream_t (a CUstream is the same) of the device's primary context, which is the one that the CUDA runtime
 *   uses; W4AX_WRONG_PLACE for one of another context or device. NULL is the legacy default stream of that context: it waits for
 *   the context's other blocking streams and they for it, and it cannot be captured. cudaStreamLegacy and cudaStreamPerThread mean
 *   what they mean to CUDA. A handle that is no stream (any more) is undefined, as it is to CUDA.
 * - Functions with a stream only enqueue: they allocate nothing, synchronize nothing, and can be captured into a graph. That they
 *   return W4AX_OK says that the work was enqueued; an error while it runs comes up where the caller waits for the stream.
 * - The context that is current in the calling thread is the same after a call as before it. */
#ifndef W4AX_GPU_H
#define W4AX_GPU_H

#include "w4ax.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the device ---- */

/* A device with the kernels loaded on it. Threads may share it. */
typedef struct w4ax_gpu w4ax_gpu;

/* How many CUDA devices this process sees, at least 1. Where there is none to use: W4AX_NO_BACKEND (this build has no kernels),
 * W4AX_NO_DRIVER, W4AX_NO_DEVICE, W4AX_DRIVER_TOO_OLD, or W4AX_CUDA_FAILED, and w4ax_last_error says what to do about it. */
w4ax_status w4ax_gpu_count(uint32_t *count);

/* Takes device `ordinal`, as CUDA_VISIBLE_DEVICES numbers them from 0, by its primary context, and loads all kernels there, which
 * may take a second and synchronize: call it while no stream is captured. The statuses of w4ax_gpu_count; W4AX_NO_BACKEND also
 * for a device that the kernels were not built for. */
w4ax_status w4ax_gpu_create(uint32_t ordinal, w4ax_gpu **gpu);

typedef struct w4ax_gpu_info {
    const char *name;         /* until w4ax_gpu_free */
    uint32_t ordinal;
    uint32_t major;           /* compute capability: 9 and 0 is sm_90 */
    uint32_t minor;
    uint32_t driver_major;    /* the newest CUDA that its driver supports, 0 if it does not say */
    uint32_t driver_minor;
    uint32_t reserved;
} w4ax_gpu_info;

w4ax_status w4ax_gpu_get_info(const w4ax_gpu *gpu, w4ax_gpu_info *info);

/* Which kernels. */
typedef uint32_t w4ax_family;
enum {
    W4AX_FAMILY_AUTO = 0,     /* by the number of tokens, and what the device has */
    W4AX_FAMILY_DECODE = 1,   /* up to 16 tokens: streams the weights past them */
    W4AX_FAMILY_PREFILL = 2,  /* any number of tokens */
    W4AX_FAMILY_PLAIN = 3,    /* any number of tokens: slow and obvious, to compare the others with */
    W4AX_FAMILY_WGMMA = 4     /* any number of tokens, on compute capability 9.0: TMA and wgmma. Quantizes nothing
                               * itself; with W4AX_BF16 rows of x are aligned to 16 bytes */
};

/* What multiplies. */
typedef uint32_t w4ax_mma;
enum {
    W4AX_MMA_NONE = 0,        /* scalar code: W4AX_FAMILY_PLAIN */
    W4AX_MMA_S4 = 1,          /* tensor cores, s4 by u4 into s32 */
    W4AX_MMA_S8 = 2,          /* tensor cores, s8 by u8 into s32 */
    W4AX_MMA_BF16 = 3,        /* tensor cores, bf16 into f32 */
    W4AX_MMA_WGMMA_S8 = 4,    /* tensor cores by warpgroups, s8 by u8 into s32 */
    W4AX_MMA_WGMMA_BF16 = 5   /* tensor cores by warpgroups, bf16 into f32 */
};

/* What GEMMs of that width and family really multiply with on this device: read from the code that is loaded. W4AX_BAD_ENUM for
 * W4AX_FAMILY_AUTO. */
w4ax_status w4ax_gpu_get_mma(const w4ax_gpu *gpu, w4ax_width width, w4ax_family family, w4ax_mma *mma);

/* Frees the handle. Weights live on, and so does what is enqueued. The kernels stay loaded. */
void w4ax_gpu_free(w4ax_gpu *gpu);

/* ---- weights ---- */

/* A w4ax_weight in a device's memory. Never changes; any number of threads and streams may use it at once. */
typedef struct w4ax_gpu_weight w4ax_gpu_weight;

/* Copies a weight to the device, and waits until it is there; `weight` may go then. Call it while no stream is captured.
 * W4AX_OUT_OF_RANGE for N or K over W4AX_GPU_MAX_EXTENT, W4AX_CUDA_FAILED if there is no device memory for it. */
w4ax_status w4ax_gpu_weight_upload(const w4ax_gpu *gpu, const w4ax_weight *weight, w4ax_gpu_weight **gpu_weight);

/* `bytes` are those on the device. */
w4ax_status w4ax_gpu_weight_get_info(const w4ax_gpu_weight *weight, w4ax_weight_info *info);

/* Waits until the device is idle, then frees the memory: call it while no stream is captured, and after the last replay of a
 * graph that reads the weight. */
void w4ax_gpu_weight_free(w4ax_gpu_weight *weight);

/* ---- weights in another order of k ---- */

/* A w4ax_order in a device's memory. Never changes; any number of threads and streams may use it at once. Its weight is uploaded
 * as any other. */
typedef struct w4ax_gpu_order w4ax_gpu_order;

/* As w4ax_gpu_weight_upload. */
w4ax_status w4ax_gpu_order_upload(const w4ax_gpu *gpu, const w4ax_order *order, w4ax_gpu_order **gpu_order);

/* As w4ax_gpu_weight_free. */
void w4ax_gpu_order_free(w4ax_gpu_order *order);

/* gathered[m, i] = x[m, order[i]] */
typedef struct w4ax_gpu_gather_args {
    const w4ax_gpu_order *order;
    const uint16_t *x;        /* BF16 [m, k] */
    size_t x_len;
    size_t x_stride;
    uint16_t *gathered;       /* BF16 [m, k]; what it spans does not overlap x */
    size_t gathered_len;
    size_t gathered_stride;
    size_t m;                 /* tokens; 0 is allowed and does nothing */
    size_t k;                 /* that of the order */
    uint32_t flags;           /* as w4ax_gpu_gemm_args */
    uint32_t reserved;
} w4ax_gpu_gather_args;

/* Enqueues the gather on `stream`, once for all GEMMs and w4ax_gpu_quantize_packs of weights with this order: they take
 * `gathered` for x, and follow it in the same stream. W4AX_WRONG_PLACE for an order or a stream that is not this device's. */
w4ax_status w4ax_gpu_gather(const w4ax_gpu *gpu, const w4ax_gpu_gather_args *args, void *stream);

/* ---- what would run ---- */

enum {
    W4AX_GPU_MAX_EXTENT = 8388608,   /* of m, n and k; else W4AX_OUT_OF_RANGE */
    W4AX_GPU_MAX_STRIDE = 536870912, /* of x and y; else W4AX_OUT_OF_RANGE */
    W4AX_GPU_DECODE_MAX_M = 16,      /* of W4AX_FAMILY_DECODE; else W4AX_OUT_OF_RANGE */
    W4AX_GPU_ALIGNMENT = 128         /* of workspaces and packed activations, in bytes */
};

/* How a kernel comes by its activations. */
typedef uint32_t w4ax_mode;
enum {
    W4AX_MODE_AUTO = 0,       /* x is BF16; by its rows, quantized in the GEMM or packed into the workspace by a launch before */
    W4AX_MODE_FUSED = 1,      /* x is BF16; one launch, no workspace */
    W4AX_MODE_PACKED = 2      /* x is what w4ax_gpu_quantize_pack wrote for this family (W4AX_FAMILY_AUTO: decode or prefill, by the
                               * number of tokens); not with W4AX_BF16 and W4AX_FAMILY_PLAIN */
};

/* Bits of `flags`. */
enum {
    /* Programmatic dependent launch: the kernel may start, and read weights, while the launch before it in the stream still
     * runs. No effect below compute capability 9.0. Not at the edge of a conditional graph body. */
    W4AX_GPU_PDL = 1
};

/* A GEMM by its numbers. */
typedef struct w4ax_gpu_problem {
    size_t m;                 /* tokens, at least 1 */
    size_t n;
    size_t k;
    w4ax_grouping grouping;   /* that of the weight */
    w4ax_width width;
    w4ax_family family;
    w4ax_mode mode;
    uint32_t tile;            /* 0: by the shape; else 1 to w4ax_gpu_tiles of the family */
    uint32_t flags;
} w4ax_gpu_problem;

typedef struct w4ax_gpu_plan {
    const char *kernel;       /* that of the GEMM, such as "decode_a4_g128_fused_16x8"; static */
    size_t workspace_bytes;
    size_t blocks;            /* of the GEMM's grid */
    uint32_t tile_n;          /* output channels of a block */
    uint32_t tile_m;          /* tokens of a block */
    w4ax_family family;       /* that runs, never W4AX_FAMILY_AUTO */
    w4ax_mode mode;           /* of the GEMM's kernel, never W4AX_MODE_AUTO */
    uint32_t tile;            /* from 1 */
    uint32_t launches;        /* 2 if the activations are packed into the workspace first */
    w4ax_mma mma;             /* from w4ax_gpu_plan_gemm; W4AX_MMA_NONE from w4ax_gpu_plan_problem, which knows no device */
    uint32_t slow_x;          /* 1: x is read by single elements, because its rows are not aligned to 16 (or 4) bytes */
    uint32_t slow_y;          /* 1: y is written by single elements, for the same reason */
    uint32_t reserved;
} w4ax_gpu_plan;

/* What would run for these numbers on an A100, with aligned rows of x and y. Needs no device; what runs on the one that is there,
 * w4ax_gpu_plan_gemm shows. W4AX_OUT_OF_RANGE for a shape, family, mode or tile that there is no kernel for. */
w4ax_status w4ax_gpu_plan_problem(const w4ax_gpu_problem *problem, w4ax_gpu_plan *plan);

/* Bytes of workspace for these numbers, often 0; refused as by w4ax_gpu_plan_problem. They are enough on every device, for fewer tokens
 * and for narrower widths too, for any N, and for fewer inputs. */
w4ax_status w4ax_gpu_workspace_bytes(const w4ax_gpu_problem *problem, size_t *bytes);

/* Tile variants of a family (not W4AX_FAMILY_AUTO). */
w4ax_status w4ax_gpu_tiles(w4ax_family family, uint32_t *tiles);

/* ---- the GEMM ---- */

/* y[m, n] = x[m, k] * W[n, k]^T + bias[n] */
typedef struct w4ax_gpu_gemm_args {
    const w4ax_gpu_weight *weight;
    const uint16_t *x;        /* BF16 [m, k]; null with W4AX_MODE_PACKED */
    size_t x_len;
    size_t x_stride;
    const void *packed;       /* with W4AX_MODE_PACKED, of the same m, k, width and the weight's grouping; else null */
    size_t packed_bytes;      /* w4ax_gpu_packed_bytes or more */
    const float *bias;        /* f32 [n], or null for none */
    size_t bias_len;          /* n exactly, or 0 for none */
    uint16_t *y;              /* BF16 [m, n]; what it spans overlaps no input and not the workspace */
    size_t y_len;
    size_t y_stride;
    void *workspace;          /* overlaps no input; may be null where the plan needs none. Its contents mean nothing before
                               * and after */
    size_t workspace_bytes;   /* those of the plan, or more */
    size_t m;                 /* tokens; 0 is allowed and does nothing */
    size_t n;                 /* those of the weight */
    size_t k;
    w4ax_width width;
    w4ax_family family;
    w4ax_mode mode;
    uint32_t tile;            /* as in w4ax_gpu_problem */
    uint32_t flags;
    uint32_t reserved;
} w4ax_gpu_gemm_args;

/* Enqueues the GEMM on `stream`. y has the bits of w4ax_cpu_gemm at 2, 4 and 8 bits, whatever the family, mode, tile and device;
 * at W4AX_BF16 it is within a bound of them, and the same in every run. Runs what w4ax_gpu_plan_gemm shows, or nothing: W4AX_OUT_OF_RANGE for a kernel
 * that there is not, W4AX_BUFFER_TOO_SMALL for a workspace that is too small, W4AX_WRONG_PLACE for a weight or a stream that
 * is not this device's. */
w4ax_status w4ax_gpu_gemm(const w4ax_gpu *gpu, const w4ax_gpu_gemm_args *args, void *stream);

/* What w4ax_gpu_gemm would run with these arguments, and its mma. The workspace is not looked at; m is at least 1. */
w4ax_status w4ax_gpu_plan_gemm(const w4ax_gpu *gpu, const w4ax_gpu_gemm_args *args, w4ax_gpu_plan *plan);

/* ---- activations that several GEMMs read ---- */

/* Bytes of packed activations: m tokens of k inputs at 2, 4 or 8 bits, in the grouping of the weights that they will meet, for the
 * GEMMs of a family (of a plan; W4AX_FAMILY_AUTO, W4AX_FAMILY_DECODE and W4AX_FAMILY_PREFILL are the same). Enough for fewer
 * tokens, fewer inputs and narrower widths too. W4AX_OUT_OF_RANGE for W4AX_BF16 and W4AX_FAMILY_PLAIN: neither is packed. */
w4ax_status w4ax_gpu_packed_bytes(size_t m, size_t k, w4ax_width width, w4ax_grouping grouping, w4ax_family family, size_t *bytes);

typedef struct w4ax_gpu_pack_args {
    const uint16_t *x;        /* BF16 [m, k] */
    size_t x_len;
    size_t x_stride;
    void *packed;             /* what it spans does not overlap x */
    size_t packed_bytes;      /* w4ax_gpu_packed_bytes or more */
    size_t m;                 /* at least 1 */
    size_t k;
    w4ax_width width;         /* not W4AX_BF16 */
    w4ax_grouping grouping;
    w4ax_family family;       /* as for w4ax_gpu_packed_bytes */
    uint32_t flags;
} w4ax_gpu_pack_args;

/* Enqueues the quantization of x, once for all GEMMs that read it with this width, grouping and family: those of q, k and v, or of
 * gate and up. They follow it in the same stream, or are ordered behind it by the caller. What was packed is the caller's to know:
 * a GEMM with another m, k, width, grouping or family than it was packed with gives numbers that mean nothing. */
w4ax_status w4ax_gpu_quantize_pack(const w4ax_gpu *gpu, const w4ax_gpu_pack_args *args, void *stream);

#ifdef __cplusplus
}
#endif
#endif
