/* Two-level weights: exact values, a GEMM compared with plain C, and wrong calls. */
#include "check.h"

enum { N = 17, K = 100 };

static float plain[N * K], back[N * K];
static uint16_t x[K], y[N];

static uint16_t bf16_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16); /* to nearest, ties to even */
}

/* Values of a weight with the scale 1 in each channel, and the step 16 in the first group and 1 in the others. */
static w4ax_quantize_args exact_args(void) {
    w4ax_quantize_args args;
    size_t i;
    for (i = 0; i < N * K; i++) {
        int code = i % K % 32 == 0 ? 7 : (int)(i * 7919 % 15) - 7;
        plain[i] = (float)(i % K < 32 ? 16 * code : code);
    }
    memset(&args, 0, sizeof args);
    args.w = plain;
    args.w_len = N * K;
    args.w_stride = K;
    args.n = N;
    args.k = K;
    args.w_type = W4AX_TYPE_F32;
    args.grouping = W4AX_G32;
    args.symmetry = W4AX_SYMMETRIC;
    args.scale_type = W4AX_TYPE_F32;
    return args;
}

/* The sums of the activations with the weights are exact: the scale of A8 is 1. */
static void multiply(const w4ax_weight *weight) {
    static const uint32_t widths[] = {W4AX_A8, W4AX_BF16};
    w4ax_gemm_args args;
    w4ax_cpu *cpu = NULL;
    w4ax_workspace *workspace = NULL;
    size_t i, width;
    memset(x, 0, sizeof x);
    x[3] = bf16_of(255.0f);
    x[40] = bf16_of(1.0f);
    memset(&args, 0, sizeof args);
    args.weight = weight;
    args.x = x;
    args.x_len = args.x_stride = args.k = K;
    args.y = y;
    args.y_len = args.y_stride = args.n = N;
    args.m = 1;
    OK(w4ax_cpu_create(NULL, 1, &cpu));
    OK(w4ax_workspace_create(cpu, 1, K, &workspace));
    for (width = 0; width < 2; width++) {
        args.width = widths[width];
        memset(y, 0xFF, sizeof y);
        OK(w4ax_cpu_gemm(cpu, &args, workspace));
        for (i = 0; i < N; i++) {
            CHECK(y[i] == bf16_of(255.0f * plain[i * K + 3] + plain[i * K + 40]));
        }
    }
    w4ax_workspace_free(workspace);
    w4ax_cpu_free(cpu);
}

static void quantize(uint32_t clipping) {
    w4ax_quantize_args args = exact_args();
    w4ax_weight *weight = NULL;
    w4ax_scheme scheme = 99;
    int8_t q = 55;
    size_t i;
    OK(w4ax_weight_quantize_as(&args, W4AX_TWO_LEVEL, clipping, &weight));
    OK(w4ax_weight_get_scheme(weight, &scheme));
    CHECK(scheme == W4AX_TWO_LEVEL);
    OK(w4ax_weight_dequantize(weight, back, N * K));
    for (i = 0; i < N * K; i++) {
        CHECK(back[i] == plain[i]);
    }
    multiply(weight);
    /* The arguments of w4ax_weight_pack have no place for the steps. */
    EXPECT(W4AX_NO_BACKEND, w4ax_weight_unpack(weight, &q, 1, NULL, 0, NULL, 0));
    CHECK(q == 55);
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_get_scheme(NULL, &scheme));
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_get_scheme(weight, NULL));
    w4ax_weight_free(weight);
}

/* Values that are already quantized, with zero points and an order of k, come back with the same bits. */
static void pack_and_unpack(void) {
    enum { GROUPS = 4 };
    static int8_t q[N * K], q_back[N * K], zeros[N * GROUPS], zeros_back[N * GROUPS];
    static uint8_t steps[N * GROUPS], steps_back[N * GROUPS];
    static float scales[N], scales_back[N];
    static uint32_t order[K];
    w4ax_pack_args args;
    w4ax_weight *weight = NULL, *none = (w4ax_weight *)&weight;
    size_t i;
    for (i = 0; i < N * K; i++) {
        q[i] = (int8_t)((int)(i * 7919 % 16) - 8);
    }
    for (i = 0; i < N * GROUPS; i++) {
        steps[i] = (uint8_t)(1 + i % 12);
        zeros[i] = (int8_t)((int)(i % 5) - 2);
    }
    for (i = 0; i < N; i++) {
        scales[i] = 0.25f * (float)(i + 1);
    }
    for (i = 0; i < K; i++) {
        order[i] = (uint32_t)(K - 1 - i);
    }
    memset(&args, 0, sizeof args);
    args.q = q;
    args.q_len = N * K;
    args.q_stride = args.k = K;
    args.scales = scales;
    args.scales_len = args.n = N;
    args.zeros = zeros;
    args.zeros_len = N * GROUPS;
    args.order = order;
    args.order_len = K;
    args.grouping = W4AX_G32;
    args.scale_type = W4AX_TYPE_F32;
    OK(w4ax_weight_pack_two_level(&args, steps, N * GROUPS, &weight));
    OK(w4ax_weight_unpack_two_level(weight, q_back, N * K, scales_back, N, zeros_back, N * GROUPS, steps_back,
                                    N * GROUPS));
    CHECK(memcmp(q, q_back, sizeof q) == 0 && memcmp(scales, scales_back, sizeof scales) == 0);
    CHECK(memcmp(zeros, zeros_back, sizeof zeros) == 0 && memcmp(steps, steps_back, sizeof steps) == 0);
    OK(w4ax_weight_dequantize(weight, back, N * K));
    for (i = 0; i < N * K; i++) {
        /* The groups are those of the order. */
        size_t group = i / K * GROUPS + (K - 1 - i % K) / 32;
        CHECK(back[i] == (float)((q[i] - zeros[group]) * steps[group]) * scales[i / K]);
    }
    steps_back[0] = 99;
    EXPECT(W4AX_BUFFER_TOO_SMALL, w4ax_weight_unpack_two_level(weight, NULL, 0, scales_back, N - 1, NULL, 0, steps_back,
                                                               N * GROUPS));
    CHECK(steps_back[0] == 99);
    w4ax_weight_free(weight);
    EXPECT(W4AX_BAD_SHAPE, w4ax_weight_pack_two_level(&args, steps, N * GROUPS - 1, &none));
    CHECK(none == NULL);
    steps[5] = 17;
    EXPECT(W4AX_OUT_OF_RANGE, w4ax_weight_pack_two_level(&args, steps, N * GROUPS, &none));
    steps[5] = 16; /* (7 + 2) * 16 exceeds 127 */
    EXPECT(W4AX_OUT_OF_RANGE, w4ax_weight_pack_two_level(&args, steps, N * GROUPS, &none));
}

/* A grouped weight without a search is that of w4ax_weight_quantize. */
static void same_as_quantize(void) {
    w4ax_quantize_args args = exact_args();
    w4ax_weight *weight = NULL, *same = NULL;
    w4ax_scheme scheme = 99;
    size_t i;
    for (i = 0; i < N * K; i++) {
        plain[i] = (float)(i * 7919 % 201) - 100.0f;
    }
    OK(w4ax_weight_quantize(&args, &weight));
    OK(w4ax_weight_quantize_as(&args, W4AX_GROUPED, W4AX_ABSMAX, &same));
    OK(w4ax_weight_get_scheme(same, &scheme));
    CHECK(scheme == W4AX_GROUPED);
    OK(w4ax_weight_dequantize(weight, back, N * K));
    OK(w4ax_weight_dequantize(same, plain, N * K));
    CHECK(memcmp(plain, back, sizeof back) == 0);
    /* It has no steps. */
    EXPECT(W4AX_NO_BACKEND, w4ax_weight_unpack_two_level(same, NULL, 0, NULL, 0, NULL, 0, NULL, 0));
    w4ax_weight_free(weight);
    w4ax_weight_free(same);
}

static void refused(uint32_t expected, const w4ax_quantize_args *args, uint32_t scheme, uint32_t clipping) {
    w4ax_weight *weight = (w4ax_weight *)&weight;
    EXPECT(expected, w4ax_weight_quantize_as(args, scheme, clipping, &weight));
    CHECK(weight == NULL);
}

static void misuse(void) {
    w4ax_quantize_args args = exact_args();
    refused(W4AX_NULL_POINTER, NULL, W4AX_GROUPED, W4AX_ABSMAX);
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_quantize_as(&args, W4AX_GROUPED, W4AX_ABSMAX, NULL));
    refused(W4AX_BAD_ENUM, &args, 2, W4AX_ABSMAX);
    refused(W4AX_BAD_ENUM, &args, W4AX_GROUPED, 2);
    CHECK(strstr(w4ax_last_error(), "unknown w4ax_clipping 2: expected one of 0, 1") != NULL);
    args.reserved = 1;
    refused(W4AX_BAD_ENUM, &args, W4AX_TWO_LEVEL, W4AX_ABSMAX);
    args = exact_args();
    args.grouping = W4AX_PER_CHANNEL;
    refused(W4AX_OUT_OF_RANGE, &args, W4AX_TWO_LEVEL, W4AX_SQUARED_ERROR);
}

int main(void) {
    quantize(W4AX_ABSMAX);
    quantize(W4AX_SQUARED_ERROR);
    pack_and_unpack();
    same_as_quantize();
    misuse();
    return finish();
}
