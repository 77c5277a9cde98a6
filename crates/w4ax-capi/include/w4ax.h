/* w4ax: mixed-precision W4AX inference. INT4 weights that stay packed, activations at 2, 4, 8 or 16 bits, and the decision
 * which of them, taken at every control step from the robot's own motion.
 *
 *     plain or INT4 values -> w4ax_weight ----------------------+
 *                                                               v
 *     actions -> w4ax_dispatcher -> w4ax_flag -> width -> w4ax_cpu_gemm -> y
 *                                                               ^
 *     x (BF16) -------------------------------------------------+
 *
 * w4ax_gpu.h has the same GEMM on NVIDIA GPUs.
 *
 * Conventions
 * - Plain C99; C++ takes it as it is. Link libw4ax.a (with the system libraries that scripts/build-capi prints) or
 *   libw4ax.so.
 * - Every function that can fail returns a w4ax_status and says more in w4ax_last_error. A null or misaligned pointer, a
 *   wrong shape, an unknown width or enumeration value is a status, never a crash. No panic or exception leaves this library.
 *   After a failure an output structure or number holds what it held before, and a handle that was to be made is NULL;
 *   where an output buffer may be half written, the function says so.
 * - Enumerations travel as uint32_t: an unknown value is W4AX_BAD_ENUM (W4AX_BAD_WIDTH for a width).
 * - A buffer is a pointer and a count of ELEMENTS of its type. It may be longer than needed where not said otherwise;
 *   a shorter one is W4AX_BUFFER_TOO_SMALL. A null pointer with a count of 0 is an empty buffer.
 * - Matrices are row-major. A stride is the distance of two rows in elements, at least the columns; 0 stands for dense rows.
 *   A matrix [rows, cols] spans (rows - 1) * stride + cols elements; what lies between the rows is neither read nor written.
 * - BF16 and F16 are uint16_t that hold the bits. Pointers are aligned to the size of their element (handles and structures:
 *   as the C compiler aligns them); more is not needed.
 * - Argument structures: set all of it to 0 (memset, or = {0}), then fill in. Reserved fields must be 0.
 *
 * Ownership
 * - A handle that a function writes to an output parameter is the caller's, to be ended once with its _free function;
 *   NULL does nothing there. Handles share what they need: any order of freeing is right, and a weight may be freed as
 *   soon as no call uses it, though the file that it came from or went into lives on.
 * - Buffers are read and written during the call only. Nothing of the caller's is kept, but a w4ax_pool's functions.
 * - Strings that this library returns are NUL-terminated and its own: never free them.
 *
 * Threads
 * - w4ax_weight, w4ax_order, w4ax_file and w4ax_cpu may be used by several threads at once. A w4ax_workspace and a w4ax_dispatcher serve
 *   one call at a time; a second one at the same time is W4AX_BUSY. A w4ax_flag is lock-free.
 * - Freeing a handle while a call uses it, or twice, is undefined, as it is with free().
 * - This library starts threads only where a parameter says how many. They have ended when the call returns, those of a
 *   w4ax_cpu when w4ax_cpu_free does.
 *
 * Streams
 * - Every function of this header runs on the host: when it returns, its work is done. Those of w4ax_gpu.h that take a
 *   stream only enqueue on it. */
#ifndef W4AX_H
#define W4AX_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- version ---- */

#define W4AX_VERSION_MAJOR 0
#define W4AX_VERSION_MINOR 1
#define W4AX_VERSION_PATCH 0

/* Major, minor and patch in bits 31..24, 23..16 and 15..0. Before 1.0 each minor version may change this header. */
#define W4AX_VERSION                                                                                                             \
    (((uint32_t)W4AX_VERSION_MAJOR << 24) | ((uint32_t)W4AX_VERSION_MINOR << 16) | (uint32_t)W4AX_VERSION_PATCH)

/* W4AX_VERSION of the library that runs. Compare it with the header's. */
uint32_t w4ax_version(void);

/* The same as text, such as "0.1.0"; static. */
const char *w4ax_version_text(void);

/* ---- status ---- */

typedef uint32_t w4ax_status;
enum {
    W4AX_OK = 0,
    W4AX_NULL_POINTER = 1,     /* a pointer that must not be null is */
    W4AX_BAD_WIDTH = 2,        /* not 2, 4, 8 or 16 */
    W4AX_BAD_SHAPE = 3,        /* shapes that do not fit together or are not possible; a stride shorter than its row */
    W4AX_BUFFER_TOO_SMALL = 4, /* a buffer or workspace is too small for the shape */
    W4AX_MISALIGNED = 5,       /* a pointer is not aligned as its type requires */
    W4AX_OVERLAP = 6,          /* an output overlaps an input */
    W4AX_BAD_ENUM = 7,         /* no such value, or a reserved field that is not 0 */
    W4AX_NOT_FINITE = 8,       /* NaN or an infinity where there must be none */
    W4AX_OUT_OF_RANGE = 9,     /* a value or a count outside its range */
    W4AX_BAD_TEXT = 10,        /* a string is not UTF-8 */
    W4AX_NOT_FOUND = 11,       /* no such name or index */
    W4AX_BAD_FORMAT = 12,      /* a file is truncated, foreign, newer or inconsistent */
    W4AX_IO = 13,              /* reading or writing a file failed */
    W4AX_NO_BACKEND = 14,      /* this machine or build has it not */
    W4AX_BAD_CONFIG = 15,      /* a field of a configuration is outside its range */
    W4AX_OUT_OF_MEMORY = 16,
    W4AX_BUSY = 17,            /* another thread is using this handle */
    W4AX_THREADS = 18,         /* threads could not be started, or a w4ax_pool broke its contract */
    W4AX_INTERNAL = 19,        /* a defect of this library; outputs are undefined. Please report it */
    W4AX_NO_DRIVER = 20,       /* there is no CUDA driver on this machine */
    W4AX_NO_DEVICE = 21,       /* there is no CUDA device, or none of that number */
    W4AX_DRIVER_TOO_OLD = 22,  /* the CUDA driver is older than the kernels need */
    W4AX_WRONG_PLACE = 23,     /* something of another device or context than the call's */
    W4AX_CUDA_FAILED = 24      /* a call of CUDA failed; the text has CUDA's words */
};

/* What a status means, in English; static, never null, for unknown values too. */
const char *w4ax_status_text(w4ax_status status);

/* What was wrong in the last call of this thread that failed, with names and numbers; "" if none has. Never null. Valid until
 * the next failing call of this thread, or its end. Calls that succeed leave it alone. */
const char *w4ax_last_error(void);

/* ---- numbers ---- */

/* How wide the activations of a GEMM are, in bits. W4AX_BF16 leaves them as they are: the width that is always safe. */
typedef uint32_t w4ax_width;
enum { W4AX_A2 = 2, W4AX_A4 = 4, W4AX_A8 = 8, W4AX_BF16 = 16 };

/* k that share a weight scale, and a scale of the activations: 32, 64, 128, or all of K. */
typedef uint32_t w4ax_grouping;
enum { W4AX_PER_CHANNEL = 0, W4AX_G32 = 32, W4AX_G64 = 64, W4AX_G128 = 128 };

/* The type of an element: IEEE binary32, IEEE binary16 or bfloat16. */
typedef uint32_t w4ax_type;
enum { W4AX_TYPE_F32 = 0, W4AX_TYPE_F16 = 1, W4AX_TYPE_BF16 = 2 };

enum {
    W4AX_MAX_THREADS = 1024,        /* of any call or pool */
    W4AX_MAX_PER_CHANNEL_K = 65536, /* of a weight with W4AX_PER_CHANNEL; else K is not limited */
    W4AX_ACTION_DIM = 7,            /* numbers of an action */
    W4AX_MAX_WINDOW = 256           /* actions of a dispatcher's window */
};

/* ---- weights ---- */

/* W[N, K] in INT4, like the weight of a linear layer: N output channels, K inputs. A value is (q - zero) * scale with q in
 * [-8, 7], a zero point in [-8, 8] (0 when symmetric), and a scale for each channel and group along K; there are
 * groups = ceil(K / grouping) of them, one per channel with W4AX_PER_CHANNEL; the last may be short. Any N and K from 1 on.
 * Never changes once it is made. */
typedef struct w4ax_weight w4ax_weight;

typedef uint32_t w4ax_symmetry;
enum {
    W4AX_SYMMETRIC = 0, /* scale = absmax / 7, no zero points */
    W4AX_ASYMMETRIC = 1 /* scale = (max(0, highest) - min(0, lowest)) / 15, and a zero point */
};

/* A plain weight to quantize, round to nearest. */
typedef struct w4ax_quantize_args {
    const void *w;            /* [n, k] of w_type, finite */
    size_t w_len;
    size_t w_stride;
    size_t n;
    size_t k;
    w4ax_type w_type;
    w4ax_grouping grouping;
    w4ax_symmetry symmetry;
    w4ax_type scale_type;     /* W4AX_TYPE_BF16 has the range of F32; F16 overflows to W4AX_OUT_OF_RANGE */
    uint32_t threads;         /* for this call: 0 for one a core, at most W4AX_MAX_THREADS */
    uint32_t reserved;
} w4ax_quantize_args;

/* Quantizes and packs. W4AX_NOT_FINITE for a NaN or an infinity in w. */
w4ax_status w4ax_weight_quantize(const w4ax_quantize_args *args, w4ax_weight **weight);

/* INT4 values that are quantized already, as a checkpoint holds them. */
typedef struct w4ax_pack_args {
    const int8_t *q;          /* [n, k], in [-8, 7] */
    size_t q_len;
    size_t q_stride;
    const void *scales;       /* dense [n, groups] of scale_type, finite */
    size_t scales_len;        /* n * groups, exactly */
    const int8_t *zeros;      /* dense [n, groups], in [-8, 8]; null when symmetric */
    size_t zeros_len;         /* n * groups, exactly; 0 when symmetric */
    size_t n;
    size_t k;
    w4ax_grouping grouping;
    w4ax_type scale_type;
    uint32_t threads;         /* as in w4ax_quantize_args */
    uint32_t reserved;
} w4ax_pack_args;

/* Packs without rounding anything: w4ax_weight_unpack gives the same bits back. */
w4ax_status w4ax_weight_pack(const w4ax_pack_args *args, w4ax_weight **weight);

typedef struct w4ax_weight_info {
    size_t n;
    size_t k;
    size_t groups;
    size_t bytes;             /* of the packed values, scales and zero points, padding included */
    w4ax_grouping grouping;
    w4ax_symmetry symmetry;
    w4ax_type scale_type;
    uint32_t reserved;
} w4ax_weight_info;

w4ax_status w4ax_weight_get_info(const w4ax_weight *weight, w4ax_weight_info *info);

/* (q - zero) * scale, rounded once to f32, dense [n, k]. */
w4ax_status w4ax_weight_dequantize(const w4ax_weight *weight, float *w, size_t w_len);

/* What w4ax_weight_pack takes: q dense [n, k], scales dense [n, groups] of the weight's scale_type, zeros dense [n, groups] (all
 * 0 when symmetric). Each is left out where its pointer is null and its count 0. Nothing is written if one is refused. */
w4ax_status w4ax_weight_unpack(const w4ax_weight *weight, int8_t *q, size_t q_len, void *scales, size_t scales_len,
                               int8_t *zeros, size_t zeros_len);

void w4ax_weight_free(w4ax_weight *weight);

/* ---- weights in another order of k ---- */

/* A checkpoint that was quantized in the order of its activations (GPTQ's desc_act) is packed in the order of its groups: number
 * i of the order says which k of the matrix stands at i. A GEMM with such a weight takes x in the same order: gather it, then
 * multiply as with any other. Never changes once it is made. */
typedef struct w4ax_order w4ax_order;

/* The order of those k: each of 0..k once, else W4AX_OUT_OF_RANGE. They are copied. */
w4ax_status w4ax_order_create(const uint32_t *ks, size_t k, w4ax_order **order);

w4ax_status w4ax_order_k(const w4ax_order *order, size_t *k);

/* The k, as w4ax_order_create takes them; room for `k` of them, at least the order's. */
w4ax_status w4ax_order_get(const w4ax_order *order, uint32_t *ks, size_t k);

/* gathered[m, i] = x[m, order[i]] */
typedef struct w4ax_gather_args {
    const uint16_t *x;        /* BF16 [m, k] */
    size_t x_len;
    size_t x_stride;
    uint16_t *gathered;       /* BF16 [m, k]; what it spans does not overlap x */
    size_t gathered_len;
    size_t gathered_stride;
    size_t m;                 /* tokens; 0 is allowed and does nothing */
    size_t k;                 /* that of the order */
} w4ax_gather_args;

/* Brings activations into the order. Allocates nothing. After a failure `gathered` is as it was. */
w4ax_status w4ax_order_gather(const w4ax_order *order, const w4ax_gather_args *args);

void w4ax_order_free(w4ax_order *order);

/* ---- files ---- */

/* Named weights, as one safetensors file of this library holds them. Paths and names are UTF-8. */
typedef struct w4ax_file w4ax_file;

/* A file without weights, in memory. */
w4ax_status w4ax_file_create(w4ax_file **file);

/* Reads a file that w4ax_file_save wrote, or one converted from a checkpoint: its weights, those whose k are in another order
 * too. `threads` as in w4ax_quantize_args. */
w4ax_status w4ax_file_load(const char *path, uint32_t threads, w4ax_file **file);

/* Writes all weights: whole or not at all, through a temporary name beside `path`. */
w4ax_status w4ax_file_save(const w4ax_file *file, const char *path);

/* Names a weight, in place of one that had the name. Both handles stay the caller's; the values are shared, not copied. */
w4ax_status w4ax_file_insert(w4ax_file *file, const char *name, const w4ax_weight *weight);

w4ax_status w4ax_file_count(const w4ax_file *file, size_t *count);

/* The name of weight `index`, below the count, in ascending order of their bytes. Valid until w4ax_file_free. */
w4ax_status w4ax_file_name(const w4ax_file *file, size_t index, const char **name);

/* A handle of its own to the weight of that name, to be freed; the values are shared, not copied. W4AX_BAD_FORMAT for one whose k
 * are in another order: a GEMM with x as it is would be wrong, so it is w4ax_file_get_act_order's to give. */
w4ax_status w4ax_file_get(const w4ax_file *file, const char *name, w4ax_weight **weight);

/* The same for a weight of either kind, with its order of k: NULL in *order where its k are in the matrix's own, else a handle
 * to be freed. */
w4ax_status w4ax_file_get_act_order(const w4ax_file *file, const char *name, w4ax_weight **weight, w4ax_order **order);

/* As w4ax_file_insert, for a weight whose k are in that order, which is of the weight's K (else W4AX_BAD_SHAPE). */
w4ax_status w4ax_file_insert_act_order(w4ax_file *file, const char *name, const w4ax_weight *weight, const w4ax_order *order);

void w4ax_file_free(w4ax_file *file);

/* ---- the CPU backend ---- */

/* An instruction set and who runs the pieces of a call. All instruction sets give the same bits. */
typedef struct w4ax_cpu w4ax_cpu;

/* A piece of a call, this library's: call it as piece(argument, number). It does not throw. */
typedef void (*w4ax_piece)(void *argument, uint32_t piece);

/* The caller's threads. */
typedef struct w4ax_pool {
    /* Calls piece(argument, i) once for each i below `pieces`, on any threads in any order, and returns when all have returned;
     * `piece` and `argument` are not used after that. May be called by several threads at once; must not throw. A piece that
     * is left out, run twice or not there is W4AX_THREADS. */
    void (*run)(void *context, uint32_t pieces, w4ax_piece piece, void *argument);
    void *context;            /* handed to `run` */
    uint32_t threads;         /* how many pieces to cut a call into, 1 to W4AX_MAX_THREADS */
    uint32_t reserved;
} w4ax_pool;

/* `isa` is "scalar", "avx2", "avx512vnni" or "avx512bf16", W4AX_NO_BACKEND where the machine has it not; null for what the
 * environment variable W4AX_CPU names, else the best one here. `threads`: 1 works in the calling thread, more are started and
 * kept until w4ax_cpu_free, 0 stands for one a core. */
w4ax_status w4ax_cpu_create(const char *isa, uint32_t threads, w4ax_cpu **cpu);

/* The same on the caller's threads. `pool` itself is copied; its context must live until w4ax_cpu_free. */
w4ax_status w4ax_cpu_create_with_pool(const char *isa, const w4ax_pool *pool, w4ax_cpu **cpu);

/* The name of the instruction set that really runs; static. */
w4ax_status w4ax_cpu_isa(const w4ax_cpu *cpu, const char **isa);

w4ax_status w4ax_cpu_threads(const w4ax_cpu *cpu, uint32_t *threads);

/* Frees the backend. Not while a call runs, and not from a piece of one. */
void w4ax_cpu_free(w4ax_cpu *cpu);

/* The scratch memory of calls, so that they allocate nothing (but on a w4ax_cpu of several threads of its own, called from outside
 * of them: a few bytes for each piece of work handed over). */
typedef struct w4ax_workspace w4ax_workspace;

/* For calls with up to max_m tokens and max_k inputs, any N. The memory is bounded in max_m. Serves other w4ax_cpu as well
 * (with fewer threads, if it was made for fewer). */
w4ax_status w4ax_workspace_create(const w4ax_cpu *cpu, size_t max_m, size_t max_k, w4ax_workspace **workspace);

w4ax_status w4ax_workspace_bytes(const w4ax_workspace *workspace, size_t *bytes);

void w4ax_workspace_free(w4ax_workspace *workspace);

/* y[m, n] = x[m, k] * W[n, k]^T + bias[n] */
typedef struct w4ax_gemm_args {
    const w4ax_weight *weight;
    const uint16_t *x;        /* BF16 [m, k] */
    size_t x_len;
    size_t x_stride;
    const float *bias;        /* [n], or null for none */
    size_t bias_len;          /* n exactly, or 0 for none */
    uint16_t *y;              /* BF16 [m, n]; what it spans overlaps neither x nor bias */
    size_t y_len;
    size_t y_stride;
    size_t m;                 /* tokens; 0 is allowed and does nothing */
    size_t n;                 /* those of the weight */
    size_t k;
    w4ax_width width;
    uint32_t reserved;
} w4ax_gemm_args;

/* Multiplies, with x quantized to `width` bits over the weight's groups (per token with W4AX_PER_CHANNEL) at run time. The bits
 * of y for 2, 4 and 8 bits are the same on every backend, instruction set, number of threads and for every m. A token with a
 * NaN or an infinity has outputs 0x7FFF at these widths. After W4AX_THREADS y may be half written; after any other failure it
 * is as it was. */
w4ax_status w4ax_cpu_gemm(const w4ax_cpu *cpu, const w4ax_gemm_args *args, w4ax_workspace *workspace);

/* ---- the dispatcher ---- */

/* Decides the width of every control step from the motion before it. A step is: w4ax_dispatcher_decide; the policy runs at
 * `active` bits; w4ax_dispatcher_observe with what it commanded. */
typedef struct w4ax_dispatcher w4ax_dispatcher;

typedef uint32_t w4ax_algorithm;
enum {
    W4AX_SATURATING_COUNTER = 0, /* Algorithm 1 of DyQ-VLA (arXiv 2603.07904) */
    W4AX_WINDOW = 1              /* its Eq. 4, the window operator that the counter stands for */
};

/* Checked by w4ax_dispatcher_create. All but the counts are without a unit. */
typedef struct w4ax_dispatch_config {
    double lambda;            /* share of the macro motion in the sensitivity, in [0, 1] */
    double mu_max;            /* scale of |a_xyz|, in action units; above 0 */
    double nu_max;            /* scale of |a_rot(t) - a_rot(t-1)|, in action units a step; above 0 */
    double theta_24;          /* the largest sensitivity that runs at 2 bits, at least 0 */
    double theta_48;          /* at 4 bits, at least theta_24 */
    double theta_fp;          /* at 8 bits, at least theta_48; above it, BF16 */
    uint32_t window_macro;    /* actions in the mean of the macro motion, 1 to W4AX_MAX_WINDOW */
    uint32_t window_micro;    /* actions in the mean of the micro motion, 1 to W4AX_MAX_WINDOW */
    uint32_t k;               /* steps that a lower target must last before the width goes down, at least 1 */
    w4ax_algorithm algorithm;
} w4ax_dispatch_config;

/* The defaults. mu_max, nu_max, theta_24 and theta_48 are a calibration's to know: they become NaN, which
 * w4ax_dispatcher_create refuses. */
w4ax_status w4ax_dispatch_config_init(w4ax_dispatch_config *config);

/* The configuration of a task from a calibration file (JSON). */
w4ax_status w4ax_dispatch_config_load(const char *path, const char *task, w4ax_dispatch_config *config);

/* At the start of an episode. W4AX_BAD_CONFIG for the first field that is outside its range. */
w4ax_status w4ax_dispatcher_create(const w4ax_dispatch_config *config, w4ax_dispatcher **dispatcher);

/* Takes in an action of W4AX_ACTION_DIM numbers as the policy gives them, in [-1, 1] (translation xyz, axis-angle rotation,
 * gripper), or a chunk of them, oldest first: `len` is a multiple of W4AX_ACTION_DIM, above 0. After any failure (a null
 * `actions` too, but not a null `dispatcher` and not W4AX_BUSY) the width is BF16, until a good action came and a decision
 * has said so. */
w4ax_status w4ax_dispatcher_observe(w4ax_dispatcher *dispatcher, const double *actions, size_t len);
w4ax_status w4ax_dispatcher_observe_f32(w4ax_dispatcher *dispatcher, const float *actions, size_t len);

typedef uint32_t w4ax_reason;
enum {
    W4AX_REASON_START = 0,       /* no action was observed yet: BF16 */
    W4AX_REASON_FAULT = 1,       /* a bad action: BF16 */
    W4AX_REASON_STEADY = 2,      /* the target is the width of the step before */
    W4AX_REASON_ROSE = 3,        /* the target is above it: up at once */
    W4AX_REASON_HELD = 4,        /* the target is below it, and has not been for long enough */
    W4AX_REASON_STEPPED_DOWN = 5 /* it has: down */
};

typedef struct w4ax_decision {
    double sensitivity;       /* at least 0; 1 with W4AX_REASON_START and the first W4AX_REASON_FAULT */
    w4ax_width target;        /* what the sensitivity asks for */
    w4ax_width active;        /* what to run at, never below the target */
    w4ax_reason reason;       /* why `active` is what it is */
    uint32_t held_count;      /* with W4AX_REASON_HELD: steps that count towards k so far, else 0 */
    uint32_t held_pending;    /* with W4AX_REASON_HELD: the width that is waited for, else 0 */
    uint32_t reserved;
} w4ax_decision;

/* The width of the step that comes now. Once a step or chunk: each call is a step of the hysteresis. */
w4ax_status w4ax_dispatcher_decide(w4ax_dispatcher *dispatcher, w4ax_decision *decision);

/* The width of the last decision; BF16 before the first one and from the moment that an observation failed. */
w4ax_status w4ax_dispatcher_active(const w4ax_dispatcher *dispatcher, w4ax_width *width);

/* Starts an episode. */
w4ax_status w4ax_dispatcher_reset(w4ax_dispatcher *dispatcher);

void w4ax_dispatcher_free(w4ax_dispatcher *dispatcher);

/* ---- the flag ---- */

/* The width of a step in one 64-bit word, in the caller's memory: a variable, shared or mapped memory, aligned to 8. All 0 at
 * first. One thread or process stores, any others read, with no lock.
 *     bits 63..32  sequence: the number of the step, wraps
 *     bits 31..8   0; else the word is invalid
 *     bits  7..0   width: 2, 4, 8 or 16; else the word is invalid, as one that was never written is */
typedef struct w4ax_flag {
    uint64_t word;            /* in the byte order of the host; touch it with these functions, or atomically */
} w4ax_flag;

/* Publishes the width of step `sequence`, and all that this thread wrote before: one store with release order. */
w4ax_status w4ax_flag_store(w4ax_flag *flag, uint32_t sequence, w4ax_width width);

/* Takes a flag back: as one that was never written. */
w4ax_status w4ax_flag_clear(w4ax_flag *flag);

/* The width for step `sequence`, W4AX_BF16 unless the word is valid and this step's: one load with acquire order. */
w4ax_status w4ax_flag_load(const w4ax_flag *flag, uint32_t sequence, w4ax_width *width);

/* The sequence and width that the flag holds, both 0 if the word is invalid: one load with acquire order. */
w4ax_status w4ax_flag_read(const w4ax_flag *flag, uint32_t *sequence, w4ax_width *width);

#ifdef __cplusplus
}
#endif
#endif
