/* Skips layers of a step, decided on the device (DySL-VLA, arXiv 2602.22896). Part of the private C ABI, with the
 * conventions of w4ax_kernels.h. The GEMMs do not include this header, so a change here does not recompile them.
 *
 * The layers 0..n of a stack are static (they always run) or dynamic. A gap is a range of dynamic layers between two
 * static ones. The layers of a gap before its allow-point run. From the allow-point on a controller decides, layer by
 * layer, on the layer's input. The first layer that it skips is replaced by its adapter, and the rest of the gap is
 * skipped as well.
 *
 * A step is a graph of IF nodes. w4axk_skip_begin reads the allow-points, once for the whole step. Each dynamic layer
 * has an IF node that computes the controller's hidden vector, then w4axk_skip_decide, an IF node with the layer, and
 * an IF node with the layer's adapter. The host does not wait in between. */
#ifndef W4AX_SKIP_H
#define W4AX_SKIP_H

#include "w4ax_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Why a dynamic layer ran or was skipped. */
typedef enum w4axk_skip_reason {
    W4AXK_SKIP_NONE = 0,    /* not decided yet */
    W4AXK_SKIP_FORCED = 1,  /* ran: the layer precedes the allow-point */
    W4AXK_SKIP_STALE = 2,   /* ran: the gap's word was not this step's, or not an allow-point of the gap */
    W4AXK_SKIP_KEPT = 3,    /* ran: the controller's p is not above the threshold */
    W4AXK_SKIP_NAN = 4,     /* ran: the controller's p is NaN */
    W4AXK_SKIP_SKIPPED = 5, /* its adapter ran: the controller's p is above the threshold */
    W4AXK_SKIP_PASSED = 6   /* nothing ran: an earlier layer of the gap was skipped */
} w4axk_skip_reason;

enum {
    W4AXK_MAX_SKIP_GAPS = 64,
    W4AXK_MAX_SKIP_HIDDEN = 65536 /* of a controller's hidden vector */
};

/* The current step. Device memory, aligned to 8. The owner initializes it to {first sequence, first sequence}. */
typedef struct w4axk_skip_state {
    uint32_t next;     /* the sequence of the next step */
    uint32_t sequence; /* the sequence of the current step */
} w4axk_skip_state;

/* A gap of the current step. Device memory, aligned to 16. w4axk_skip_begin writes all of it. */
typedef struct w4axk_skip_gap {
    uint32_t allow;   /* the first layer whose controller runs; the gap's end if none does */
    uint32_t skipped; /* 1 once a layer was skipped */
    uint32_t stale;   /* 1 if the word was not this step's */
    uint32_t reserved;
} w4axk_skip_gap;

/* Begins a step: reads the word of each gap once and advances the sequence. */
typedef struct w4axk_skip_begin_args {
    w4axk_skip_state *state;
    w4axk_skip_gap *gaps;  /* [gap_count] */
    const uint64_t *allow; /* [gap_count], the words that the host stores, sequence << 32 | layer + 1, at their device
                            * address: mapped host memory that is not write-combined, or device memory; aligned to 8.
                            * 0 and layers outside first..=end are no word of any step */
    uint32_t first[W4AXK_MAX_SKIP_GAPS];       /* each gap's first layer */
    uint32_t end[W4AXK_MAX_SKIP_GAPS];         /* the layer after its last, above first */
    uint64_t controllers[W4AXK_MAX_SKIP_GAPS]; /* the conditional handle of each gap's first controller: set to 1 if it
                                                * runs, otherwise to 0 */
    uint32_t gap_count;                        /* 1 to W4AXK_MAX_SKIP_GAPS */
    uint32_t flags;                            /* W4AXK_FLAG_* */
    int32_t device;
    uint32_t reserved; /* 0 */
} w4axk_skip_begin_args;

/* Decides about one dynamic layer: p = sigmoid(sum over j of out[j] * silu(hidden[j]) + bias), in f32. */
typedef struct w4axk_skip_decide_args {
    const w4axk_skip_state *state;
    w4axk_skip_gap *gap;  /* the layer's gap */
    const void *hidden;   /* BF16 [hidden_len], aligned to 2; read only if the controller runs */
    const float *out;     /* F32 [hidden_len], aligned to 4 */
    uint64_t *report;     /* a word for the host, aligned to 8: bits 63..32 p (0 unless the controller ran), bits 31..8
                           * the lower 24 bits of the sequence, bits 7..0 w4axk_skip_reason */
    uint64_t run_layer;   /* the handle of the layer's IF node, set to 1 or 0 */
    uint64_t run_adapter; /* the handle of the adapter's IF node, set to 1 or 0 */
    uint64_t next_controller; /* with has_next: the handle of the next layer's controller, which runs unless this layer
                               * is skipped */
    uint32_t has_next;        /* 0 for the last layer of a gap, otherwise 1 */
    uint32_t hidden_len;      /* 1 to W4AXK_MAX_SKIP_HIDDEN */
    uint32_t layer;
    float bias;
    float threshold; /* the layer is skipped if p is above it; from 0 to 1 */
    uint32_t flags;  /* W4AXK_FLAG_* */
    int32_t device;
    uint32_t reserved; /* 0 */
} w4axk_skip_decide_args;

/* Both need a driver of CUDA 12.4, as their graphs do; otherwise they return W4AXK_DRIVER_TOO_OLD. */
w4axk_status w4axk_skip_begin(const w4axk_skip_begin_args *args, void *stream);
w4axk_status w4axk_skip_decide(const w4axk_skip_decide_args *args, void *stream);

/* ---- IF nodes ---- */

/* Creates the handle of an IF node of this graph. Each launch resets it to `initial` (0 or 1). */
w4axk_status w4axk_graph_if_handle(w4axk_graph *graph, uint32_t initial, uint64_t *handle);

/* Appends the IF node of a handle to the graph. Its body is empty; the caller destroys it. */
w4axk_status w4axk_graph_add_if(w4axk_graph *graph, uint64_t handle, w4axk_graph **body);

#ifdef __cplusplus
}
#endif
#endif
