/* Row operations whose results are activations of GEMMs: RMSNorm and silu(gate) * up, with the arithmetic of
 * src/numerics.rs. At 16 bits the result is BF16 rows. At fewer bits it is quantized at once, into the bytes that
 * w4axk_quantize_pack writes for these rows. Part of the private C ABI, with the conventions of w4ax_kernels.h. The
 * GEMMs do not include this header, so a change here does not recompile them. */
#ifndef W4AX_ROW_OP_H
#define W4AX_ROW_OP_H

#include "w4ax_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum w4axk_row_op {
    W4AXK_RMS_NORM = 0, /* y = x / sqrt(mean(x^2) + eps) * factor, with factor [K]; x + addend in place of x */
    W4AXK_SILU_MUL = 1  /* y = silu(x) * factor, with factor [M, K] */
} w4axk_row_op;

typedef enum w4axk_row_op_kernel {
    W4AXK_ROW_OP_FAST = 0,
    W4AXK_ROW_OP_PLAIN = 1 /* the reference: 16 bits only, otherwise W4AXK_BAD_MODE */
} w4axk_row_op_kernel;

typedef enum w4axk_value_type { W4AXK_VALUE_BF16 = 0, W4AXK_VALUE_F32 = 1 } w4axk_value_type;

typedef struct w4axk_row_op_args {
    void *x;               /* [M, K] of x_type, aligned to an element; written only if there is an addend */
    int64_t x_stride;      /* elements from row to row, at least K */
    const void *factor;    /* BF16, aligned to 2: [K] for W4AXK_RMS_NORM, [M, K] for W4AXK_SILU_MUL */
    int64_t factor_stride; /* elements from row to row, at least K; 0 for W4AXK_RMS_NORM */
    const void *addend;    /* null, or for W4AXK_RMS_NORM BF16 [M, K], aligned to 2: x + addend, rounded to x_type, is
                            * written to x and normalized */
    int64_t addend_stride; /* elements from row to row, at least K; ignored without an addend */
    void *y;               /* BF16 [M, K], aligned to 2, of width 16 and W4AXK_LATCHED: written at 16 bits. Overlaps no
                            * input. Otherwise ignored */
    int64_t y_stride;      /* elements from row to row, at least K */
    void *packed;          /* of width 2, 4, 8 and W4AXK_LATCHED, as in w4axk_quantize_args. Otherwise ignored */
    uint64_t packed_bytes; /* size of `packed` */
    uint32_t m;
    uint32_t k;
    uint32_t width;    /* 2, 4, 8, 16 or W4AXK_LATCHED */
    uint32_t group;    /* w4axk_grouping of the weights that the result is multiplied with */
    uint32_t family;   /* as in w4axk_quantize_args */
    uint32_t op;       /* w4axk_row_op; otherwise W4AXK_BAD_MODE */
    uint32_t x_type;   /* w4axk_value_type; W4AXK_SILU_MUL takes BF16 only; otherwise W4AXK_BAD_MODE */
    uint32_t kernel;   /* w4axk_row_op_kernel; otherwise W4AXK_BAD_MODE */
    float eps;         /* of W4AXK_RMS_NORM, positive and finite; otherwise W4AXK_BAD_MODE */
    uint32_t flags;    /* W4AXK_FLAG_* */
    int32_t device;    /* ordinal of the device that all pointers and the stream belong to */
    uint32_t reserved; /* 0 */
    const struct w4axk_latch_state *latch; /* the state of width W4AXK_LATCHED; otherwise ignored */
} w4axk_row_op_args;

/* Launches the operation (host pointer to device pointers). */
w4axk_status w4axk_row_op_launch(const w4axk_row_op_args *args, void *stream);

#ifdef __cplusplus
}
#endif
#endif
