/* The private C ABI between the CUDA kernels and the Rust side, which binds it by bindgen. Its enumerations are the
 * only definition of these numbers: the kernels, the bindings and the tests use them.
 *
 * A GEMM computes y[M, N] = x[M, K] * W[N, K]^T + bias[N] with the arithmetic of src/numerics.rs, bit for bit.
 *
 * Conventions
 * - Plain C. Null pointers and invalid numbers do not crash: a function returns a status, which w4axk_status_text
 *   explains. Enumerations are passed as uint32_t, so that an unknown value is a status as well.
 * - Pointers in argument structures are device pointers of the device named there, unless marked "host". The caller
 *   owns all memory. Nothing is allocated, and nothing is referenced after the stream has passed the launch.
 * - `stream` is a cudaStream_t (the same as CUstream). Functions that take a stream only launch: they never
 *   synchronize, and they can be captured into a graph. The stream must belong to the primary context of `device`,
 *   which is current during the call; the caller's context is restored afterwards.
 * - w4axk_preload must have returned W4AXK_OK for a device before the first launch on it. The first launch of a kernel
 *   loads it, which takes time and may wait for the device; a capture is not disturbed. w4axk_kernel_attributes loads a
 *   kernel ahead.
 * - Functions may be called from several threads. Launches that share a workspace must be ordered by their streams. */
#ifndef W4AX_KERNELS_H
#define W4AX_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Increased whenever a structure or a meaning below changes. */
#define W4AXK_ABI_VERSION 5u

/* ---- enumerations ---- */

typedef enum w4axk_status {
    W4AXK_OK = 0,
    W4AXK_NULL_POINTER = 1,   /* a required pointer is null */
    W4AXK_BAD_SHAPE = 2,      /* M, N or K is 0 or exceeds W4AXK_MAX_EXTENT, or the grid exceeds 2^31 - 1 blocks */
    W4AXK_BAD_STRIDE = 3,     /* a row stride is shorter than its row or exceeds W4AXK_MAX_STRIDE */
    W4AXK_BAD_WIDTH = 4,      /* not 2, 4, 8, 16 or W4AXK_LATCHED; 16 cannot be quantized */
    W4AXK_BAD_GROUPING = 5,   /* not 32, 64, 128 or 0 */
    W4AXK_BAD_SCALE_TYPE = 6, /* not a w4axk_scale_type */
    W4AXK_BAD_FAMILY = 7,     /* not a w4axk_family, or decode with more than W4AXK_DECODE_MAX_M tokens */
    W4AXK_BAD_MODE = 8,       /* not a w4axk_mode; packed with 16 bits; fused with a latched width and too many tokens;
                               * wgmma: fused with fewer than 16 bits, or fused and latched */
    W4AXK_BAD_TILE = 9,       /* the family has no such tile variant */
    W4AXK_BAD_FLAGS = 10,     /* unknown flag bits, or a reserved field that is not 0 */
    W4AXK_MISALIGNED = 11,    /* a pointer is not aligned as its field requires */
    W4AXK_K_TOO_LARGE =
        12, /* per-channel or two-level weights with K over W4AXK_MAX_CHANNEL_K: 32-bit sums could overflow */
    W4AXK_WORKSPACE_TOO_SMALL = 13, /* the workspace or the quantized output is null or smaller than required */
    W4AXK_NO_DEVICE = 14,           /* no CUDA device or no driver */
    W4AXK_BAD_DEVICE = 15,          /* the device number is out of range */
    W4AXK_DRIVER_TOO_OLD = 16,      /* the driver is older than the runtime that the kernels are linked with */
    W4AXK_NO_KERNEL_IMAGE = 17,     /* the build has no code for this device's architecture */
    W4AXK_NOT_PRELOADED = 18,       /* w4axk_preload has not been called for this device */
    W4AXK_WRONG_CONTEXT = 19,       /* the stream does not belong to the device's primary context */
    W4AXK_CUDA_ERROR = 20,          /* any other error of the runtime: see w4axk_last_cuda_error */
    W4AXK_BAD_NODE = 21,            /* the body of a graph has a node that a conditional node does not support */
    W4AXK_BAD_SCHEME = 22           /* not a w4axk_scheme, or two-level weights per channel */
} w4axk_status;

/* Width of the activations in bits. */
typedef enum w4axk_width {
    W4AXK_A2 = 2,
    W4AXK_A4 = 4,
    W4AXK_A8 = 8,
    W4AXK_BF16 = 16,    /* the activations are not quantized */
    W4AXK_LATCHED = 255 /* the width that the latch holds when the kernel runs: a routed kernel branches on it */
} w4axk_width;

typedef enum w4axk_scale_type { W4AXK_SCALE_F32 = 0, W4AXK_SCALE_F16 = 1, W4AXK_SCALE_BF16 = 2 } w4axk_scale_type;

/* The arithmetic of a weight (src/numerics.rs). */
typedef enum w4axk_scheme {
    W4AXK_GROUPED = 0,  /* a scale of each channel and group */
    W4AXK_TWO_LEVEL = 1 /* an integer step of each channel and group, and a scale of each channel */
} w4axk_scheme;

/* Group size: k that share a weight scale, or a step of two-level weights. Activations are quantized over the same
 * groups; per channel, and for two-level weights, over whole rows. */
typedef enum w4axk_grouping { W4AXK_PER_CHANNEL = 0, W4AXK_G32 = 32, W4AXK_G64 = 64, W4AXK_G128 = 128 } w4axk_grouping;

/* The instruction that the loaded code of a kernel multiplies with. */
typedef enum w4axk_mma {
    W4AXK_MMA_NONE = 0,      /* scalar code */
    W4AXK_MMA_S4 = 1,        /* mma.m16n8k64 (k32 for groups of 32) s4 x u4 -> s32 */
    W4AXK_MMA_S8 = 2,        /* mma.m16n8k32 s8 x u8 -> s32; two-level weights: u8 x u8 */
    W4AXK_MMA_BF16 = 3,      /* mma.m16n8k16 bf16 x bf16 -> f32 */
    W4AXK_MMA_ROUTED = 4,    /* a routed kernel: the instructions of all widths */
    W4AXK_MMA_WGMMA_S8 = 5,  /* wgmma.m64nNk32 s8 x u8 -> s32; two-level weights: u8 x u8 */
    W4AXK_MMA_WGMMA_BF16 = 6 /* wgmma.m64nNk16 bf16 x bf16 -> f32 */
} w4axk_mma;

typedef enum w4axk_family {
    W4AXK_AUTO = 0,    /* selected by shape, as w4axk_plan_gemm reports */
    W4AXK_DECODE = 1,  /* M up to W4AXK_DECODE_MAX_M: limited by the weights' bytes */
    W4AXK_PREFILL = 2, /* any M */
    W4AXK_PLAIN = 3,   /* any M: the scalar reference, one thread per output */
    W4AXK_WGMMA = 4 /* any M, on sm_90 with code for sm_90a: TMA and wgmma. Does not quantize; rows of BF16 activations
                     * are aligned to 16 bytes, also at a latched width */
} w4axk_family;

typedef enum w4axk_mode {
    W4AXK_MODE_AUTO = 0, /* x is BF16; the plan selects fused, or quantize_pack into the workspace and then packed */
    W4AXK_FUSED = 1,     /* x is BF16; one launch, which quantizes what it reads */
    W4AXK_PACKED = 2     /* x is the output of w4axk_quantize_pack for the same M, K, width and grouping. Latched: x is
                          * BF16, for steps at 16 bits, and the workspace is that output */
} w4axk_mode;

enum {
    /* Programmatic dependent launch: the kernel may start while the previous launch of the stream still runs. Until
     * that launch is complete it reads weights only, so the previous launch must not write weights. No effect below
     * sm_90, or in a body that w4axk_graph_capture captures. */
    W4AXK_FLAG_PDL = 1
};

/* How the latch decided the width of a step. All outcomes but ON_TIME and BY_HOST run at BF16. */
typedef enum w4axk_outcome {
    W4AXK_ON_TIME = 0,   /* the flag held this step's word */
    W4AXK_UNWRITTEN = 1, /* the word was never written, or was withdrawn */
    W4AXK_INVALID = 2,   /* the word has an unsupported width */
    W4AXK_STALE = 3,     /* the word is an earlier step's: no decision was made for this step, or it was too late */
    W4AXK_FUTURE = 4,    /* the word is a later step's: this step's sequence was left out */
    W4AXK_BY_HOST = 5    /* the host forced the width; the flag was not read */
} w4axk_outcome;

enum {
    W4AXK_DECODE_MAX_M = 16,
    W4AXK_MAX_CHANNEL_K = 65536,
    W4AXK_MAX_EXTENT = 8388608, /* of M, N and K */
    W4AXK_MAX_SPIN_US = 1000000,
    W4AXK_MAX_STRIDE = 536870912 /* of x and y, in elements */
};

/* ---- structures ---- */

/* INT4 weights [N, K] in the layout of PackedWeight, on a device. Rows beyond N and k beyond K are 0. */
/* A weight. With scheme W4AXK_TWO_LEVEL, scales and sums have one group, as per channel, and `group` is that of the
 * steps. */
typedef struct w4axk_weight {
    const void *tiles;     /* [ceil(N/16)][ceil(K/64)] tiles of 512 bytes; aligned to 128 */
    const void *scales;    /* [ceil(N/16)][groups][16] of scale_type; aligned to 16 */
    const int8_t *zeros;   /* [ceil(N/16)][groups][16], in [-8, 8]; aligned to 16; null when symmetric or two-level */
    const void *sums;      /* [ceil(N/16)][groups][16]: sum(qw - zw) over each group's valid k, int16_t (int32_t per
                            * channel; two-level: the sum of w8); aligned to 16 */
    const uint16_t *steps; /* two-level: [ceil(N/16)][groups][16], bits 4..0: sg in 1..16, bits 15..7: (zg + 8) * sg;
                            * aligned to 16; otherwise null */
    uint32_t n;
    uint32_t k;
    uint32_t group;      /* w4axk_grouping; groups = ceil(K/group), 1 per channel */
    uint32_t scale_type; /* w4axk_scale_type */
    uint32_t scheme;     /* w4axk_scheme */
    uint32_t reserved;   /* 0 */
} w4axk_weight;

typedef struct w4axk_gemm_args {
    w4axk_weight weight;
    const void *x;     /* BF16 [M, K] aligned to 2, or quantized activations aligned to 128 (mode W4AXK_PACKED) */
    int64_t x_stride;  /* elements from row to row of BF16 x, at least K; otherwise ignored */
    void *y;           /* BF16 [M, N], aligned to 2; must not overlap an input */
    int64_t y_stride;  /* elements from row to row of y, at least N */
    const float *bias; /* F32 [N], aligned to 4, or null */
    void *workspace;   /* as many bytes as w4axk_plan_gemm reports, often 0; aligned to 128 */
    uint64_t workspace_bytes; /* size of the workspace */
    uint32_t m;
    uint32_t width;                        /* w4axk_width */
    uint32_t family;                       /* w4axk_family */
    uint32_t mode;                         /* w4axk_mode */
    uint32_t tile;                         /* 0: selected by shape; otherwise 1..w4axk_tile_count(family) */
    uint32_t flags;                        /* W4AXK_FLAG_* */
    int32_t device;                        /* ordinal of the device that all pointers and the stream belong to */
    uint32_t reserved;                     /* 0 */
    const struct w4axk_latch_state *latch; /* the state of width W4AXK_LATCHED; otherwise ignored */
} w4axk_gemm_args;

/* What w4axk_gemm does for given arguments. */
typedef struct w4axk_plan {
    uint64_t workspace_bytes;
    uint32_t family;   /* never W4AXK_AUTO */
    uint32_t mode;     /* W4AXK_FUSED or W4AXK_PACKED */
    uint32_t tile;     /* 1..; 1 for the plain family */
    uint32_t launches; /* 2 if quantize_pack first quantizes x into the workspace */
    uint32_t kernel;   /* index for w4axk_kernel_attributes */
    uint32_t tile_n;   /* output channels of a block */
    uint32_t tile_m;   /* tokens of a block */
    uint32_t blocks;   /* of the GEMM's grid */
    uint32_t slow_x;   /* 1: x is read by single elements, because its rows are not aligned: to 4 bytes for decode and
                        * quantize_pack; to 16 bytes for prefill, which also needs K % 8 == 0 */
    uint32_t slow_y;   /* 1: y is written by single elements, because its rows are not aligned to 16 bytes (prefill) */
} w4axk_plan;

typedef struct w4axk_quantize_args {
    const void *x;         /* BF16 [M, K], aligned to 2 */
    int64_t x_stride;      /* elements from row to row, at least K */
    void *packed;          /* w4axk_packed_bytes(m, k, width, group, family) bytes, aligned to 128; opaque, see
                            * kernels/common/layout.cuh */
    uint64_t packed_bytes; /* size of `packed` */
    uint32_t m;
    uint32_t k;
    uint32_t width;    /* 2, 4, 8 or W4AXK_LATCHED, which writes nothing in steps of 16 bits */
    uint32_t group;    /* w4axk_grouping of the weights that x is multiplied with; two-level: W4AXK_PER_CHANNEL */
    uint32_t family;   /* family of the GEMMs that read the output. All families but W4AXK_WGMMA share one layout;
                        * W4AXK_PLAIN does not read quantized activations */
    uint32_t flags;    /* W4AXK_FLAG_* */
    int32_t device;    /* ordinal of the device that all pointers and the stream belong to */
    uint32_t reserved; /* 0 */
    const struct w4axk_latch_state *latch; /* the state of width W4AXK_LATCHED; otherwise ignored */
} w4axk_quantize_args;

/* The width of the current step, for all its kernels. Device memory, aligned to 16. The owner initializes it to
 * {0 << 32 | 16, first sequence, 0} before the first launch in the stream's order. */
typedef struct w4axk_latch_state {
    uint64_t latched; /* sequence << 32 | width of the last latched step */
    uint32_t next;    /* the sequence of the next step */
    uint32_t reserved;
} w4axk_latch_state;

/* Begins a step: reads the flag once, decides the width of the step and advances the sequence. */
typedef struct w4axk_latch_args {
    w4axk_latch_state *state;
    const uint64_t *flag; /* the word that the host stores, sequence << 32 | width, at its device address: mapped host
                           * memory that is not write-combined, or device memory. Null with a forced width only */
    uint64_t *executed;   /* likewise, a word that the host reads: sequence << 32 | w4axk_outcome << 8 | width */
    uint64_t conditionals[4];   /* cudaGraphConditionalHandles of the graph that captures this launch */
    uint32_t conditional_count; /* 0: none. 1: conditionals[0] is set to 0, 1, 2, 3 for 2, 4, 8, 16 bits (a SWITCH
                                 * node). 4: each is set to 1 if its width runs, otherwise to 0 (IF nodes) */
    uint32_t spin_us;           /* microseconds to wait for this step's word; at most W4AXK_MAX_SPIN_US */
    uint32_t forced;   /* 0: the flag decides. 2, 4, 8, 16: the width that runs. W4AXK_LATCHED: for a further graph of
                        * the same step, only sets the conditionals to the latched width */
    uint32_t flags;    /* W4AXK_FLAG_* */
    int32_t device;    /* ordinal of the device that all pointers and the stream belong to */
    uint32_t reserved; /* 0 */
} w4axk_latch_args;

/* A kernel as it is loaded on a device. */
typedef struct w4axk_kernel_attributes_t {
    uint32_t family;         /* w4axk_family of a GEMM; W4AXK_AUTO for other kernels */
    uint32_t width;          /* the widest activations of the kernel; 4-bit kernels take 2-bit activations too */
    uint32_t mma;            /* w4axk_mma */
    uint32_t registers;      /* per thread */
    uint32_t static_shared;  /* bytes per block */
    uint32_t dynamic_shared; /* bytes per block, at most */
    uint32_t local;          /* bytes per thread: spills */
    uint32_t threads;        /* per block */
    uint32_t binary_version; /* architecture of the machine code, 10 * major + minor */
    uint32_t ptx_version;    /* architecture that the source was compiled for */
} w4axk_kernel_attributes_t;

/* ---- functions ---- */

/* Returns the W4AXK_ABI_VERSION of the library. */
uint32_t w4axk_abi_version(void);

/* Returns a description of a status: static, never null, also for unknown values. */
const char *w4axk_status_text(uint32_t status);

/* Returns the runtime's text for the last W4AXK_CUDA_ERROR of this thread: static, never null. */
const char *w4axk_last_cuda_error(void);

/* Counts the CUDA devices (host pointer). W4AXK_NO_DEVICE and a count of 0 if there are none. Needs no driver. */
w4axk_status w4axk_device_count(int32_t *count);

/* Retains the primary context of `device` for good, and loads the few kernels that show whether the build has code for
 * it. May synchronize, so it must not be called during a capture. Later calls do nothing. */
w4axk_status w4axk_preload(int32_t device);

/* Gets the w4axk_mma of the code that is loaded on `device` (host pointer). Preload first. */
w4axk_status w4axk_mma_of(int32_t device, uint32_t width, uint32_t family, uint32_t *mma);

/* Gets the size of quantized activations for a family; latched: the largest size (host pointer). */
w4axk_status w4axk_packed_bytes(uint32_t m, uint32_t k, uint32_t width, uint32_t group, uint32_t family,
                                uint64_t *bytes);

/* Checks the arguments and describes what w4axk_gemm would do (host pointers). Pointers in `args` other than x and y
 * may be null; of x and y only the alignment matters. Launches nothing and needs no device. */
w4axk_status w4axk_plan_gemm(const w4axk_gemm_args *args, w4axk_plan *plan);

/* Gets only the workspace_bytes of the plan. */
w4axk_status w4axk_workspace_bytes(const w4axk_gemm_args *args, uint64_t *bytes);

/* Launches the GEMM (host pointer to device pointers). */
w4axk_status w4axk_gemm(const w4axk_gemm_args *args, void *stream);

/* Quantizes x once for all GEMMs that read it at the same width and grouping in the same family. */
w4axk_status w4axk_quantize_pack(const w4axk_quantize_args *args, void *stream);

/* Launches the latch. Launches of width W4AXK_LATCHED with the same state run at this step's width, until the state's
 * next latch in the stream's order. Conditionals need a driver of CUDA 12.4. */
w4axk_status w4axk_latch(const w4axk_latch_args *args, void *stream);

/* ---- graphs that route themselves ----
 *
 * A step is captured in parts:
 *   w4axk_graph_create; w4axk_graph_conditionals;
 *   w4axk_graph_capture, the launches before the branch with the latch as the last, w4axk_graph_end_capture;
 *   w4axk_graph_add_conditionals;
 *   for each body: w4axk_graph_capture, the step at its width, w4axk_graph_end_capture, w4axk_graph_check_body;
 *   w4axk_graph_instantiate.
 * The caller destroys graphs and bodies, in any order. Two threads must not use one graph at the same time. */

typedef struct w4axk_graph w4axk_graph;

/* The conditional nodes that both the driver and this library support. */
typedef enum w4axk_nodes {
    W4AXK_NODES_NONE = 0,
    W4AXK_NODES_IF = 1,    /* CUDA 12.4 */
    W4AXK_NODES_SWITCH = 2 /* CUDA 12.8 */
} w4axk_nodes;
uint32_t w4axk_conditional_nodes(void);

w4axk_status w4axk_graph_create(int32_t device, w4axk_graph **graph);
void w4axk_graph_destroy(w4axk_graph *graph);

/* Creates the handles of a latch: 1 for W4AXK_NODES_SWITCH, 4 for W4AXK_NODES_IF. Each launch of the graph resets them
 * to BF16. */
w4axk_status w4axk_graph_conditionals(w4axk_graph *graph, uint32_t nodes, uint64_t handles[4]);

/* Until end_capture, what this thread enqueues on the stream is appended to the graph. */
w4axk_status w4axk_graph_capture(w4axk_graph *graph, void *stream);
w4axk_status w4axk_graph_end_capture(w4axk_graph *graph, void *stream);

/* Appends the branch to the graph, with empty bodies for 2, 4, 8 and 16 bits. */
w4axk_status w4axk_graph_add_conditionals(w4axk_graph *graph, uint32_t nodes, const uint64_t handles[4],
                                          w4axk_graph *bodies[4]);

/* Returns W4AXK_BAD_NODE and a cudaGraphNodeType if the body has a node that a conditional node does not support.
 * Supported are kernels, memsets, memcpys, child graphs, empty and conditional nodes, all in the device's primary
 * context. */
enum { W4AXK_OF_ANOTHER_CONTEXT = 256 }; /* added to the type */
w4axk_status w4axk_graph_check_body(const w4axk_graph *body, uint32_t *bad_type);

/* The executable remains valid after the graph is destroyed. */
w4axk_status w4axk_graph_instantiate(const w4axk_graph *graph, void **executable);
void w4axk_graph_exec_destroy(void *executable);
w4axk_status w4axk_graph_launch(int32_t device, void *executable, void *stream);

/* Returns the number of tile variants of a family: valid `tile` values are 1..count. 0 for an unknown family. */
uint32_t w4axk_tile_count(uint32_t family);

/* Returns the number of kernels in the library: valid indices are 0..count. */
uint32_t w4axk_kernel_count(void);

/* Returns the name of a kernel, such as "decode_a4_g128_fused_16x8": static; null if the index is out of range. */
const char *w4axk_kernel_name(uint32_t kernel);

/* Describes a kernel as it is loaded on `device` (host pointer), and loads it if it is not. Preload first. */
w4axk_status w4axk_kernel_attributes(int32_t device, uint32_t kernel, w4axk_kernel_attributes_t *attributes);

#ifdef __cplusplus
}
#endif
#endif
