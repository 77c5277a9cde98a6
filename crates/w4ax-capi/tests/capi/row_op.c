/* Row operations and activations of several GEMMs on the CPU: the fused calls have the bits of the unfused ones, and
 * wrong calls are statuses. The addresses of calls on a GPU are checked without a device. */
#include "check.h"

#include "w4ax_gpu.h"

enum { M = 5, N = 33, K = 100, X = M * K, Y = M * N };

static const uint32_t WIDTHS[] = {W4AX_A2, W4AX_A4, W4AX_A8};
static float plain[N * K], wide[X];
static uint16_t gate[X], up[X], norm[K], rows[X], y[Y], expected[Y];

static uint16_t bf16_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16); /* to nearest, ties to even */
}

static void fill(void) {
    size_t i;
    for (i = 0; i < N * K; i++) plain[i] = (float)(i * 7919 % 31) / 16.0f - 1.0f;
    for (i = 0; i < X; i++) {
        wide[i] = (float)(i * 104729 % 997) / 100.0f - 5.0f;
        gate[i] = bf16_of(wide[i]);
        up[i] = bf16_of((float)(i * 31 % 89) / 40.0f - 1.0f);
    }
    for (i = 0; i < K; i++) norm[i] = bf16_of(0.5f + (float)(i % 7) / 4.0f);
}

static w4ax_weight *make_weight(w4ax_scheme scheme) {
    w4ax_quantize_args args;
    w4ax_weight *weight = NULL;
    memset(&args, 0, sizeof args);
    args.w = plain;
    args.w_len = N * K;
    args.n = N;
    args.k = K;
    args.w_type = W4AX_TYPE_F32;
    args.grouping = W4AX_G32;
    args.scale_type = W4AX_TYPE_F32;
    OK(w4ax_weight_quantize_as(&args, scheme, W4AX_ABSMAX, &weight));
    return weight;
}

static w4ax_rms_norm_args norm_args(uint32_t x_type) {
    w4ax_rms_norm_args a;
    memset(&a, 0, sizeof a);
    a.x = x_type == W4AX_TYPE_F32 ? (void *)wide : (void *)gate;
    a.x_len = X;
    a.norm = norm;
    a.norm_len = K;
    a.y = rows;
    a.y_len = X;
    a.m = M;
    a.k = K;
    a.width = W4AX_BF16;
    a.x_type = x_type;
    a.eps = 1e-5f;
    return a;
}

static w4ax_silu_mul_args silu_args(void) {
    w4ax_silu_mul_args a;
    memset(&a, 0, sizeof a);
    a.gate = gate;
    a.gate_len = X;
    a.up = up;
    a.up_len = X;
    a.y = rows;
    a.y_len = X;
    a.m = M;
    a.k = K;
    a.width = W4AX_BF16;
    return a;
}

static w4ax_gemm_args gemm_args(const w4ax_weight *weight, uint32_t width) {
    w4ax_gemm_args a;
    memset(&a, 0, sizeof a);
    a.weight = weight;
    a.x = rows;
    a.x_len = X;
    a.y = y;
    a.y_len = Y;
    a.m = M;
    a.n = N;
    a.k = K;
    a.width = width;
    return a;
}

/* The GEMM of `rows`, and that of the activations. */
static void compare(const w4ax_cpu *cpu, const w4ax_weight *weight, uint32_t width, w4ax_activations *activations,
                    w4ax_workspace *workspace) {
    w4ax_gemm_args a = gemm_args(weight, width);
    OK(w4ax_cpu_gemm(cpu, &a, workspace));
    memcpy(expected, y, sizeof y);
    memset(y, 0xFF, sizeof y);
    a.x = NULL;
    a.x_len = 0;
    OK(w4ax_cpu_gemm_quantized(cpu, &a, activations, workspace));
    CHECK(memcmp(expected, y, sizeof y) == 0);
}

static void fused_calls_have_the_bits_of_unfused_ones(const w4ax_cpu *cpu, w4ax_activations *activations,
                                                      w4ax_workspace *workspace, const w4ax_weight *weight) {
    int i, op;
    for (i = 0; i < 3; i++) {
        for (op = 0; op < 4; op++) {
            w4ax_rms_norm_args n = norm_args(op == 1 ? W4AX_TYPE_F32 : W4AX_TYPE_BF16);
            w4ax_silu_mul_args s = silu_args();
            w4ax_activation_args q;
            if (op < 2) OK(w4ax_cpu_rms_norm(cpu, &n, NULL));
            if (op >= 2) OK(w4ax_cpu_silu_mul(cpu, &s, NULL));
            n.y = s.y = NULL;
            n.y_len = s.y_len = 0;
            n.weight = s.weight = weight;
            n.width = s.width = WIDTHS[i];
            if (op < 2) OK(w4ax_cpu_rms_norm(cpu, &n, activations));
            if (op == 2) OK(w4ax_cpu_silu_mul(cpu, &s, activations));
            if (op == 3) {
                memset(&q, 0, sizeof q);
                q.weight = weight;
                q.x = rows;
                q.x_len = X;
                q.m = M;
                q.k = K;
                q.width = WIDTHS[i];
                OK(w4ax_cpu_quantize(cpu, &q, activations));
            }
            compare(cpu, weight, WIDTHS[i], activations, workspace);
        }
    }
}

/* A residual connection and its norm in one call have the bits of an addition and a norm. */
static void additions_before_the_norm(const w4ax_cpu *cpu, w4ax_activations *activations, w4ax_workspace *workspace,
                                      const w4ax_weight *weight) {
    static float x[X], sums[X];
    static uint16_t narrow[X], narrow_sums[X], fused_rows[X];
    int wide_x, i;
    size_t at;
    for (wide_x = 0; wide_x < 2; wide_x++) {
        w4ax_rms_norm_args n = norm_args(wide_x ? W4AX_TYPE_F32 : W4AX_TYPE_BF16);
        for (at = 0; at < X; at++) {
            float addend, bf16_x;
            uint32_t bits = (uint32_t)up[at] << 16;
            memcpy(&addend, &bits, 4);
            bits = (uint32_t)gate[at] << 16;
            memcpy(&bf16_x, &bits, 4);
            sums[at] = wide[at] + addend;
            narrow_sums[at] = bf16_of(bf16_x + addend);
        }
        n.x = wide_x ? (void *)sums : (void *)narrow_sums;
        OK(w4ax_cpu_rms_norm(cpu, &n, NULL)); /* to rows */
        for (i = 0; i < 3; i++) {
            memcpy(x, wide, sizeof x);
            memcpy(narrow, gate, sizeof narrow);
            n = norm_args(wide_x ? W4AX_TYPE_F32 : W4AX_TYPE_BF16);
            n.x = wide_x ? (void *)x : (void *)narrow;
            n.addend = up;
            n.addend_len = X;
            if (i == 0) {
                n.y = fused_rows;
                OK(w4ax_cpu_rms_norm(cpu, &n, NULL));
                CHECK(memcmp(fused_rows, rows, sizeof rows) == 0);
            } else {
                n.y = NULL;
                n.y_len = 0;
                n.weight = weight;
                n.width = WIDTHS[i];
                OK(w4ax_cpu_rms_norm(cpu, &n, activations));
                compare(cpu, weight, WIDTHS[i], activations, workspace);
            }
            CHECK(wide_x ? memcmp(x, sums, sizeof x) == 0 : memcmp(narrow, narrow_sums, sizeof narrow) == 0);
        }
    }
    {
        w4ax_rms_norm_args n = norm_args(W4AX_TYPE_BF16);
        n.addend = gate; /* x itself */
        n.addend_len = X;
        EXPECT(W4AX_OVERLAP, w4ax_cpu_rms_norm(cpu, &n, NULL));
        n.addend = up;
        n.addend_len = X - 1;
        EXPECT(W4AX_BUFFER_TOO_SMALL, w4ax_cpu_rms_norm(cpu, &n, NULL));
        n.addend_len = X;
        n.y = up;
        EXPECT(W4AX_OVERLAP, w4ax_cpu_rms_norm(cpu, &n, NULL));
    }
}

static void wrong_calls_are_statuses(const w4ax_cpu *cpu, w4ax_activations *activations, w4ax_workspace *workspace,
                                     const w4ax_weight *weight, const w4ax_weight *other) {
    w4ax_rms_norm_args n;
    w4ax_silu_mul_args s;
    w4ax_gemm_args g;
#define NORM(status, change)                                                                                           \
    do {                                                                                                               \
        n = norm_args(W4AX_TYPE_BF16);                                                                                 \
        change;                                                                                                        \
        EXPECT(status, w4ax_cpu_rms_norm(cpu, &n, NULL));                                                              \
    } while (0)
    NORM(W4AX_NULL_POINTER, n.x = NULL);
    NORM(W4AX_BAD_SHAPE, n.norm_len = K - 1);
    NORM(W4AX_BUFFER_TOO_SMALL, n.y_len = X - 1);
    NORM(W4AX_OVERLAP, n.y = gate);
    NORM(W4AX_OVERLAP, n.y = norm; n.y_len = K; n.m = 1);
    NORM(W4AX_OUT_OF_RANGE, n.eps = 0.0f);
    NORM(W4AX_OUT_OF_RANGE, n.x_type = W4AX_TYPE_F16);
    NORM(W4AX_BAD_ENUM, n.x_type = 7);
    NORM(W4AX_BAD_WIDTH, n.width = 3);
    NORM(W4AX_OUT_OF_RANGE, n.weight = weight);
    NORM(W4AX_OUT_OF_RANGE, n.width = W4AX_A4);
    NORM(W4AX_NULL_POINTER, n.width = W4AX_A4; n.y = NULL; n.y_len = 0);
#undef NORM
    s = silu_args();
    s.up_len = X - 1;
    EXPECT(W4AX_BUFFER_TOO_SMALL, w4ax_cpu_silu_mul(cpu, &s, NULL));
    s = silu_args();
    s.reserved = 1;
    EXPECT(W4AX_BAD_ENUM, w4ax_cpu_silu_mul(cpu, &s, NULL));
    s = silu_args();
    EXPECT(W4AX_OUT_OF_RANGE, w4ax_cpu_silu_mul(cpu, &s, activations));
    s.y = NULL;
    s.y_len = 0;
    s.width = W4AX_A4;
    s.weight = weight;
    OK(w4ax_cpu_silu_mul(cpu, &s, activations));
    g = gemm_args(weight, W4AX_A4);
    EXPECT(W4AX_OUT_OF_RANGE, w4ax_cpu_gemm_quantized(cpu, &g, activations, workspace));
    g.x = NULL;
    g.x_len = 0;
    OK(w4ax_cpu_gemm_quantized(cpu, &g, activations, workspace));
    g.width = W4AX_A8;
    EXPECT(W4AX_OUT_OF_RANGE, w4ax_cpu_gemm_quantized(cpu, &g, activations, workspace));
    g = gemm_args(other, W4AX_A4);
    g.x = NULL;
    g.x_len = 0;
    EXPECT(W4AX_BAD_SHAPE, w4ax_cpu_gemm_quantized(cpu, &g, activations, workspace));
}

static void arguments_of_a_gpu_are_checked(void) {
    w4ax_gpu_silu_mul_args a;
    w4ax_gpu_rms_norm_args n;
    memset(&n, 0, sizeof n);
    n.x = gate;
    n.y = rows;
    n.x_len = n.y_len = X;
    n.norm = norm;
    n.norm_len = n.k = K;
    n.m = M;
    n.width = W4AX_BF16;
    n.x_type = W4AX_TYPE_BF16;
    n.eps = 1e-5f;
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_rms_norm(NULL, &n, NULL));
    n.addend = gate;
    n.addend_len = X;
    EXPECT(W4AX_OVERLAP, w4ax_gpu_rms_norm(NULL, &n, NULL));
    n.addend = rows;
    EXPECT(W4AX_OVERLAP, w4ax_gpu_rms_norm(NULL, &n, NULL));
    memset(&a, 0, sizeof a);
    a.gate = gate;
    a.gate_len = X;
    a.up = up;
    a.up_len = X;
    a.y = rows;
    a.y_len = X;
    a.m = M;
    a.k = K;
    a.width = W4AX_BF16;
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_silu_mul(NULL, &a, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_silu_mul(NULL, NULL, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_rms_norm(NULL, NULL, NULL));
    a.y = gate;
    EXPECT(W4AX_OVERLAP, w4ax_gpu_silu_mul(NULL, &a, NULL));
    a.y = rows;
    a.width = W4AX_A8;
    EXPECT(W4AX_OUT_OF_RANGE, w4ax_gpu_silu_mul(NULL, &a, NULL));
    a.y = NULL;
    a.y_len = 0;
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_silu_mul(NULL, &a, NULL));
    a.flags = 2;
    EXPECT(W4AX_BAD_ENUM, w4ax_gpu_silu_mul(NULL, &a, NULL));
}

int main(void) {
    w4ax_cpu *cpu = NULL;
    w4ax_workspace *workspace = NULL;
    w4ax_activations *activations = NULL;
    w4ax_weight *grouped, *two_level;
    size_t bytes = 0;
    fill();
    grouped = make_weight(W4AX_GROUPED);
    two_level = make_weight(W4AX_TWO_LEVEL);
    OK(w4ax_cpu_create(NULL, 2, &cpu));
    OK(w4ax_workspace_create(cpu, M, K, &workspace));
    OK(w4ax_activations_create(cpu, M, K, &activations));
    OK(w4ax_activations_bytes(activations, &bytes));
    CHECK(bytes > M * K);
    fused_calls_have_the_bits_of_unfused_ones(cpu, activations, workspace, grouped);
    fused_calls_have_the_bits_of_unfused_ones(cpu, activations, workspace, two_level);
    additions_before_the_norm(cpu, activations, workspace, grouped);
    additions_before_the_norm(cpu, activations, workspace, two_level);
    wrong_calls_are_statuses(cpu, activations, workspace, grouped, two_level);
    arguments_of_a_gpu_are_checked();
    w4ax_activations_free(activations);
    w4ax_activations_free(NULL);
    w4ax_workspace_free(workspace);
    w4ax_cpu_free(cpu);
    w4ax_weight_free(grouped);
    w4ax_weight_free(two_level);
    return finish();
}
