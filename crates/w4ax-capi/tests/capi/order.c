/* Weights with an order of k: a packed file of a desc_act checkpoint, and weights that this program packs.
 *
 *     order FOLDER FILE NAME CASE      FOLDER: for temporary files; FILE: the packed file; NAME: of a weight with an order;
 *                                      CASE: m, n, k, width (uint32_t), x [m, k], y [m, n] (BF16) */
#include "check.h"

static uint32_t shape[4];
static uint16_t *x, *gathered, *y, *expected;

static void *allocate(size_t count, size_t size) {
    void *p = calloc(count, size);
    if (!p) {
        exit(2);
    }
    return p;
}

static int read_case(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t m, n, k;
    int complete;
    if (!file || fread(shape, sizeof shape, 1, file) != 1) {
        return 0;
    }
    m = shape[0];
    n = shape[1];
    k = shape[2];
    x = (uint16_t *)allocate(m * k, sizeof *x);
    gathered = (uint16_t *)allocate(m * k, sizeof *gathered);
    y = (uint16_t *)allocate(m * n, sizeof *y);
    expected = (uint16_t *)allocate(m * n, sizeof *expected);
    complete = fread(x, 2, m * k, file) == m * k && fread(expected, 2, m * n, file) == m * n && fgetc(file) == EOF;
    fclose(file);
    return complete;
}

/* Multiplies x, and compares y with the expected bits. */
static void multiply(const w4ax_weight *weight, const uint16_t *input, uint32_t flags) {
    w4ax_gemm_args a;
    w4ax_cpu *cpu = NULL;
    w4ax_workspace *workspace = NULL;
    size_t i, wrong = 0;
    memset(y, 0xEE, sizeof *y * shape[0] * shape[1]);
    OK(w4ax_cpu_create(NULL, 1, &cpu));
    OK(w4ax_workspace_create(cpu, shape[0], shape[2], &workspace));
    memset(&a, 0, sizeof a);
    a.weight = weight;
    a.x = input;
    a.x_len = (size_t)shape[0] * shape[2];
    a.y = y;
    a.y_len = (size_t)shape[0] * shape[1];
    a.m = shape[0];
    a.n = shape[1];
    a.k = shape[2];
    a.width = shape[3];
    a.flags = flags;
    OK(w4ax_cpu_gemm(cpu, &a, workspace));
    for (i = 0; i < a.y_len; i++) {
        wrong += y[i] != expected[i];
    }
    if (wrong) {
        fprintf(stderr, "width %u: %u wrong values\n", (unsigned)shape[3], (unsigned)wrong);
        failures++;
    }
    w4ax_workspace_free(workspace);
    w4ax_cpu_free(cpu);
}

/* Multiplies x in the order of the matrix, and x that this program gathers. */
static void multiply_both(const w4ax_weight *weight) {
    w4ax_weight_info info;
    size_t k = shape[2], row, i;
    uint32_t *order = (uint32_t *)allocate(k, sizeof *order);
    OK(w4ax_weight_get_info(weight, &info));
    CHECK(info.has_order == 1 && info.k == k);
    OK(w4ax_weight_get_order(weight, order, k));
    for (row = 0; row < shape[0]; row++) {
        for (i = 0; i < k; i++) {
            gathered[row * k + i] = x[row * k + order[i]];
        }
    }
    multiply(weight, x, 0);
    multiply(weight, gathered, W4AX_GATHERED);
    free(order);
}

/* Unpacks a weight and packs it again: the values, the order and the results are the same. */
static void repack(const w4ax_weight *weight) {
    w4ax_weight *again = NULL;
    w4ax_weight_info info;
    w4ax_pack_args a;
    size_t values, scale_count;
    int8_t *q, *q_again, *zeros;
    uint32_t *order;
    void *scales;
    OK(w4ax_weight_get_info(weight, &info));
    values = info.n * info.k;
    scale_count = info.n * info.groups;
    q = (int8_t *)allocate(values, 1);
    q_again = (int8_t *)allocate(values, 1);
    zeros = (int8_t *)allocate(scale_count, 1);
    scales = allocate(scale_count, 4);
    order = (uint32_t *)allocate(info.k, sizeof *order);
    OK(w4ax_weight_unpack(weight, q, values, scales, scale_count, zeros, scale_count));
    OK(w4ax_weight_get_order(weight, order, info.k));
    memset(&a, 0, sizeof a);
    a.q = q;
    a.q_len = values;
    a.scales = scales;
    a.scales_len = scale_count;
    a.zeros = info.symmetry == W4AX_SYMMETRIC ? NULL : zeros;
    a.zeros_len = info.symmetry == W4AX_SYMMETRIC ? 0 : scale_count;
    a.order = order;
    a.order_len = info.k;
    a.n = info.n;
    a.k = info.k;
    a.grouping = info.grouping;
    a.scale_type = info.scale_type;
    a.threads = 1;
    OK(w4ax_weight_pack(&a, &again));
    OK(w4ax_weight_unpack(again, q_again, values, NULL, 0, NULL, 0));
    CHECK(memcmp(q, q_again, values) == 0);
    multiply_both(again);
    w4ax_weight_free(again);
    free(q);
    free(q_again);
    free(zeros);
    free(scales);
    free(order);
}

/* Packs a weight with a small order, and wrong orders. */
static void orders(void) {
    enum { N = 2, K = 35, GROUPS = 2 };
    static int8_t q[N * K];
    static float scales[N * GROUPS] = {1, 2, 4, 8}, w[N * K];
    uint32_t order[K + 1], back[K], i, channel;
    w4ax_weight *weight = NULL;
    w4ax_weight_info info;
    w4ax_pack_args a;
    memset(&a, 0, sizeof a);
    for (i = 0; i < N * K; i++) {
        q[i] = (int8_t)((int)(i * 7 % 16) - 8);
    }
    for (i = 0; i < K; i++) {
        order[i] = (i + 3) % K;
    }
    a.q = q;
    a.q_len = N * K;
    a.scales = scales;
    a.scales_len = N * GROUPS;
    a.order = order;
    a.order_len = K;
    a.n = N;
    a.k = K;
    a.grouping = W4AX_G32;
    a.threads = 1;
    OK(w4ax_weight_pack(&a, &weight));
    OK(w4ax_weight_get_info(weight, &info));
    CHECK(info.has_order == 1);
    OK(w4ax_weight_get_order(weight, back, K));
    CHECK(memcmp(back, order, sizeof back) == 0);
    /* Groups are formed in the order of k; values are returned in the order of the matrix. */
    OK(w4ax_weight_dequantize(weight, w, N * K));
    for (channel = 0; channel < N; channel++) {
        for (i = 0; i < K; i++) {
            uint32_t k = order[i];
            CHECK(w[channel * K + k] == (float)q[channel * K + k] * scales[channel * GROUPS + i / 32]);
        }
    }
    w4ax_weight_free(weight);

#define NOT(status, change)                                                                                            \
    do {                                                                                                               \
        w4ax_pack_args saved = a;                                                                                      \
        change;                                                                                                        \
        weight = (w4ax_weight *)&a;                                                                                    \
        EXPECT(status, w4ax_weight_pack(&a, &weight));                                                                 \
        CHECK(weight == NULL);                                                                                         \
        a = saved;                                                                                                     \
    } while (0)
    NOT(W4AX_NULL_POINTER, a.order = NULL);
    NOT(W4AX_MISALIGNED, a.order = (const uint32_t *)odd(order));
    NOT(W4AX_BAD_SHAPE, (order[K] = K, a.order_len = K + 1));
    NOT(W4AX_OUT_OF_RANGE, a.order_len = K - 1); /* order[K - 4] is K - 1 */
    NOT(W4AX_OUT_OF_RANGE, a.order_len = SIZE_MAX);
    order[0] = K; /* out of range */
    NOT(W4AX_OUT_OF_RANGE, (void)0);
    order[0] = 4; /* repeated */
    NOT(W4AX_OUT_OF_RANGE, (void)0);
#undef NOT

    /* The order of the matrix is no order. */
    for (i = 0; i < K; i++) {
        order[i] = i;
    }
    OK(w4ax_weight_pack(&a, &weight));
    OK(w4ax_weight_get_info(weight, &info));
    CHECK(info.has_order == 0);
    memset(back, 0xEE, sizeof back);
    OK(w4ax_weight_get_order(weight, back, K));
    CHECK(memcmp(back, order, sizeof back) == 0);
    w4ax_weight_free(weight);
}

/* Loads the file, multiplies, and saves the weight to another file. */
static void files(const char *folder, const char *path, const char *name) {
    char copy[4096];
    w4ax_file *file = NULL;
    w4ax_weight *weight = NULL;
    size_t count = 0;
    OK(w4ax_file_load(path, 1, &file));
    EXPECT(W4AX_NOT_FOUND, w4ax_file_get(file, "no such", &weight));
    CHECK(weight == NULL);
    OK(w4ax_file_get(file, name, &weight));
    w4ax_file_free(file);
    multiply_both(weight);
    repack(weight);

    OK(w4ax_file_create(&file));
    OK(w4ax_file_insert(file, "ordered", weight));
    w4ax_weight_free(weight);
    snprintf(copy, sizeof copy, "%s/copy.safetensors", folder);
    OK(w4ax_file_save(file, copy));
    w4ax_file_free(file);
    OK(w4ax_file_load(copy, 1, &file));
    OK(w4ax_file_count(file, &count));
    CHECK(count == 1);
    OK(w4ax_file_get(file, "ordered", &weight));
    multiply_both(weight);
    w4ax_weight_free(weight);
    w4ax_file_free(file);
    remove(copy);
}

int main(int argc, char **argv) {
    if (argc < 5 || !read_case(argv[4])) {
        fprintf(stderr, "usage: order FOLDER FILE NAME CASE\n");
        return 2;
    }
    orders();
    files(argv[1], argv[2], argv[3]);
    free(x);
    free(gathered);
    free(y);
    free(expected);
    return finish();
}
