/* w4ax: mixed-precision W4AX inference. Weights are packed in INT4, activations have 2, 4, 8 or 16 bits, and a
 * dispatcher selects the width at every control step from the motion of the robot.
 *
 *     plain or INT4 values -> w4ax_weight ----------------------+
 *                                                               v
 *     actions -> w4ax_dispatcher -> w4ax_flag -> width -> w4ax_cpu_gemm -> y
 *                                                               ^
 *     x (BF16) -------------------------------------------------+
 *
 * w4ax_gpu.h declares the same GEMM on NVIDIA GPUs.
 *
 * Conventions
 * - The headers are C99 and C++11. Link libw4ax.a, with the system libraries that scripts/build-capi prints, or
 *   libw4ax.so.
 * - Every function that can fail returns a w4ax_status; w4ax_last_error has the details. A null or misaligned pointer,
 *   a wrong shape, an unknown width or an unknown enumeration value is a status, never a crash. No panic or exception
 *   leaves the library. After a failure, output structures and numbers are unchanged, and an output handle is NULL.
 *   Where an output buffer may be partly written, the function documents it.
 * - Enumerations are passed as uint32_t. An unknown value is W4AX_BAD_ENUM, an unknown width W4AX_BAD_WIDTH.
 * - A buffer is a pointer and a count of ELEMENTS of its type. It may be longer than needed unless documented
 *   otherwise; a shorter one is W4AX_BUFFER_TOO_SMALL. A null pointer with a count of 0 is an empty buffer.
 * - Matrices are row-major. A stride is the distance between rows in elements and at least the number of columns; 0
 *   means dense rows. A matrix [rows, cols] spans (rows - 1) * stride + cols elements. Gaps between rows are neither
 *   read nor written.
 * - BF16 and F16 are passed as their bits in uint16_t. Pointers to elements are aligned to the size of the element;
 *   handles and structures are aligned as the C compiler aligns them.
 * - Initialize argument structures to 0 (memset, or = {0}), then set the fields. Reserved fields must be 0.
 *
 * Ownership
 * - The caller owns a handle that a function returns, and frees it once with its _free function. Freeing NULL does
 *   nothing. Handles share what they need, so they can be freed in any order. A weight may be freed as soon as no call
 *   uses it, even if it came from or was inserted into a file that lives on.
 * - Buffers are read and written during the call only. The library keeps no pointer of the caller, except the functions
 *   and the context of a w4ax_pool.
 * - Strings that the library returns are NUL-terminated and owned by the library.
 *
 * Threads
 * - Several threads may use a w4ax_weight, w4ax_file or w4ax_cpu at once. A w4ax_workspace, w4ax_activations,
 *   w4ax_dispatcher or w4ax_consistency serves one call at a time; a second concurrent call is W4AX_BUSY. A w4ax_flag is lock-free.
 * - Freeing a handle twice, or while a call uses it, is undefined behavior, as with free().
 * - The library starts threads only where a parameter gives their number. They end when the call returns; those of a
 *   w4ax_cpu end when w4ax_cpu_free returns.
 *
 * Streams
 * - Every function of this header runs on the host and has finished when it returns. Functions of w4ax_gpu.h that take
 *   a stream enqueue on it. */
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

/* Major, minor and patch in bits 31..24, 23..16 and 15..0. Before 1.0, each minor version may change this header. */
#define W4AX_VERSION                                                                                                   \
    (((uint32_t)W4AX_VERSION_MAJOR << 24) | ((uint32_t)W4AX_VERSION_MINOR << 16) | (uint32_t)W4AX_VERSION_PATCH)

/* Returns the W4AX_VERSION of the loaded library, to compare with that of the header. */
uint32_t w4ax_version(void);

/* Returns the version as text, such as "0.1.0". Static. */
const char *w4ax_version_text(void);

/* ---- status ---- */

typedef uint32_t w4ax_status;
enum {
    W4AX_OK = 0,
    W4AX_NULL_POINTER = 1,     /* a required pointer is null */
    W4AX_BAD_WIDTH = 2,        /* a width other than 2, 4, 8 and 16 */
    W4AX_BAD_SHAPE = 3,        /* shapes that do not match, or a stride that is shorter than its row */
    W4AX_BUFFER_TOO_SMALL = 4, /* a buffer or workspace is too small for the shape */
    W4AX_MISALIGNED = 5,       /* a pointer is not aligned as its type requires */
    W4AX_OVERLAP = 6,          /* an output overlaps an input */
    W4AX_BAD_ENUM = 7,         /* an unknown enumeration value, or a reserved field that is not 0 */
    W4AX_NOT_FINITE = 8,       /* NaN or an infinity where a number must be finite */
    W4AX_OUT_OF_RANGE = 9,     /* a value or a count out of range */
    W4AX_BAD_TEXT = 10,        /* a string that is not valid UTF-8 */
    W4AX_NOT_FOUND = 11,       /* an unknown name or index */
    W4AX_BAD_FORMAT = 12,      /* a file that is truncated, inconsistent, newer, or of another format */
    W4AX_IO = 13,              /* reading or writing a file failed */
    W4AX_NO_BACKEND = 14,      /* this machine or build does not support the backend */
    W4AX_BAD_CONFIG = 15,      /* a field of a configuration is out of range */
    W4AX_OUT_OF_MEMORY = 16,   /* an allocation on the host failed */
    W4AX_BUSY = 17,            /* another call is using the handle */
    W4AX_THREADS = 18,         /* threads could not be started, or a w4ax_pool broke its contract */
    W4AX_INTERNAL = 19,        /* an internal error; outputs are undefined. Please report it */
    W4AX_NO_DRIVER = 20,       /* no CUDA driver is installed */
    W4AX_NO_DEVICE = 21,       /* no CUDA device exists, or none has this number */
    W4AX_DRIVER_TOO_OLD = 22,  /* the CUDA driver is older than the kernels require */
    W4AX_DEVICE_MISMATCH = 23, /* an argument belongs to another device or context than the call */
    W4AX_CUDA_FAILED = 24      /* a CUDA call failed; the text of the error has CUDA's message */
};

/* Returns the meaning of a status, in English. Static, never null; unknown values have a text too. */
const char *w4ax_status_text(w4ax_status status);

/* Returns the details of the last failure in this thread, with names and numbers; "" before the first failure. Never
 * null. Valid until the next failing call in this thread, or its end. Successful calls do not change it. */
const char *w4ax_last_error(void);

/* ---- numbers ---- */

/* Width of the activations of a GEMM, in bits. W4AX_BF16 does not quantize them; it is the safe width. */
typedef uint32_t w4ax_width;
enum { W4AX_A2 = 2, W4AX_A4 = 4, W4AX_A8 = 8, W4AX_BF16 = 16 };

/* Number of k that share a scale of the weight and a scale of the activations: 32, 64, 128, or all of K. */
typedef uint32_t w4ax_grouping;
enum { W4AX_PER_CHANNEL = 0, W4AX_G32 = 32, W4AX_G64 = 64, W4AX_G128 = 128 };

/* Type of an element: IEEE binary32, IEEE binary16, or bfloat16. */
typedef uint32_t w4ax_type;
enum { W4AX_TYPE_F32 = 0, W4AX_TYPE_F16 = 1, W4AX_TYPE_BF16 = 2 };

enum {
    W4AX_MAX_THREADS = 1024,        /* threads of a call or pool */
    W4AX_MAX_PER_CHANNEL_K = 65536, /* K of a weight with W4AX_PER_CHANNEL or W4AX_TWO_LEVEL. Others are not limited */
    W4AX_ACTION_DIM = 7,            /* numbers of an action of the default layout */
    W4AX_MAX_ACTION = 64,           /* numbers of an action of any layout */
    W4AX_MAX_WINDOW = 256,          /* actions in a window of a dispatcher */
    W4AX_MAX_CHUNK = 256,           /* actions in a chunk of a consistency rule */
    W4AX_QUANTILES = 101,           /* quantiles of a consistency rule */
    W4AX_WIDTHS = 4                 /* number of widths */
};

/* ---- weights ---- */

/* W[N, K] in INT4, as the weight of a linear layer with N output channels and K inputs. A value is (q - zero) * scale,
 * with q in [-8, 7], a zero point in [-8, 8] (0 if symmetric), and one scale per channel and group along K. There are
 * groups = ceil(K / grouping), or 1 with W4AX_PER_CHANNEL; the last group may be short. N and K are at least 1.
 * Immutable. The value and the scales of the other arithmetic are those of W4AX_TWO_LEVEL.
 *
 * A weight may have an order of k (GPTQ's desc_act): position i along K of the packed weight holds input order[i] of
 * the matrix, and groups are formed in that order. All functions take and return values in the order of the matrix; a
 * GEMM gathers x into the order of the weight. */
typedef struct w4ax_weight w4ax_weight;

typedef uint32_t w4ax_symmetry;
enum {
    W4AX_SYMMETRIC = 0, /* scale = absmax / 7, no zero points */
    W4AX_ASYMMETRIC = 1 /* scale = (max(0, max) - min(0, min)) / 15, with a zero point */
};

/* The arithmetic of a weight. */
typedef uint32_t w4ax_scheme;
enum {
    W4AX_GROUPED = 0,  /* a value is (q - zero) * scale, with a scale per channel and group */
    W4AX_TWO_LEVEL = 1 /* a value is (q - zero) * step * scale, with a step in 1..=16 per channel and group, and a scale
                        * per channel; (q - zero) * step is in -127..=127. Not with W4AX_PER_CHANNEL */
};

/* The choice of scales and steps. */
typedef uint32_t w4ax_clipping;
enum {
    W4AX_ABSMAX = 0,       /* the extremes of a group are covered */
    W4AX_SQUARED_ERROR = 1 /* the least squared error; takes longer, and costs nothing in a GEMM */
};

/* A plain weight to quantize by rounding to nearest. */
typedef struct w4ax_quantize_args {
    const void *w;            /* finite values of type w_type [n, k] */
    size_t w_len;
    size_t w_stride;
    size_t n;
    size_t k;
    w4ax_type w_type;
    w4ax_grouping grouping;
    w4ax_symmetry symmetry;
    w4ax_type scale_type;     /* W4AX_TYPE_BF16 has the range of F32; overflow of F16 is W4AX_OUT_OF_RANGE */
    uint32_t threads;         /* for this call: 0 is one per core, at most W4AX_MAX_THREADS */
    uint32_t reserved;
} w4ax_quantize_args;

/* Quantizes and packs a weight with W4AX_GROUPED and W4AX_ABSMAX. W4AX_NOT_FINITE if w contains NaN or an infinity. */
w4ax_status w4ax_weight_quantize(const w4ax_quantize_args *args, w4ax_weight **weight);

/* As w4ax_weight_quantize, with a scheme and a clipping. W4AX_OUT_OF_RANGE for W4AX_TWO_LEVEL with W4AX_PER_CHANNEL. */
w4ax_status w4ax_weight_quantize_as(const w4ax_quantize_args *args, w4ax_scheme scheme, w4ax_clipping clipping,
                                    w4ax_weight **weight);

/* INT4 values that are already quantized, as in a checkpoint. */
typedef struct w4ax_pack_args {
    const int8_t *q;          /* values in [-8, 7] [n, k], in the order of the matrix */
    size_t q_len;
    size_t q_stride;
    const void *scales;       /* finite values of type scale_type, dense [n, groups] */
    size_t scales_len;        /* exactly n * groups */
    const int8_t *zeros;      /* values in [-8, 8], dense [n, groups]; null if symmetric */
    size_t zeros_len;         /* exactly n * groups; 0 if symmetric */
    const uint32_t *order;    /* a permutation of 0..k [k]; null for the order of the matrix */
    size_t order_len;         /* exactly k; 0 for the order of the matrix */
    size_t n;
    size_t k;
    w4ax_grouping grouping;
    w4ax_type scale_type;
    uint32_t threads;         /* as in w4ax_quantize_args */
    uint32_t reserved;
} w4ax_pack_args;

/* Packs without rounding: w4ax_weight_unpack returns the same bits. W4AX_OUT_OF_RANGE if the order is not a
 * permutation. */
w4ax_status w4ax_weight_pack(const w4ax_pack_args *args, w4ax_weight **weight);

/* As w4ax_weight_pack, for a weight of W4AX_TWO_LEVEL. The scales are dense [n]; the steps, in 1..=16, are dense
 * [n, groups], and exactly n * groups. W4AX_OUT_OF_RANGE for a step or a (q - zero) * step out of range. */
w4ax_status w4ax_weight_pack_two_level(const w4ax_pack_args *args, const uint8_t *steps, size_t steps_len,
                                       w4ax_weight **weight);

typedef struct w4ax_weight_info {
    size_t n;
    size_t k;
    size_t groups;
    size_t bytes;             /* packed values, scales and zero points, with padding */
    w4ax_grouping grouping;
    w4ax_symmetry symmetry;
    w4ax_type scale_type;
    uint32_t has_order;       /* 1 if the weight has an order of k, otherwise 0 */
} w4ax_weight_info;

w4ax_status w4ax_weight_get_info(const w4ax_weight *weight, w4ax_weight_info *info);

w4ax_status w4ax_weight_get_scheme(const w4ax_weight *weight, w4ax_scheme *scheme);

/* Writes the order of k [k]. It is 0, 1, 2, ... for a weight without one. */
w4ax_status w4ax_weight_get_order(const w4ax_weight *weight, uint32_t *order, size_t order_len);

/* Writes (q - zero) * scale, or (q - zero) * step * scale, rounded once to f32, dense [n, k]. */
w4ax_status w4ax_weight_dequantize(const w4ax_weight *weight, float *w, size_t w_len);

/* Writes the arguments of w4ax_weight_pack: q dense [n, k], scales of the weight's scale_type dense [n, groups], zeros
 * dense [n, groups] (all 0 if symmetric). An output with a null pointer and a count of 0 is skipped. After a failure
 * nothing is written. W4AX_NO_BACKEND for a weight of W4AX_TWO_LEVEL, because its steps have no place here. */
w4ax_status w4ax_weight_unpack(const w4ax_weight *weight, int8_t *q, size_t q_len, void *scales, size_t scales_len,
                               int8_t *zeros, size_t zeros_len);

/* Likewise the arguments of w4ax_weight_pack_two_level. W4AX_NO_BACKEND for a weight of W4AX_GROUPED. */
w4ax_status w4ax_weight_unpack_two_level(const w4ax_weight *weight, int8_t *q, size_t q_len, void *scales,
                                         size_t scales_len, int8_t *zeros, size_t zeros_len, uint8_t *steps,
                                         size_t steps_len);

void w4ax_weight_free(w4ax_weight *weight);

/* ---- files ---- */

/* Named weights, as one safetensors file of this library holds them. Paths and names are UTF-8. */
typedef struct w4ax_file w4ax_file;

/* Creates a file in memory, without weights. */
w4ax_status w4ax_file_create(w4ax_file **file);

/* Loads a file that w4ax_file_save or the conversion of a checkpoint wrote. `threads` as in w4ax_quantize_args. */
w4ax_status w4ax_file_load(const char *path, uint32_t threads, w4ax_file **file);

/* Saves all weights. The file is written under a temporary name in the same folder and then renamed, so that it is
 * complete or absent. */
w4ax_status w4ax_file_save(const w4ax_file *file, const char *path);

/* Adds a weight under a name, and replaces the weight that had the name. The caller keeps both handles. Values are
 * shared. */
w4ax_status w4ax_file_insert(w4ax_file *file, const char *name, const w4ax_weight *weight);

w4ax_status w4ax_file_count(const w4ax_file *file, size_t *count);

/* Returns the name of weight `index`, which is below the count, in ascending order of bytes. Valid until
 * w4ax_file_free. */
w4ax_status w4ax_file_name(const w4ax_file *file, size_t index, const char **name);

/* Returns a new handle to the weight with that name, which the caller frees. Values are shared. */
w4ax_status w4ax_file_get(const w4ax_file *file, const char *name, w4ax_weight **weight);

void w4ax_file_free(w4ax_file *file);

/* ---- the CPU backend ---- */

/* An instruction set, and the threads that run a call. All instruction sets return the same bits. */
typedef struct w4ax_cpu w4ax_cpu;

/* A piece of a call: a function of this library, called as piece(argument, number). It does not throw. */
typedef void (*w4ax_piece)(void *argument, uint32_t piece);

/* The threads of the caller. */
typedef struct w4ax_pool {
    /* Calls piece(argument, i) once for each i below `pieces`, on any threads and in any order, and returns when all
     * calls have returned. It does not use `piece` and `argument` afterwards. Several threads may call it at once. It
     * must not throw. A piece that is skipped, repeated or out of range is W4AX_THREADS. */
    void (*run)(void *context, uint32_t pieces, w4ax_piece piece, void *argument);
    void *context;            /* the first argument of `run` */
    uint32_t threads;         /* number of pieces of a call, 1 to W4AX_MAX_THREADS */
    uint32_t reserved;
} w4ax_pool;

/* Creates a backend. `isa` is "scalar", "avx2", "avx512vnni" or "avx512bf16"; W4AX_NO_BACKEND if the machine does not
 * support it. Null selects the instruction set in the environment variable W4AX_CPU, or the best one of the machine.
 * With 1 thread, calls run in the calling thread. More threads are started and kept until w4ax_cpu_free; 0 is one per
 * core. */
w4ax_status w4ax_cpu_create(const char *isa, uint32_t threads, w4ax_cpu **cpu);

/* Creates a backend on the threads of the caller. `pool` is copied; its context must live until w4ax_cpu_free. */
w4ax_status w4ax_cpu_create_with_pool(const char *isa, const w4ax_pool *pool, w4ax_cpu **cpu);

/* Returns the name of the instruction set. Static. */
w4ax_status w4ax_cpu_isa(const w4ax_cpu *cpu, const char **isa);

w4ax_status w4ax_cpu_threads(const w4ax_cpu *cpu, uint32_t *threads);

/* Frees the backend. Not allowed while a call runs, or from one of its pieces. */
void w4ax_cpu_free(w4ax_cpu *cpu);

/* The scratch memory of calls. With it, calls do not allocate, with one exception: a w4ax_cpu with several threads of
 * its own allocates a few bytes per piece if the calling thread is not one of them. */
typedef struct w4ax_workspace w4ax_workspace;

/* Creates a workspace for calls with up to max_m tokens and max_k inputs, any N. Its size is bounded in max_m. Another
 * w4ax_cpu may use it too; a backend with more threads than `cpu` then uses only as many as `cpu` has. */
w4ax_status w4ax_workspace_create(const w4ax_cpu *cpu, size_t max_m, size_t max_k, w4ax_workspace **workspace);

w4ax_status w4ax_workspace_bytes(const w4ax_workspace *workspace, size_t *bytes);

void w4ax_workspace_free(w4ax_workspace *workspace);

/* Bits of `flags`. */
enum {
    /* x is already in the order of k of the weight, gathered by the caller: x'[m, i] = x[m, order[i]]. GEMMs of several
     * weights with one order can share a gather. No effect for a weight without an order. */
    W4AX_GATHERED = 1
};

/* y[m, n] = x[m, k] * W[n, k]^T + bias[n] */
typedef struct w4ax_gemm_args {
    const w4ax_weight *weight;
    const uint16_t *x;        /* BF16 [m, k] */
    size_t x_len;
    size_t x_stride;
    const float *bias;        /* [n], or null for none */
    size_t bias_len;          /* exactly n, or 0 for none */
    uint16_t *y;              /* BF16 [m, n]; overlaps neither x nor bias */
    size_t y_len;
    size_t y_stride;
    size_t m;                 /* number of tokens; 0 is allowed and does nothing */
    size_t n;                 /* N of the weight */
    size_t k;                 /* K of the weight */
    w4ax_width width;
    uint32_t flags;
} w4ax_gemm_args;

/* Computes the GEMM. x is quantized to `width` bits over the groups of the weight, or per token with W4AX_PER_CHANNEL
 * or W4AX_TWO_LEVEL.
 * At 2, 4 and 8 bits the bits of y are the same on every backend, for every instruction set, number of threads and m.
 * At these widths a token that contains NaN or an infinity has outputs 0x7FFF. After W4AX_THREADS y may be partly
 * written; after any other failure it is unchanged. */
w4ax_status w4ax_cpu_gemm(const w4ax_cpu *cpu, const w4ax_gemm_args *args, w4ax_workspace *workspace);

/* ---- activations of several GEMMs ---- */

/* Activations of 2, 4 or 8 bits, quantized once for several GEMMs on the CPU, such as those of q, k and v. The functions
 * that fill them allocate as w4ax_cpu_gemm does. */
typedef struct w4ax_activations w4ax_activations;

/* Creates the memory for up to max_m tokens and max_k inputs, of every width and grouping. Another w4ax_cpu may use it
 * too, as for w4ax_workspace_create; the GEMMs need the instruction set that filled it. */
w4ax_status w4ax_activations_create(const w4ax_cpu *cpu, size_t max_m, size_t max_k, w4ax_activations **activations);

w4ax_status w4ax_activations_bytes(const w4ax_activations *activations, size_t *bytes);

void w4ax_activations_free(w4ax_activations *activations);

typedef struct w4ax_activation_args {
    const w4ax_weight *weight; /* a weight that will read the activations: all with its scheme, grouping and K can */
    const uint16_t *x;         /* BF16 [m, k]; gathered if the weights have an order of k */
    size_t x_len;
    size_t x_stride;
    size_t m;
    size_t k;                  /* K of the weight */
    w4ax_width width;          /* not W4AX_BF16 */
    uint32_t flags;            /* W4AX_GATHERED for weights with an order of k, or 0 */
} w4ax_activation_args;

/* Quantizes x once. W4AX_BUFFER_TOO_SMALL if the activations are too small. */
w4ax_status w4ax_cpu_quantize(const w4ax_cpu *cpu, const w4ax_activation_args *args, w4ax_activations *activations);

/* y = x / sqrt(mean(x^2) + eps) * norm, for each row of x; of a residual connection, x += addend first */
typedef struct w4ax_rms_norm_args {
    const w4ax_weight *weight; /* as in w4ax_activation_args, without an order of k; null with W4AX_BF16 */
    void *x;                   /* [m, k] of x_type; written only if there is an addend */
    size_t x_len;              /* in elements, as x_stride */
    size_t x_stride;
    const uint16_t *addend;    /* BF16 [m, k]: x + addend, rounded to x_type, is written to x, which overlaps no other input.
                                * Null with a count of 0: x is read only */
    size_t addend_len;
    size_t addend_stride;
    const uint16_t *norm;      /* BF16 [k] */
    size_t norm_len;           /* exactly k */
    uint16_t *y;               /* BF16 [m, k], overlaps neither x nor norm; null unless W4AX_BF16 */
    size_t y_len;
    size_t y_stride;
    size_t m;
    size_t k;
    w4ax_width width;          /* W4AX_BF16: y is written. Otherwise it is quantized at once, into the activations */
    w4ax_type x_type;          /* W4AX_TYPE_BF16 or W4AX_TYPE_F32 */
    float eps;                 /* positive and finite */
    uint32_t reserved;         /* 0 */
} w4ax_rms_norm_args;

/* Computes an RMSNorm: with W4AX_BF16 the rows y, and `activations` is null; otherwise its quantization, with the bits of
 * the two calls. */
w4ax_status w4ax_cpu_rms_norm(const w4ax_cpu *cpu, const w4ax_rms_norm_args *args, w4ax_activations *activations);

/* y = silu(gate) * up, with silu(v) = v / (1 + exp(-v)) */
typedef struct w4ax_silu_mul_args {
    const w4ax_weight *weight; /* as in w4ax_rms_norm_args */
    const uint16_t *gate;      /* BF16 [m, k] */
    size_t gate_len;
    size_t gate_stride;
    const uint16_t *up;        /* BF16 [m, k] */
    size_t up_len;
    size_t up_stride;
    uint16_t *y;               /* as in w4ax_rms_norm_args, overlaps neither gate nor up */
    size_t y_len;
    size_t y_stride;
    size_t m;
    size_t k;
    w4ax_width width;          /* as in w4ax_rms_norm_args */
    uint32_t reserved;         /* 0 */
} w4ax_silu_mul_args;

/* Computes silu(gate) * up, as w4ax_cpu_rms_norm. */
w4ax_status w4ax_cpu_silu_mul(const w4ax_cpu *cpu, const w4ax_silu_mul_args *args, w4ax_activations *activations);

/* Computes the GEMM of quantized activations, with the bits of w4ax_cpu_gemm of the BF16 rows. `x` of the arguments is
 * null with a count of 0, and `m`, `k` and `width` are those of the activations. W4AX_OUT_OF_RANGE for another width, and
 * W4AX_BAD_SHAPE for activations of another shape, scheme, grouping, order of k or instruction set. */
w4ax_status w4ax_cpu_gemm_quantized(const w4ax_cpu *cpu, const w4ax_gemm_args *args, w4ax_activations *activations,
                                    w4ax_workspace *workspace);

/* ---- the dispatcher ---- */

/* Selects the width of every control step from the motion before it. A step is: w4ax_dispatcher_decide; the policy runs
 * at `active` bits; w4ax_dispatcher_observe with the action of the policy.
 *
 * An action layout is a text that says what the numbers of an action are. Commas separate the parts of an arm, and "+"
 * separates two arms. Each part is a change per step (delta) or a position (absolute):
 *     xyz:MODE               3 numbers, a translation
 *     axis-angle:MODE        3 numbers, a rotation in radians
 *     euler:MODE             3 numbers, roll, pitch and yaw in radians: R = Rz(yaw) Ry(pitch) Rx(roll)
 *     quaternion-xyzw:MODE   4 numbers, or quaternion-wxyz:MODE
 *     6d:MODE                6 numbers, the first two columns of a rotation matrix
 *     jointsN:MODE           N numbers
 *     gripper, gripperN      1 or N numbers that do not count as motion
 *     ignored, ignoredN      1 or N numbers that do not count as motion
 * MODE is delta or absolute. An arm has a translation, a translation and a rotation, or joints. "end-effector" is the
 * default, "xyz:delta,axis-angle:delta,gripper", and "aloha" is two arms of "joints6:absolute,gripper". */
typedef struct w4ax_dispatcher w4ax_dispatcher;

typedef uint32_t w4ax_algorithm;
enum {
    W4AX_SATURATING_COUNTER = 0, /* Algorithm 1 of DyQ-VLA (arXiv 2603.07904) */
    W4AX_WINDOW = 1              /* the window operator of its Eq. 4, which the counter approximates */
};

/* w4ax_dispatcher_create checks the fields. Those without a unit here have none. */
typedef struct w4ax_dispatch_config {
    double lambda;            /* weight of the macro motion in the sensitivity, in [0, 1] */
    double mu_max;            /* scale of the speed, |a_xyz| of the default layout, in action units, above 0 */
    double nu_max;            /* scale of the change of rotation, |a_rot(t) - a_rot(t-1)| of the default layout, in
                               * action units per step, above 0 */
    double theta_24;          /* largest sensitivity that runs at 2 bits, at least 0 */
    double theta_48;          /* largest sensitivity that runs at 4 bits, at least theta_24 */
    double theta_fp;          /* largest sensitivity that runs at 8 bits, at least theta_48; above it, BF16 */
    uint32_t window_macro;    /* number of actions in the mean of the macro motion, 1 to W4AX_MAX_WINDOW */
    uint32_t window_micro;    /* number of actions in the mean of the micro motion, 1 to W4AX_MAX_WINDOW */
    uint32_t k;               /* steps that a lower target persists before the width decreases, at least 1 */
    w4ax_algorithm algorithm;
} w4ax_dispatch_config;

/* Sets the defaults. mu_max, nu_max, theta_24 and theta_48 come from a calibration: they are set to NaN, which
 * w4ax_dispatcher_create refuses. */
w4ax_status w4ax_dispatch_config_init(w4ax_dispatch_config *config);

/* Loads the configuration of a task from a calibration file (JSON). W4AX_BAD_CONFIG if the calibration has another
 * layout than the default, which the structure does not hold: w4ax_dispatcher_load reads it. */
w4ax_status w4ax_dispatch_config_load(const char *path, const char *task, w4ax_dispatch_config *config);

/* Returns the numbers of an action of a layout, 1 to W4AX_MAX_ACTION. A null `layout` is the default one, and
 * W4AX_BAD_CONFIG reports what is wrong with another text. */
w4ax_status w4ax_layout_dim(const char *layout, size_t *dim);

/* Creates a dispatcher of the default layout at the start of an episode. W4AX_BAD_CONFIG reports the first field that
 * is out of range. */
w4ax_status w4ax_dispatcher_create(const w4ax_dispatch_config *config, w4ax_dispatcher **dispatcher);

/* As w4ax_dispatcher_create, for actions of a layout. A null `layout` is the default one. */
w4ax_status w4ax_dispatcher_create_with_layout(const w4ax_dispatch_config *config, const char *layout,
                                               w4ax_dispatcher **dispatcher);

/* Creates a dispatcher of a task from a calibration file (JSON), with the layout of the calibration. */
w4ax_status w4ax_dispatcher_load(const char *path, const char *task, w4ax_dispatcher **dispatcher);

/* Returns the numbers of an action. */
w4ax_status w4ax_dispatcher_action_dim(const w4ax_dispatcher *dispatcher, size_t *dim);

/* Keeps mu_max and nu_max online: from 200 changes of rotation on, and then every 64 of them, they are the 95th
 * percentiles of the observed actions, within 1 %. Until then they are those of the configuration. Sketches of a fixed
 * size of about 20 KB hold the percentiles, which outlast w4ax_dispatcher_reset. A second call clears them. */
w4ax_status w4ax_dispatcher_keep_scale_online(w4ax_dispatcher *dispatcher);

/* Writes the widths that are worth choosing, narrowest first, and their number. The last one is BF16, and the other
 * places are 0. `costs` and `widths` have W4AX_WIDTHS elements, by the order 2, 4, 8, 16 bits. A cost is the time of a
 * step at a width, or any measure that is finite and above 0. A width that is not at least 3 % cheaper than a more
 * precise one of these saves nothing and is left out. */
w4ax_status w4ax_useful_widths(const double *costs, w4ax_width *widths, size_t *count);

/* Sets the cost of a step at each width, as in w4ax_useful_widths: from the next decision on, a width that saves
 * nothing is not the target. Null removes the costs. The history stays. After a failure the costs are unchanged. */
w4ax_status w4ax_dispatcher_set_costs(w4ax_dispatcher *dispatcher, const double *costs);

/* Returns mu_max and nu_max at present. */
w4ax_status w4ax_dispatcher_scale(const w4ax_dispatcher *dispatcher, double *mu_max, double *nu_max);

/* Observes an action as the policy returns it, of the numbers of the layout, or a chunk of actions, oldest first: `len`
 * is a positive multiple of the numbers of an action, which is W4AX_ACTION_DIM for the default layout (translation xyz,
 * axis-angle rotation, gripper). After any failure the width is BF16 until a valid action is observed and a decision is
 * made from it. This includes a null `actions`, but neither a null `dispatcher` nor W4AX_BUSY. The first action of a
 * layout with absolute parts has no motion: the width stays BF16 with W4AX_REASON_START. */
w4ax_status w4ax_dispatcher_observe(w4ax_dispatcher *dispatcher, const double *actions, size_t len);
w4ax_status w4ax_dispatcher_observe_f32(w4ax_dispatcher *dispatcher, const float *actions, size_t len);

typedef uint32_t w4ax_reason;
enum {
    W4AX_REASON_START = 0,       /* no motion was observed: BF16 */
    W4AX_REASON_FAULT = 1,       /* an invalid action was observed: BF16 */
    W4AX_REASON_STEADY = 2,      /* the target is the width of the previous step */
    W4AX_REASON_ROSE = 3,        /* the target is higher: the width increases at once */
    W4AX_REASON_HELD = 4,        /* the target is lower, but has not persisted for k steps */
    W4AX_REASON_STEPPED_DOWN = 5 /* the target was lower for k steps: the width decreases */
};

typedef struct w4ax_decision {
    double sensitivity;       /* at least 0; 1 with W4AX_REASON_START and the first W4AX_REASON_FAULT */
    w4ax_width target;        /* the width for the sensitivity */
    w4ax_width active;        /* the width to run at, at least the target */
    w4ax_reason reason;       /* the reason for `active` */
    uint32_t held_count;      /* with W4AX_REASON_HELD: number of steps that count towards k so far, otherwise 0 */
    uint32_t held_pending;    /* with W4AX_REASON_HELD: the pending lower width, otherwise 0 */
    uint32_t reserved;
} w4ax_decision;

/* Decides the width of the next step. Call it once per step or chunk, because each call advances the hysteresis. */
w4ax_status w4ax_dispatcher_decide(w4ax_dispatcher *dispatcher, w4ax_decision *decision);

/* Returns the width of the last decision. It is BF16 before the first decision, and as soon as an observation fails. */
w4ax_status w4ax_dispatcher_active(const w4ax_dispatcher *dispatcher, w4ax_width *width);

/* Starts an episode. */
w4ax_status w4ax_dispatcher_reset(w4ax_dispatcher *dispatcher);

void w4ax_dispatcher_free(w4ax_dispatcher *dispatcher);

/* ---- the consistency rule ---- */

/* Runs a cheap profile first, and accepts its action if it is close to the last one. A profile is a width for each
 * layer: the width of the step or the floor of the layer, whichever is wider. A step is:
 *     w4ax_consistency_decide; the policy runs at the profile;
 *     w4ax_consistency_verify; if the action is not accepted, the policy runs again at W4AX_PROFILE_HIGH;
 *     w4ax_consistency_command, if alpha is below 1;
 *     w4ax_consistency_observe with what the robot executes. */
typedef struct w4ax_consistency w4ax_consistency;

/* w4ax_consistency_create checks the fields. */
typedef struct w4ax_consistency_config {
    double mu_max;            /* as in w4ax_dispatch_config, for the sensitivity S */
    double nu_max;
    double lambda;
    double d_acc;             /* a low action may be min(tau_max, d_acc / (S + eta)) from the last one, in action units */
    double eta;               /* at least 0, without unit */
    double tau_max;           /* in action units, above 0 */
    double tau;               /* above 0: the same tolerance in every step, instead of the three above; 0: none */
    double gate;              /* rank of the uncertainty, in (0, 1], above which the low profile is not tried */
    double alpha;             /* how far an accepted low action is followed, in (0, 1] */
    const double *uncertainty_low;  /* quantiles 0, 1, ... 100 % of the uncertainty at the low profile [W4AX_QUANTILES] */
    const double *uncertainty_high; /* those at the high profile; both null: no gate */
    uint32_t window_macro;
    uint32_t window_micro;
    uint32_t refresh;         /* accepted low runs in a row before a high run; 0 for no limit */
    uint32_t max_chunk;       /* largest number of actions in a chunk, 1 to W4AX_MAX_CHUNK */
    w4ax_width low;           /* width of a step at the low profile */
    w4ax_width high;          /* at least `low`; equal widths always run the high profile */
} w4ax_consistency_config;

/* Sets the defaults. mu_max and nu_max come from a calibration: they are set to NaN, which w4ax_consistency_create
 * refuses. */
w4ax_status w4ax_consistency_config_init(w4ax_consistency_config *config);

/* Creates a rule at the start of an episode, for actions of a layout. A null `layout` is the default one. The arrays of
 * the configuration are copied. */
w4ax_status w4ax_consistency_create(const w4ax_consistency_config *config, const char *layout,
                                    w4ax_consistency **consistency);

/* Creates the rule of a task from a calibration file (JSON). `costs` is as in w4ax_useful_widths, or null for those of
 * the calibration. The widths are those of the calibration if the lower one saves at least 3 %, or the best choice by
 * costs and errors; if nothing is left to choose, both are the same. */
w4ax_status w4ax_consistency_load(const char *path, const char *task, const double *costs, uint32_t max_chunk,
                                  w4ax_consistency **consistency);

/* Keeps the distribution of the uncertainty online, if the rule has no quantiles: the gate is that of the configuration,
 * or .8 if it is 1. Every step runs at the high profile until 100 of them had an uncertainty. Sketches of a fixed size
 * of about 20 KB hold the distribution, which outlasts w4ax_consistency_reset. A second call clears them. */
w4ax_status w4ax_consistency_keep_uncertainty_online(w4ax_consistency *consistency);

/* Returns the numbers of an action. */
w4ax_status w4ax_consistency_action_dim(const w4ax_consistency *consistency, size_t *dim);

/* Writes the floor of each layer in the calibration, and their number; 0 if it has none for these widths. Null `floors`
 * with `floors_len` 0 returns the number only. */
w4ax_status w4ax_consistency_floors(const w4ax_consistency *consistency, w4ax_width *floors, size_t floors_len,
                                    size_t *count);

typedef uint32_t w4ax_profile;
enum {
    W4AX_PROFILE_LOW = 0,
    W4AX_PROFILE_HIGH = 1
};

typedef uint32_t w4ax_consistency_reason;
enum {
    W4AX_CONSISTENCY_START = 0,          /* no action was observed: high */
    W4AX_CONSISTENCY_FAULT = 1,          /* an invalid action was observed: high */
    W4AX_CONSISTENCY_STATIC = 2,         /* both profiles have the same width: high */
    W4AX_CONSISTENCY_REFRESH = 3,        /* the last `refresh` steps were accepted low runs: high */
    W4AX_CONSISTENCY_NO_UNCERTAINTY = 4, /* the uncertainty of the last step or its distribution is unknown: high */
    W4AX_CONSISTENCY_GATE = 5,           /* the policy was uncertain in the last step: high */
    W4AX_CONSISTENCY_TRY = 6             /* the low profile is tried */
};

typedef struct w4ax_consistency_decision {
    w4ax_profile profile;     /* the profile of the first run */
    w4ax_width width;         /* its width of a step */
    w4ax_consistency_reason reason;
    uint32_t reserved;
} w4ax_consistency_decision;

/* Decides the profile of the next step. Call it once per step or chunk. */
w4ax_status w4ax_consistency_decide(w4ax_consistency *consistency, w4ax_consistency_decision *decision);

typedef struct w4ax_consistency_check {
    double distance;          /* to the last action, in action units; NaN after a run at the high profile, and for an
                               * invalid action */
    double tolerance;         /* in action units; NaN after a run at the high profile */
    uint32_t accepted;        /* 1: the action may be executed; 0: run the step again at the high profile */
    uint32_t reserved;
} w4ax_consistency_check;

/* Checks the action of a run, or its chunk, of `len` numbers. An action at the high profile is always accepted. After
 * any failure but a null `consistency` and W4AX_BUSY, run the step again at the high profile. */
w4ax_status w4ax_consistency_verify(w4ax_consistency *consistency, const double *actions, size_t len,
                                    w4ax_consistency_check *check);
w4ax_status w4ax_consistency_verify_f32(w4ax_consistency *consistency, const float *actions, size_t len,
                                        w4ax_consistency_check *check);

/* Moves the actions of a low run only `alpha` of the way from what is known for their times, in place. Other actions do
 * not change. */
w4ax_status w4ax_consistency_command(const w4ax_consistency *consistency, double *actions, size_t len,
                                     w4ax_profile profile);

/* Observes an action or a chunk of `len` numbers, of which the first `executed` actions are executed, the profile of
 * the run that produced it, and the uncertainty of that run in action units, or NaN if it is unknown. The other actions
 * are compared with the next chunk. After any failure every step runs at the high profile until a valid action is
 * observed. This includes a null `actions`, but neither a null `consistency` nor W4AX_BUSY. */
w4ax_status w4ax_consistency_observe(w4ax_consistency *consistency, const double *actions, size_t len,
                                     size_t executed, w4ax_profile profile, double uncertainty);
w4ax_status w4ax_consistency_observe_f32(w4ax_consistency *consistency, const float *actions, size_t len,
                                         size_t executed, w4ax_profile profile, double uncertainty);

/* Starts an episode. */
w4ax_status w4ax_consistency_reset(w4ax_consistency *consistency);

void w4ax_consistency_free(w4ax_consistency *consistency);

/* ---- the flag ---- */

/* The width of a step in one 64-bit word in memory of the caller: a variable, or shared or mapped memory, aligned to 8.
 * All bits are 0 at first. One thread or process stores and any number load, without locks.
 *     bits 63..32  sequence: the number of the step, which wraps
 *     bits 31..8   0, otherwise the word is invalid
 *     bits  7..0   width: 2, 4, 8 or 16, otherwise the word is invalid, as in a flag that was never stored */
typedef struct w4ax_flag {
    uint64_t word;            /* in host byte order; access it with these functions, or atomically */
} w4ax_flag;

/* Publishes the width of step `sequence`, and all earlier writes of this thread: one store with release order. */
w4ax_status w4ax_flag_store(w4ax_flag *flag, uint32_t sequence, w4ax_width width);

/* Resets a flag to the state before the first store. */
w4ax_status w4ax_flag_clear(w4ax_flag *flag);

/* Returns the width for step `sequence`, or W4AX_BF16 if the word is invalid or of another step: one load with acquire
 * order. */
w4ax_status w4ax_flag_load(const w4ax_flag *flag, uint32_t sequence, w4ax_width *width);

/* Returns the sequence and the width in the flag, both 0 if the word is invalid: one load with acquire order. */
w4ax_status w4ax_flag_read(const w4ax_flag *flag, uint32_t *sequence, w4ax_width *width);

#ifdef __cplusplus
}
#endif
#endif
