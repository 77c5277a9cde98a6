/* Gathers activations into the order of a weight's k (desc_act of GPTQ). Part of the private C ABI, with the
 * conventions of w4ax_kernels.h. The GEMMs do not include this header, so a change here does not recompile them. */
#ifndef W4AX_ORDER_H
#define W4AX_ORDER_H

#include "w4ax_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The kernel that gathers. */
typedef enum w4axk_gather_kernel {
    W4AXK_GATHER_PAIRS = 0, /* two k of up to 8 tokens per thread */
    W4AXK_GATHER_PLAIN = 1  /* the reference: one value per thread */
} w4axk_gather_kernel;

/* y[m, i] = x[m, order[i]] */
typedef struct w4axk_gather_args {
    const void *x;         /* BF16 [M, K], aligned to 2 */
    int64_t x_stride;      /* elements from row to row, at least K */
    const uint32_t *order; /* [K], each below K, as KOrder has checked; aligned to 8. No launch writes it */
    void *y;               /* BF16 [M, K], aligned to 2; overlaps neither x nor order */
    int64_t y_stride;      /* elements from row to row, at least K */
    uint32_t m;
    uint32_t k;
    uint32_t kernel; /* w4axk_gather_kernel; otherwise W4AXK_BAD_MODE */
    uint32_t flags;  /* W4AXK_FLAG_* */
    int32_t device;
    uint32_t reserved; /* 0 */
} w4axk_gather_args;

/* Launches the gather (host pointer to device pointers). */
w4axk_status w4axk_gather(const w4axk_gather_args *args, void *stream);

#ifdef __cplusplus
}
#endif
#endif
