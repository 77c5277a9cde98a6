/* w4ax on NVIDIA GPUs of compute capability 8.0 or newer: the GEMM of w4ax.h, enqueued on a stream of the caller.
 *
 *     w4ax_weight -> w4ax_gpu_weight ---------------------+
 *                                                         v
 *     x (BF16) -----------------------------------> w4ax_gpu_gemm -> y     all on one stream
 *        \-> w4ax_gpu_quantize -> quantized x ------------^
 *
 * The conventions of w4ax.h for statuses, structures, handles and threads apply. In addition:
 *
 * Builds and machines
 * - Every build of the library has these functions. In a build without feature `cuda` or without kernels
 *   (scripts/build-capi documents how to include them) functions that need a device or a kernel return W4AX_NO_BACKEND.
 *   Nothing falls back to the CPU.
 * - A wrong pointer, enumeration value, width or reserved field has the same status in every build.
 *
 * Memory
 * - x, y, bias, quantized activations and workspaces are device memory of the caller, on the device of the w4ax_gpu:
 *   from cudaMalloc, or any memory that kernels in its primary context may access. The library allocates device memory
 *   for weights only. Addresses are checked as numbers: null, alignment, length, overlap. Whether the device can access
 *   them is not checked.
 * - A launch holds bare addresses. The memory must live until the launch has ended on the stream; memory of a captured
 *   launch, until the last replay of the graph has ended. Argument structures and the w4ax_gpu may be freed when the
 *   call returns.
 * - A workspace and quantized activations serve one launch at a time: use one of each per stream in flight.
 *
 * Streams
 * - `stream` is a cudaStream_t, or the equal CUstream, of the primary context of the device, which the CUDA runtime
 *   uses; W4AX_DEVICE_MISMATCH for a stream of another context or device. NULL is the legacy default stream of that
 *   context: it synchronizes with the other blocking streams of the context, and it cannot be captured.
 *   cudaStreamLegacy and cudaStreamPerThread have their meaning in CUDA. A handle that is not a live stream is
 *   undefined behavior, as in CUDA.
 * - Functions with a stream only enqueue: they allocate nothing, do not synchronize, and can be captured into a graph.
 *   W4AX_OK means that the work was enqueued; CUDA reports an error during execution when the caller waits for the
 *   stream.
 * - No call changes the current context of the calling thread. */
#ifndef W4AX_GPU_H
#define W4AX_GPU_H

#include "w4ax.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the device ---- */

/* A device with the kernels loaded. Several threads may use it at once. */
typedef struct w4ax_gpu w4ax_gpu;

/* Returns the number of CUDA devices of this process, at least 1. Without a usable device: W4AX_NO_BACKEND (this build
 * has no kernels), W4AX_NO_DRIVER, W4AX_NO_DEVICE, W4AX_DRIVER_TOO_OLD or W4AX_CUDA_FAILED; w4ax_last_error names the
 * remedy. */
w4ax_status w4ax_gpu_count(uint32_t *count);

/* Opens device `ordinal`, numbered from 0 as in CUDA_VISIBLE_DEVICES, with its primary context. This may synchronize:
 * call it while no stream is captured. The first launch of a kernel loads it. The statuses of w4ax_gpu_count;
 * W4AX_NO_BACKEND also for a device that the kernels were not built for. */
w4ax_status w4ax_gpu_create(uint32_t ordinal, w4ax_gpu **gpu);

typedef struct w4ax_gpu_info {
    const char *name;         /* valid until w4ax_gpu_free */
    uint32_t ordinal;
    uint32_t major;           /* compute capability: 9 and 0 for sm_90 */
    uint32_t minor;
    uint32_t driver_major;    /* newest CUDA version that the driver supports; 0 if unknown */
    uint32_t driver_minor;
    uint32_t reserved;
} w4ax_gpu_info;

w4ax_status w4ax_gpu_get_info(const w4ax_gpu *gpu, w4ax_gpu_info *info);

/* A family of kernels. */
typedef uint32_t w4ax_family;
enum {
    W4AX_FAMILY_AUTO = 0,     /* selected by the number of tokens and the device */
    W4AX_FAMILY_DECODE = 1,   /* up to 16 tokens: streams the weights */
    W4AX_FAMILY_PREFILL = 2,  /* any number of tokens */
    W4AX_FAMILY_PLAIN = 3,    /* any number of tokens: slow and simple, a reference for the others */
    W4AX_FAMILY_WGMMA = 4     /* any number of tokens, on compute capability 9.0: TMA and wgmma. Its GEMM does not
                               * quantize x; with W4AX_BF16 rows of x are aligned to 16 bytes */
};

/* The instruction that multiplies. */
typedef uint32_t w4ax_mma;
enum {
    W4AX_MMA_NONE = 0,        /* scalar code: W4AX_FAMILY_PLAIN */
    W4AX_MMA_S4 = 1,          /* tensor cores, s4 by u4 into s32 */
    W4AX_MMA_S8 = 2,          /* tensor cores, s8 by u8 into s32 */
    W4AX_MMA_BF16 = 3,        /* tensor cores, bf16 into f32 */
    W4AX_MMA_WGMMA_S8 = 4,    /* warpgroup tensor cores, s8 by u8 into s32 */
    W4AX_MMA_WGMMA_BF16 = 5   /* warpgroup tensor cores, bf16 into f32 */
};

/* Returns the instruction of GEMMs of this width and family on this device, as the loaded code reports it.
 * W4AX_BAD_ENUM for W4AX_FAMILY_AUTO. */
w4ax_status w4ax_gpu_get_mma(const w4ax_gpu *gpu, w4ax_width width, w4ax_family family, w4ax_mma *mma);

/* Frees the handle. Weights and enqueued work stay valid. The kernels stay loaded. */
void w4ax_gpu_free(w4ax_gpu *gpu);

/* ---- weights ---- */

/* A w4ax_weight in the memory of a device, with its order of k. Immutable; any number of threads and streams may use it
 * at once. */
typedef struct w4ax_gpu_weight w4ax_gpu_weight;

/* Copies a weight to the device and waits for the copy; `weight` may be freed afterwards. Call it while no stream is
 * captured. W4AX_OUT_OF_RANGE if N or K exceeds W4AX_GPU_MAX_EXTENT, W4AX_CUDA_FAILED if the device is out of
 * memory. */
w4ax_status w4ax_gpu_weight_upload(const w4ax_gpu *gpu, const w4ax_weight *weight, w4ax_gpu_weight **gpu_weight);

/* `bytes` counts the memory of the device. */
w4ax_status w4ax_gpu_weight_get_info(const w4ax_gpu_weight *weight, w4ax_weight_info *info);

/* Waits until the device is idle, then frees the memory. Call it while no stream is captured, and after the last replay
 * of a graph that reads the weight. */
void w4ax_gpu_weight_free(w4ax_gpu_weight *weight);

/* ---- plans ---- */

enum {
    W4AX_GPU_MAX_EXTENT = 8388608,   /* largest m, n and k; above it W4AX_OUT_OF_RANGE */
    W4AX_GPU_MAX_STRIDE = 536870912, /* largest stride of x and y; above it W4AX_OUT_OF_RANGE */
    W4AX_GPU_DECODE_MAX_M = 16,      /* largest m of W4AX_FAMILY_DECODE; above it W4AX_OUT_OF_RANGE */
    W4AX_GPU_ALIGNMENT = 128         /* alignment of workspaces and quantized activations, in bytes */
};

/* How a kernel reads its activations. */
typedef uint32_t w4ax_mode;
enum {
    W4AX_MODE_AUTO = 0,       /* x is BF16. By m: quantized in the GEMM, or by a launch before into the workspace */
    W4AX_MODE_FUSED = 1,      /* x is BF16. One launch; no workspace unless the weight has an order of k */
    W4AX_MODE_QUANTIZED = 2   /* x is the output of w4ax_gpu_quantize for this family (W4AX_FAMILY_AUTO is decode or
                               * prefill, by m). Not with W4AX_BF16 or W4AX_FAMILY_PLAIN */
};

/* Bits of `flags`. */
enum {
    /* Programmatic dependent launch: the kernel may start, and read weights, while the launch before it in the stream
     * still runs. No effect below compute capability 9.0. Not at the edge of a conditional graph body. */
    W4AX_GPU_PDL = 1,
    /* x is already in the order of k of the weight, from w4ax_gpu_gather. For GEMMs only. No effect for a weight
     * without an order. */
    W4AX_GPU_GATHERED = 2
};

/* A GEMM by its sizes. */
typedef struct w4ax_gpu_problem {
    size_t m;                 /* number of tokens, at least 1 */
    size_t n;
    size_t k;
    w4ax_grouping grouping;   /* of the weight */
    w4ax_width width;
    w4ax_family family;
    w4ax_mode mode;
    uint32_t tile;            /* 0 selects by the shape; otherwise 1 to w4ax_gpu_tiles of the family */
    uint32_t flags;           /* W4AX_GPU_PDL or 0 */
    uint32_t has_order;       /* 1 if the GEMM gathers x into the order of k of its weight, otherwise 0 */
    uint32_t reserved;
} w4ax_gpu_problem;

typedef struct w4ax_gpu_plan {
    const char *kernel;       /* kernel of the GEMM, such as "decode_a4_g128_fused_16x8"; static */
    size_t workspace_bytes;
    size_t blocks;            /* number of blocks in the grid of the GEMM */
    uint32_t tile_n;          /* output channels per block */
    uint32_t tile_m;          /* tokens per block */
    w4ax_family family;       /* never W4AX_FAMILY_AUTO */
    w4ax_mode mode;           /* of the kernel of the GEMM; never W4AX_MODE_AUTO */
    uint32_t tile;            /* from 1 */
    uint32_t launches;        /* the GEMM, and where needed a quantization before it and a gather before both */
    w4ax_mma mma;             /* W4AX_MMA_NONE from w4ax_gpu_plan_problem, which has no device */
    uint32_t slow_x;          /* 1 if x is read by elements, because its rows are not aligned to 16 (or 4) bytes */
    uint32_t slow_y;          /* 1 if y is written by elements, for the same reason */
    uint32_t gathers;         /* 1 if x is gathered into the workspace first */
} w4ax_gpu_plan;

/* Returns the plan of these sizes on an A100, with aligned rows of x and y. Needs no device; w4ax_gpu_plan_gemm returns
 * the plan on a device. W4AX_OUT_OF_RANGE for a shape, family, mode or tile that no kernel supports. */
w4ax_status w4ax_gpu_plan_problem(const w4ax_gpu_problem *problem, w4ax_gpu_plan *plan);

/* Returns the bytes of workspace for these sizes, often 0, with the errors of w4ax_gpu_plan_problem. They are enough on
 * every device, and for fewer tokens, fewer inputs, narrower widths and any N. */
w4ax_status w4ax_gpu_workspace_bytes(const w4ax_gpu_problem *problem, size_t *bytes);

/* Returns the number of tile variants of a family, which is not W4AX_FAMILY_AUTO. */
w4ax_status w4ax_gpu_tiles(w4ax_family family, uint32_t *tiles);

/* ---- the GEMM ---- */

/* y[m, n] = x[m, k] * W[n, k]^T + bias[n] */
typedef struct w4ax_gpu_gemm_args {
    const w4ax_gpu_weight *weight;
    const uint16_t *x;        /* BF16 [m, k]; null with W4AX_MODE_QUANTIZED */
    size_t x_len;
    size_t x_stride;
    const void *quantized;    /* with W4AX_MODE_QUANTIZED: quantized with the same m, k and width, the grouping of the
                               * weight, and in its order of k; otherwise null */
    size_t quantized_bytes;   /* at least w4ax_gpu_quantized_bytes */
    const float *bias;        /* f32 [n], or null for none */
    size_t bias_len;          /* exactly n, or 0 for none */
    uint16_t *y;              /* BF16 [m, n]; overlaps no input and not the workspace */
    size_t y_len;
    size_t y_stride;
    void *workspace;          /* overlaps no input; null if the plan needs none. Its contents are undefined */
    size_t workspace_bytes;   /* at least those of the plan */
    size_t m;                 /* number of tokens; 0 is allowed and does nothing */
    size_t n;                 /* N of the weight */
    size_t k;                 /* K of the weight */
    w4ax_width width;
    w4ax_family family;
    w4ax_mode mode;
    uint32_t tile;            /* as in w4ax_gpu_problem */
    uint32_t flags;
    uint32_t reserved;
} w4ax_gpu_gemm_args;

/* Enqueues the GEMM on `stream`. At 2, 4 and 8 bits y has the bits of w4ax_cpu_gemm for every family, mode, tile and
 * device. At W4AX_BF16 y is within a bound of them and the same in every run. It runs the plan of w4ax_gpu_plan_gemm or
 * nothing: W4AX_OUT_OF_RANGE if no kernel matches, W4AX_BUFFER_TOO_SMALL for the workspace, W4AX_DEVICE_MISMATCH for a
 * weight or stream of another device. */
w4ax_status w4ax_gpu_gemm(const w4ax_gpu *gpu, const w4ax_gpu_gemm_args *args, void *stream);

/* Returns the plan of w4ax_gpu_gemm with these arguments, and its instruction. Ignores the workspace; m is at least
 * 1. */
w4ax_status w4ax_gpu_plan_gemm(const w4ax_gpu *gpu, const w4ax_gpu_gemm_args *args, w4ax_gpu_plan *plan);

/* ---- activations that several GEMMs read ---- */

/* gathered[m, i] = x[m, order[i]] */
typedef struct w4ax_gpu_gather_args {
    const w4ax_gpu_weight *weight; /* has the order of k */
    const uint16_t *x;        /* BF16 [m, k] */
    size_t x_len;
    size_t x_stride;
    uint16_t *gathered;       /* BF16 [m, k]; does not overlap x */
    size_t gathered_len;
    size_t gathered_stride;
    size_t m;                 /* number of tokens; 0 is allowed and does nothing */
    size_t k;                 /* K of the weight */
    uint32_t flags;           /* W4AX_GPU_PDL or 0 */
    uint32_t reserved;
} w4ax_gpu_gather_args;

/* Enqueues the gather of x, once for all GEMMs whose weights have this order of k. They read `gathered` with
 * W4AX_GPU_GATHERED, or what w4ax_gpu_quantize wrote from it, and follow in the same stream. A single GEMM needs no
 * call: it gathers x itself. W4AX_OUT_OF_RANGE for a weight without an order, W4AX_DEVICE_MISMATCH for a weight or
 * stream of another device. */
w4ax_status w4ax_gpu_gather(const w4ax_gpu *gpu, const w4ax_gpu_gather_args *args, void *stream);

/* Returns the bytes of quantized activations: m tokens of k inputs at 2, 4 or 8 bits, in the grouping of the weights
 * that read them, for a family of a plan (W4AX_FAMILY_AUTO, W4AX_FAMILY_DECODE and W4AX_FAMILY_PREFILL are the same).
 * Enough for fewer tokens, fewer inputs and narrower widths too. W4AX_OUT_OF_RANGE for W4AX_BF16 and
 * W4AX_FAMILY_PLAIN. */
w4ax_status w4ax_gpu_quantized_bytes(size_t m, size_t k, w4ax_width width, w4ax_grouping grouping, w4ax_family family,
                                     size_t *bytes);

typedef struct w4ax_gpu_quantize_args {
    const uint16_t *x;        /* BF16 [m, k]; from w4ax_gpu_gather if the weights have an order of k */
    size_t x_len;
    size_t x_stride;
    void *quantized;          /* does not overlap x */
    size_t quantized_bytes;   /* at least w4ax_gpu_quantized_bytes */
    size_t m;                 /* at least 1 */
    size_t k;
    w4ax_width width;         /* not W4AX_BF16 */
    w4ax_grouping grouping;
    w4ax_family family;       /* as for w4ax_gpu_quantized_bytes */
    uint32_t flags;           /* W4AX_GPU_PDL or 0 */
} w4ax_gpu_quantize_args;

/* Enqueues the quantization of x, once for all GEMMs that read it with this width, grouping and family, such as those
 * of q, k and v, or of gate and up. They follow in the same stream, or the caller orders them after it. The library
 * does not record what was quantized: a GEMM with another m, k, width, grouping, family or order of k has a meaningless
 * result. */
w4ax_status w4ax_gpu_quantize(const w4ax_gpu *gpu, const w4ax_gpu_quantize_args *args, void *stream);

/* y = x / sqrt(mean(x^2) + eps) * norm, for each row of x; of a residual connection, x += addend first */
typedef struct w4ax_gpu_rms_norm_args {
    void *x;                  /* [m, k] of x_type; written only if there is an addend */
    size_t x_len;             /* in elements, as x_stride */
    size_t x_stride;
    const uint16_t *addend;   /* as in w4ax_rms_norm_args */
    size_t addend_len;
    size_t addend_stride;
    const uint16_t *norm;     /* BF16 [k] */
    size_t norm_len;          /* exactly k */
    uint16_t *y;              /* BF16 [m, k], overlaps neither x nor norm; null unless W4AX_BF16 */
    size_t y_len;
    size_t y_stride;
    void *quantized;          /* as in w4ax_gpu_quantize_args; null with W4AX_BF16 */
    size_t quantized_bytes;
    size_t m;                 /* at least 1, unless W4AX_BF16 */
    size_t k;
    w4ax_width width;         /* W4AX_BF16: y is written. Otherwise it is quantized at once */
    w4ax_grouping grouping;   /* as in w4ax_gpu_quantize_args */
    w4ax_family family;       /* as in w4ax_gpu_quantize_args */
    w4ax_type x_type;         /* W4AX_TYPE_BF16 or W4AX_TYPE_F32 */
    float eps;                /* positive and finite */
    uint32_t flags;           /* W4AX_GPU_PDL or 0 */
} w4ax_gpu_rms_norm_args;

/* Enqueues an RMSNorm: one launch, with the bytes that w4ax_gpu_quantize writes for the BF16 rows, on every device and
 * on the CPU. */
w4ax_status w4ax_gpu_rms_norm(const w4ax_gpu *gpu, const w4ax_gpu_rms_norm_args *args, void *stream);

/* y = silu(gate) * up, with silu(v) = v / (1 + exp(-v)) */
typedef struct w4ax_gpu_silu_mul_args {
    const uint16_t *gate;     /* BF16 [m, k] */
    size_t gate_len;
    size_t gate_stride;
    const uint16_t *up;       /* BF16 [m, k] */
    size_t up_len;
    size_t up_stride;
    uint16_t *y;              /* BF16 [m, k], overlaps neither gate nor up; null unless W4AX_BF16 */
    size_t y_len;
    size_t y_stride;
    void *quantized;          /* as in w4ax_gpu_rms_norm_args */
    size_t quantized_bytes;
    size_t m;
    size_t k;
    w4ax_width width;
    w4ax_grouping grouping;
    w4ax_family family;
    uint32_t flags;
} w4ax_gpu_silu_mul_args;

/* Enqueues silu(gate) * up, as w4ax_gpu_rms_norm. */
w4ax_status w4ax_gpu_silu_mul(const w4ax_gpu *gpu, const w4ax_gpu_silu_mul_args *args, void *stream);

#ifdef __cplusplus
}
#endif
#endif
