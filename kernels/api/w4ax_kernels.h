/* The private C ABI between the CUDA kernels of this folder and the Rust side, which binds it with bindgen.
 *
 * A GEMM computes y[M, N] = x[M, K] * W[N, K]^T + bias[N] with the arithmetic of src/numerics.rs, bit for bit.
 *
 * Conventions
 * - Plain C. No function crashes for a null pointer or a wrong number: it returns a status, and w4axk_status_text says
 *   what it means. Enumerations travel as uint32_t, so that an unknown value is a status as well.
 * - Pointers in the argument structures are device pointers of the device named there, except where "host" is written.
 *   The caller owns all memory; nothing is kept after the stream has passed the launch, nothing is allocated.
 * - `stream` is a cudaStream_t (a CUstream is the same). Functions that take one only launch: they never synchronize, and
 *   they can be captured into a graph. The stream must belong to the primary context of `device`, which is made current for
 *   the call and restored after it.
 * - w4axk_preload must have returned W4AXK_OK for a device before the first launch on it: loading a kernel may synchronize.
 * - Functions may be called from several threads. Launches that share a workspace must be ordered by their streams. */
#ifndef W4AX_KERNELS_H
#define W4AX_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a structure or a meaning below changes. */
#define W4AXK_ABI_VERSION 4u

/* ---- numbers ---- */

typedef enum w4axk_status {
    W4AXK_OK = 0,
    W4AXK_NULL_POINTER = 1,         /* a pointer that must not be null is */
    W4AXK_BAD_SHAPE = 2,            /* M, N or K is 0 or over W4AXK_MAX_EXTENT, or the grid has more than 2^31 - 1 blocks */
    W4AXK_BAD_STRIDE = 3,           /* a row stride is shorter than its row or over W4AXK_MAX_STRIDE */
    W4AXK_BAD_WIDTH = 4,            /* not 2, 4, 8, 16 or W4AXK_LATCHED (16 is not quantized, so not packed) */
    W4AXK_BAD_GROUPING = 5,         /* not 32, 64, 128 or 0 */
    W4AXK_BAD_SCALE_TYPE = 6,
    W4AXK_BAD_FAMILY = 7,           /* unknown, or decode with more than W4AXK_DECODE_MAX_M tokens */
    W4AXK_BAD_MODE = 8,             /* unknown, packed with 16 bits, fused where a latched width is packed first; wgmma: fused
                                     * with fewer bits, or latched */
    W4AXK_BAD_TILE = 9,             /* no such tile variant in this family */
    W4AXK_BAD_FLAGS = 10,           /* unknown flag bits, or a reserved field that is not 0 */
    W4AXK_MISALIGNED = 11,          /* a pointer is not aligned as its field requires */
    W4AXK_K_TOO_LARGE = 12,         /* per-channel weights with K over W4AXK_MAX_CHANNEL_K: 32-bit sums could overflow */
    W4AXK_WORKSPACE_TOO_SMALL = 13, /* the workspace (or the packed output) is null or shorter than its size function says */
    W4AXK_NO_DEVICE = 14,           /* no CUDA device, or no driver */
    W4AXK_BAD_DEVICE = 15,          /* no device of that number */
    W4AXK_DRIVER_TOO_OLD = 16,      /* the driver is older than the runtime that the kernels are linked with */
    W4AXK_NO_KERNEL_IMAGE = 17,     /* the build holds no code for this device's architecture */
    W4AXK_NOT_PRELOADED = 18,       /* w4axk_preload has not been called for this device */
    W4AXK_WRONG_CONTEXT = 19,       /* the stream is not of the device's primary context */
    W4AXK_BAD_NODE = 21,            /* a graph's body holds a node that a conditional node cannot run */
    W4AXK_CUDA_ERROR = 20           /* any other error of the runtime: see w4axk_last_cuda_error */
} w4axk_status;

/* Activation bits. W4AXK_BF16 leaves the activations as they are. W4AXK_LATCHED is the width that the latch holds when the
 * kernel runs: a routed kernel has the code of all four and branches on it. */
typedef enum w4axk_width {
    W4AXK_A2 = 2,
    W4AXK_A4 = 4,
    W4AXK_A8 = 8,
    W4AXK_BF16 = 16,
    W4AXK_LATCHED = 255
} w4axk_width;

typedef enum w4axk_scale_type { W4AXK_SCALE_F32 = 0, W4AXK_SCALE_F16 = 1, W4AXK_SCALE_BF16 = 2 } w4axk_scale_type;

/* k that share a weight scale. Activations are quantized over the same groups; over the whole row per channel. */
typedef enum w4axk_grouping {
    W4AXK_PER_CHANNEL = 0,
    W4AXK_G32 = 32,
    W4AXK_G64 = 64,
    W4AXK_G128 = 128
} w4axk_grouping;

/* What multiplies: the instruction that the loaded code really holds. */
typedef enum w4axk_mma {
    W4AXK_MMA_NONE = 0,  /* the plain kernel: scalar code */
    W4AXK_MMA_S4 = 1,    /* mma.m16n8k64 (k32 for groups of 32) s4 x u4 -> s32 */
    W4AXK_MMA_S8 = 2,    /* mma.m16n8k32 s8 x u8 -> s32 */
    W4AXK_MMA_BF16 = 3,  /* mma.m16n8k16 bf16 x bf16 -> f32 */
    W4AXK_MMA_ROUTED = 4, /* a routed kernel: the ones that its family's kernels of each width have */
    W4AXK_MMA_WGMMA_S8 = 5,  /* wgmma.m64nNk32 s8 x u8 -> s32 */
    W4AXK_MMA_WGMMA_BF16 = 6 /* wgmma.m64nNk16 bf16 x bf16 -> f32 */
} w4axk_mma;

typedef enum w4axk_family {
    W4AXK_AUTO = 0,    /* picked from the shape by the table that w4axk_plan_gemm shows */
    W4AXK_DECODE = 1,  /* M up to W4AXK_DECODE_MAX_M: streams the weights past the tokens */
    W4AXK_PREFILL = 2, /* any M */
    W4AXK_PLAIN = 3,   /* any M: one thread an output, slow and obvious; the oracle of the others */
    W4AXK_WGMMA = 4    /* any M, on sm_90 with code for sm_90a: TMA and wgmma. Quantizes nothing itself; rows of BF16 activations
                        * that are not quantized are aligned to 16 bytes */
} w4axk_family;

typedef enum w4axk_mode {
    W4AXK_MODE_AUTO = 0, /* x is BF16; the table picks fused, or quantize_pack into the workspace and then packed */
    W4AXK_FUSED = 1,     /* x is BF16; one launch, which quantizes what it reads */
    W4AXK_PACKED = 2     /* x is what w4axk_quantize_pack wrote for the same M, K, width and grouping. Latched: x is BF16,
                          * for the steps that leave it so, and what was written is the workspace */
} w4axk_mode;

enum {
    /* Programmatic dependent launch: the kernel may start while the launch before it in the stream still runs; until that
     * one is complete it reads weights only. The launch before it must not write weights. No effect below sm_90, nor in a
     * body that w4axk_graph_capture captures. */
    W4AXK_FLAG_PDL = 1
};

/* How a step came by its width. All but the first and the last are BF16. */
typedef enum w4axk_outcome {
    W4AXK_AS_ASKED = 0,  /* the flag's word was this step's */
    W4AXK_UNWRITTEN = 1, /* the word was never written, or taken back */
    W4AXK_INVALID = 2,   /* the word has a width that there is not */
    W4AXK_EARLIER = 3,   /* the word is an earlier step's: no decision for this one, or one that came too late */
    W4AXK_LATER = 4,     /* the word is a later step's: this one's sequence was left out */
    W4AXK_BY_HOST = 5    /* the host chose, and the flag was not read */
} w4axk_outcome;

enum {
    W4AXK_DECODE_MAX_M = 16,
    W4AXK_MAX_CHANNEL_K = 65536,
    W4AXK_MAX_EXTENT = 8388608, /* of M, N and K */
    W4AXK_MAX_SPIN_US = 1000000,
    W4AXK_MAX_STRIDE = 536870912 /* of x and y, in elements */
};

/* ---- structures ---- */

/* INT4 weights [N, K] as PackedWeight holds them, on a device. Rows and k beyond N and K hold 0. */
typedef struct w4axk_weight {
    const void *tiles;   /* [ceil(N/16)][ceil(K/64)] tiles of 512 bytes; aligned to 128 */
    const void *scales;  /* [ceil(N/16)][groups][16] of scale_type; aligned to 16 */
    const int8_t *zeros; /* as scales, in [-8, 8]; aligned to 16; null when symmetric */
    const void *sums;    /* as scales: sum(qw - zw) over each group's valid k, int16_t (int32_t per channel); aligned to 16 */
    uint32_t n;
    uint32_t k;
    uint32_t group;      /* w4axk_grouping; groups = ceil(K/group), 1 per channel */
    uint32_t scale_type; /* w4axk_scale_type */
} w4axk_weight;

typedef struct w4axk_gemm_args {
    w4axk_weight weight;
    const void *x;            /* BF16 [M, K] aligned to 2, or packed activations aligned to 128 (mode W4AXK_PACKED) */
    int64_t x_stride;         /* elements from row to row of x, at least K; ignored when packed */
    void *y;                  /* BF16 [M, N], aligned to 2; must not overlap an input */
    int64_t y_stride;         /* elements from row to row of y, at least N */
    const float *bias;        /* f32 [N], aligned to 4, or null */
    void *workspace;          /* w4axk_plan_gemm says how many bytes (often 0); aligned to 128 */
    uint64_t workspace_bytes;
    uint32_t m;
    uint32_t width;           /* w4axk_width */
    uint32_t family;          /* w4axk_family */
    uint32_t mode;            /* w4axk_mode */
    uint32_t tile;            /* 0: picked from the shape; else 1..w4axk_tile_count(family) */
    uint32_t flags;           /* W4AXK_FLAG_* */
    int32_t device;           /* ordinal of the device that all pointers and the stream belong to */
    uint32_t reserved;        /* 0 */
    const struct w4axk_latch_state *latch; /* width W4AXK_LATCHED: what says it; else ignored */
} w4axk_gemm_args;

/* What w4axk_gemm does for given arguments. */
typedef struct w4axk_plan {
    uint64_t workspace_bytes;
    uint32_t family;       /* never W4AXK_AUTO */
    uint32_t mode;         /* W4AXK_FUSED or W4AXK_PACKED */
    uint32_t tile;         /* 1..; 1 for the plain family */
    uint32_t launches;     /* 2 if x goes through quantize_pack in the workspace first */
    uint32_t kernel;       /* index for w4axk_kernel_attributes */
    uint32_t tile_n;       /* output channels of a block */
    uint32_t tile_m;       /* tokens of a block */
    uint32_t blocks;       /* of the GEMM's grid */
    uint32_t slow_x;       /* 1: x is read by single elements: its rows are not aligned (to 4 bytes in the
                            * decode family and for quantize_pack; to 16 in the prefill family, and K a multiple of 8) */
    uint32_t slow_y;       /* 1: y is written by single elements: its rows are not aligned to 16 bytes (prefill) */
} w4axk_plan;

typedef struct w4axk_quantize_args {
    const void *x;         /* BF16 [M, K], aligned to 2 */
    int64_t x_stride;      /* elements from row to row, at least K */
    void *packed;          /* w4axk_packed_bytes(m, k, width, group, family) bytes, aligned to 128; opaque, see kernels/common/layout.cuh */
    uint64_t packed_bytes; /* what there is at `packed` */
    uint32_t m;
    uint32_t k;
    uint32_t width;        /* 2, 4, 8, or latched: then nothing is written in steps of 16 bits */
    uint32_t group;        /* w4axk_grouping: that of the weights it will meet */
    uint32_t family;       /* W4AXK_WGMMA: of the GEMMs that will read it; any other but W4AXK_PLAIN: of decode and prefill,
                            * which read the same */
    uint32_t flags;        /* W4AXK_FLAG_* */
    int32_t device;
    uint32_t reserved;     /* 0 */
    const struct w4axk_latch_state *latch; /* width W4AXK_LATCHED: what says it; else ignored */
} w4axk_quantize_args;

/* The width of the step that runs, for all its kernels. Device memory, aligned to 16; the owner sets it to
 * {0 << 32 | 16, first sequence, 0} once, and orders that before the first launch. */
typedef struct w4axk_latch_state {
    uint64_t latched;     /* sequence << 32 | width of the last step that was latched */
    uint32_t next;        /* the sequence of the next one */
    uint32_t reserved;
} w4axk_latch_state;

/* Begins a step: reads the flag once, decides the width of the step and counts it. */
typedef struct w4axk_latch_args {
    w4axk_latch_state *state;
    const uint64_t *flag;  /* the word that the host stores, sequence << 32 | width, as the device sees it; host memory that is
                            * mapped and not write-combined, or the device's own. Null with a `forced` width only */
    uint64_t *executed;    /* likewise a word for the host to read: sequence << 32 | w4axk_outcome << 8 | width */
    uint64_t conditionals[4]; /* cudaGraphConditionalHandles of the graph that this launch is captured into, see below */
    uint32_t conditional_count; /* 0: none. 1: conditionals[0] is set to 0, 1, 2, 3 for 2, 4, 8, 16 bits (a SWITCH node). 4:
                                 * each is set to 1 if its width runs, else to 0 (IF nodes) */
    uint32_t spin_us;      /* wait for this step's word as long as this, in microseconds; at most W4AXK_MAX_SPIN_US */
    uint32_t forced;       /* 0; the width that runs whatever the flag says; or W4AXK_LATCHED, for a further graph of the same
                            * step: sets conditionals to what is latched, and does nothing else */
    uint32_t flags;        /* W4AXK_FLAG_* */
    int32_t device;
    uint32_t reserved;     /* 0 */
} w4axk_latch_args;

/* A kernel as it is loaded on a device. */
typedef struct w4axk_kernel_attributes_t {
    uint32_t family;         /* W4AXK_DECODE, W4AXK_PREFILL, W4AXK_PLAIN; W4AXK_AUTO for quantize_pack */
    uint32_t width;          /* the widest activations that it takes (the 4-bit kernels take 2-bit ones too) */
    uint32_t mma;            /* w4axk_mma */
    uint32_t registers;      /* of a thread */
    uint32_t static_shared;  /* bytes of a block */
    uint32_t dynamic_shared; /* bytes of a block, at most */
    uint32_t local;          /* bytes of a thread: spills */
    uint32_t threads;        /* of a block */
    uint32_t binary_version; /* architecture of the machine code, 10*major + minor */
    uint32_t ptx_version;    /* architecture that the source was compiled for */
} w4axk_kernel_attributes_t;

/* ---- functions ---- */

/* W4AXK_ABI_VERSION of the library. */
uint32_t w4axk_abi_version(void);

/* One sentence in English, static, never null, for unknown values too. */
const char *w4axk_status_text(uint32_t status);

/* The runtime's text for the last W4AXK_CUDA_ERROR of this thread; static, never null. */
const char *w4axk_last_cuda_error(void);

/* How many CUDA devices there are (host pointer). W4AXK_NO_DEVICE and a count of 0 where there is none. Needs no driver. */
w4axk_status w4axk_device_count(int32_t *count);

/* Loads every kernel on `device`, takes its primary context (and keeps it) and raises shared memory limits. May
 * synchronize; call it when nothing is being captured. Later calls do nothing. */
w4axk_status w4axk_preload(int32_t device);

/* The instruction that the code loaded on `device` multiplies with (host pointer). Preload first. */
w4axk_status w4axk_mma_of(int32_t device, uint32_t width, uint32_t family, uint32_t *mma);

/* Bytes that packed activations take for that family; latched: at most (host pointer). */
w4axk_status w4axk_packed_bytes(uint32_t m, uint32_t k, uint32_t width, uint32_t group, uint32_t family, uint64_t *bytes);

/* Checks the arguments and says what w4axk_gemm would do (host pointers). Pointers in `args` other than x, y and the strides
 * may be null here; x and y count for their alignment only. Launches nothing and needs no device. */
w4axk_status w4axk_plan_gemm(const w4axk_gemm_args *args, w4axk_plan *plan);

/* w4axk_plan's workspace_bytes alone. */
w4axk_status w4axk_workspace_bytes(const w4axk_gemm_args *args, uint64_t *bytes);

/* Launches the GEMM (host pointer to device pointers). */
w4axk_status w4axk_gemm(const w4axk_gemm_args *args, void *stream);

/* Launches the quantization of x, once for all GEMMs that read the same x with the same width, grouping and family. */
w4axk_status w4axk_quantize_pack(const w4axk_quantize_args *args, void *stream);

/* Launches the latch. Whatever is launched with the width W4AXK_LATCHED and the same state, from here to the
 * state's next latch in the stream's order, runs at this step's width. Conditionals need a driver of 12.4. */
w4axk_status w4axk_latch(const w4axk_latch_args *args, void *stream);

/* ---- graphs that route themselves ----
 *
 * A step is captured in parts: create; conditionals; capture, what comes before the branch with the latch as its last,
 * end_capture; add_conditionals; each body: capture, the step at its width, end_capture, check_body; instantiate. Objects are
 * the caller's to destroy, bodies too (before or after their graph). No graph may be used by two threads at once. */

typedef struct w4axk_graph w4axk_graph;

/* Which conditional nodes the driver and this library both know. */
typedef enum w4axk_nodes {
    W4AXK_NODES_NONE = 0,
    W4AXK_NODES_IF = 1,    /* CUDA 12.4 */
    W4AXK_NODES_SWITCH = 2 /* CUDA 12.8 */
} w4axk_nodes;
uint32_t w4axk_conditional_nodes(void);

w4axk_status w4axk_graph_create(int32_t device, w4axk_graph **graph);
void w4axk_graph_destroy(w4axk_graph *graph);

/* Handles for a latch: 1 for W4AXK_NODES_SWITCH, 4 for W4AXK_NODES_IF. At each launch of the graph they say BF16. */
w4axk_status w4axk_graph_conditionals(w4axk_graph *graph, uint32_t nodes, uint64_t handles[4]);

/* From here to end_capture, what this thread enqueues on the stream goes into the graph, after all that is in it. */
w4axk_status w4axk_graph_capture(w4axk_graph *graph, void *stream);
w4axk_status w4axk_graph_end_capture(w4axk_graph *graph, void *stream);

/* Adds the branch after all that is in the graph: bodies for 2, 4, 8 and 16 bits, empty yet. */
w4axk_status w4axk_graph_add_conditionals(w4axk_graph *graph, uint32_t nodes, const uint64_t handles[4], w4axk_graph *bodies[4]);

/* W4AXK_BAD_NODE, and its cudaGraphNodeType, if the body holds what a conditional node cannot run: anything but kernels,
 * memsets, memcpys, child graphs, empty and conditional nodes, all of the device's primary context. */
enum { W4AXK_OF_ANOTHER_CONTEXT = 256 }; /* added to the type */
w4axk_status w4axk_graph_check_body(const w4axk_graph *body, uint32_t *bad_type);

/* The executable outlives the graph. */
w4axk_status w4axk_graph_instantiate(const w4axk_graph *graph, void **executable);
void w4axk_graph_exec_destroy(void *executable);
w4axk_status w4axk_graph_launch(int32_t device, void *executable, void *stream);

/* Tile variants of a family: valid `tile` values are 1..count. 0 for an unknown family. */
uint32_t w4axk_tile_count(uint32_t family);

/* Kernels in the library: indices below this are valid. */
uint32_t w4axk_kernel_count(void);

/* Name of a kernel, such as "decode_a4_g128_fused_16x8"; static; null beyond the last. */
const char *w4axk_kernel_name(uint32_t kernel);

/* How a kernel is loaded on `device` (host pointer). Preload first. */
w4axk_status w4axk_kernel_attributes(int32_t device, uint32_t kernel, w4axk_kernel_attributes_t *attributes);

#ifdef __cplusplus
}
#endif
#endif
