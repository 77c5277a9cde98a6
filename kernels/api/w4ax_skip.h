/* Layers that a step leaves out, decided on the device (DySL-VLA, arXiv 2602.22896): a part of the private C ABI, with the
 * conventions of w4ax_kernels.h. A header of its own: the GEMMs do not include it, so a change here compiles none of them again.
 *
 * The layers 0..n of a stack are static (they always run) or dynamic; a gap is a run of dynamic layers between two static ones.
 * The layers of a gap before its allow-point run. From there on a controller is asked, layer by layer, on the layer's input; the
 * first that says so skips: its adapter runs instead of it and of all layers of the gap behind it.
 *
 * A step is a graph of IF nodes. w4axk_skip_begin reads the allow-points, once for the whole step. Then, for each dynamic layer:
 * an IF node with what computes the controller's hidden vector; w4axk_skip_decide; an IF node with the layer; an IF node with
 * the layer's adapter. The host waits for nothing in between. */
#ifndef W4AX_SKIP_H
#define W4AX_SKIP_H

#include "w4ax_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Why a dynamic layer ran, or did not. */
typedef enum w4axk_skip_reason {
    W4AXK_SKIP_NONE = 0,      /* nothing was written yet */
    W4AXK_SKIP_FORCED = 1,    /* ran: it lies before the allow-point */
    W4AXK_SKIP_STALE = 2,     /* ran: the gap's word was not this step's, or no allow-point of the gap */
    W4AXK_SKIP_KEPT = 3,      /* ran: the controller was asked, and its p is not above the threshold */
    W4AXK_SKIP_NAN = 4,       /* ran: the controller was asked, and its p is not a number */
    W4AXK_SKIP_SKIPPED = 5,   /* its adapter ran: the controller's p is above the threshold */
    W4AXK_SKIP_PASSED = 6     /* nothing ran: a layer of the gap before it skipped */
} w4axk_skip_reason;

enum {
    W4AXK_MAX_SKIP_GAPS = 64,
    W4AXK_MAX_SKIP_HIDDEN = 65536 /* of a controller's hidden vector */
};

/* The step that runs. Device memory, aligned to 8; the owner sets it to {first sequence, first sequence} once. */
typedef struct w4axk_skip_state {
    uint32_t next;        /* the sequence of the next step */
    uint32_t sequence;    /* that of the step that was begun last */
} w4axk_skip_state;

/* A gap in the step that runs. Device memory, aligned to 16; w4axk_skip_begin writes all of it. */
typedef struct w4axk_skip_gap {
    uint32_t allow;       /* the first layer whose controller is asked; the gap's end if none is */
    uint32_t skipped;     /* 1 from the layer on that has skipped */
    uint32_t stale;       /* 1: the word was not this step's */
    uint32_t reserved;
} w4axk_skip_gap;

/* Begins a step: reads the word of each gap once, and counts the step. */
typedef struct w4axk_skip_begin_args {
    w4axk_skip_state *state;
    w4axk_skip_gap *gaps;      /* [gap_count] */
    const uint64_t *allow;     /* [gap_count], the words that the host stores, sequence << 32 | layer + 1, as the device sees them:
                                * host memory that is mapped and not write-combined, or the device's own; aligned to 8. 0, and a
                                * layer below first or above end, is no word of any step */
    uint32_t first[W4AXK_MAX_SKIP_GAPS];          /* each gap's first layer */
    uint32_t end[W4AXK_MAX_SKIP_GAPS];            /* the layer behind its last, above first */
    uint64_t controllers[W4AXK_MAX_SKIP_GAPS];    /* the cudaGraphConditionalHandle of each gap's first controller: set to 1 if it
                                                   * is asked, else to 0 */
    uint32_t gap_count;        /* 1 to W4AXK_MAX_SKIP_GAPS */
    uint32_t flags;            /* W4AXK_FLAG_* */
    int32_t device;
    uint32_t reserved;         /* 0 */
} w4axk_skip_begin_args;

/* Decides about one dynamic layer: p = sigmoid(sum over j of out[j] * silu(hidden[j]) + bias), in f32. */
typedef struct w4axk_skip_decide_args {
    const w4axk_skip_state *state;
    w4axk_skip_gap *gap;       /* the layer's */
    const void *hidden;        /* BF16 [hidden_len], aligned to 2: read if the controller is asked only */
    const float *out;          /* F32 [hidden_len], aligned to 4 */
    uint64_t *report;          /* a word for the host: bits of p in 63..32 (0 unless it was asked), the sequence's lower 24 bits in
                                * 31..8, w4axk_skip_reason in 7..0; aligned to 8 */
    uint64_t run_layer;        /* handles of the layer's IF nodes, set to 1 or 0 */
    uint64_t run_adapter;
    uint64_t next_controller;  /* and, with has_next, of the next layer's controller: it is asked unless this layer skips */
    uint32_t has_next;         /* 0 for the last layer of a gap, else 1 */
    uint32_t hidden_len;       /* 1 to W4AXK_MAX_SKIP_HIDDEN */
    uint32_t layer;
    float bias;
    float threshold;           /* of p: above it the layer skips. From 0 to 1 */
    uint32_t flags;            /* W4AXK_FLAG_* */
    int32_t device;
    uint32_t reserved;         /* 0 */
} w4axk_skip_decide_args;

/* Both need a driver of 12.4, as their graphs do; else W4AXK_DRIVER_TOO_OLD. */
w4axk_status w4axk_skip_begin(const w4axk_skip_begin_args *args, void *stream);
w4axk_status w4axk_skip_decide(const w4axk_skip_decide_args *args, void *stream);

/* ---- IF nodes ---- */

/* A handle of an IF node of this graph, `initial` (0 or 1) at each launch until a kernel says otherwise. */
w4axk_status w4axk_graph_if_handle(w4axk_graph *graph, uint32_t initial, uint64_t *handle);

/* Adds the IF node of a handle after all that is in the graph. Its body is empty yet, and the caller's to destroy. */
w4axk_status w4axk_graph_add_if(w4axk_graph *graph, uint64_t handle, w4axk_graph **body);

#ifdef __cplusplus
}
#endif
#endif
