/* A desc_act checkpoint's packed file, from C: its weights are loaded with their orders, x is gathered and multiplied, every bit is
 * compared; and what is wrong about an order is a status.
 *
 *     order FOLDER FILE NAME CASE      FOLDER: where it may write; FILE: the packed file; NAME: a weight in another order;
 *                                      CASE: m, n, k, width (uint32_t), x [m, k], y [m, n] (BF16) */
#include "check.h"

static uint32_t shape[4];
static uint16_t *x, *gathered, *y, *expected;

static uint16_t *room(size_t count) {
    uint16_t *p = (uint16_t *)calloc(count, sizeof *p);
    if (!p) {
        exit(2);
    }
    return p;
}

static int read_case(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t m, n, k;
    int there;
    if (!file || fread(shape, sizeof shape, 1, file) != 1) {
        return 0;
    }
    m = shape[0];
    n = shape[1];
    k = shape[2];
    x = room(m * k);
    gathered = room(m * k);
    y = room(m * n);
    expected = room(m * n);
    there = fread(x, 2, m * k, file) == m * k && fread(expected, 2, m * n, file) == m * n && fgetc(file) == EOF;
    fclose(file);
    return there;
}

static w4ax_gather_args gather_args(void) {
    w4ax_gather_args a;
    memset(&a, 0, sizeof a);
    a.m = shape[0];
    a.k = shape[2];
    a.x = x;
    a.x_len = a.m * a.k;
    a.gathered = gathered;
    a.gathered_len = a.m * a.k;
    return a;
}

/* Gathers, multiplies, compares. */
static void run(const w4ax_weight *weight, const w4ax_order *order) {
    w4ax_gather_args g = gather_args();
    w4ax_gemm_args a;
    w4ax_cpu *cpu = NULL;
    w4ax_workspace *workspace = NULL;
    size_t i, wrong = 0;
    memset(y, 0xEE, sizeof *y * shape[0] * shape[1]);
    OK(w4ax_order_gather(order, &g));
    OK(w4ax_cpu_create(NULL, 1, &cpu));
    OK(w4ax_workspace_create(cpu, shape[0], shape[2], &workspace));
    memset(&a, 0, sizeof a);
    a.weight = weight;
    a.x = gathered;
    a.x_len = (size_t)shape[0] * shape[2];
    a.y = y;
    a.y_len = (size_t)shape[0] * shape[1];
    a.m = shape[0];
    a.n = shape[1];
    a.k = shape[2];
    a.width = shape[3];
    OK(w4ax_cpu_gemm(cpu, &a, workspace));
    for (i = 0; i < a.y_len; i++) {
        wrong += y[i] != expected[i];
    }
    if (wrong) {
        fprintf(stderr, "width %u: %u values are wrong\n", (unsigned)shape[3], (unsigned)wrong);
        failures++;
    }
    w4ax_workspace_free(workspace);
    w4ax_cpu_free(cpu);
}

static void orders(void) {
    uint32_t ks[5] = {4, 2, 0, 1, 3}, back[5];
    w4ax_order *order = (w4ax_order *)&shape;
    w4ax_gather_args a;
    size_t k = 77, i;
    EXPECT(W4AX_NULL_POINTER, w4ax_order_create(ks, 5, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_order_create(NULL, 5, &order));
    CHECK(order == NULL);
    EXPECT(W4AX_MISALIGNED, w4ax_order_create((const uint32_t *)(const void *)((char *)ks + 2), 4, &order));
    ks[0] = 5; /* beyond */
    EXPECT(W4AX_OUT_OF_RANGE, w4ax_order_create(ks, 5, &order));
    ks[0] = 3; /* twice */
    EXPECT(W4AX_OUT_OF_RANGE, w4ax_order_create(ks, 5, &order));
    CHECK(order == NULL);
    ks[0] = 4;
    OK(w4ax_order_create(ks, 5, &order));
    EXPECT(W4AX_NULL_POINTER, w4ax_order_k(NULL, &k));
    EXPECT(W4AX_NULL_POINTER, w4ax_order_k(order, NULL));
    CHECK(k == 77);
    OK(w4ax_order_k(order, &k));
    CHECK(k == 5);
    EXPECT(W4AX_NULL_POINTER, w4ax_order_get(NULL, back, 5));
    EXPECT(W4AX_NULL_POINTER, w4ax_order_get(order, NULL, 5));
    EXPECT(W4AX_BUFFER_TOO_SMALL, w4ax_order_get(order, back, 4));
    OK(w4ax_order_get(order, back, 5));
    CHECK(memcmp(back, ks, sizeof ks) == 0);

    a = gather_args();
    EXPECT(W4AX_NULL_POINTER, w4ax_order_gather(order, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_order_gather(NULL, &a));
#define NOT(status, change)                                                                                                      \
    do {                                                                                                                         \
        a = gather_args();                                                                                                       \
        a.m = 2;                                                                                                                 \
        a.k = 5;                                                                                                                 \
        change;                                                                                                                  \
        EXPECT(status, w4ax_order_gather(order, &a));                                                                            \
    } while (0)
    NOT(W4AX_BAD_SHAPE, a.k = 4);
    NOT(W4AX_BAD_SHAPE, a.x_stride = 4);
    NOT(W4AX_BAD_SHAPE, a.gathered_stride = 4);
    NOT(W4AX_BUFFER_TOO_SMALL, a.x_len = 9);
    NOT(W4AX_BUFFER_TOO_SMALL, a.gathered_len = 9);
    NOT(W4AX_NULL_POINTER, a.x = NULL);
    NOT(W4AX_NULL_POINTER, a.gathered = NULL);
    NOT(W4AX_MISALIGNED, a.x = (const uint16_t *)(const void *)((char *)x + 1));
    NOT(W4AX_OVERLAP, a.gathered = x + 9);
    for (i = 0; i < (size_t)shape[0] * shape[2]; i++) {
        CHECK(gathered[i] == 0);
    }
    NOT(W4AX_OK, a.m = 0);
    NOT(W4AX_OK, (a.x_stride = 6, a.gathered_stride = 7));
    for (i = 0; i < 5; i++) {
        CHECK(gathered[i] == x[ks[i]] && gathered[7 + i] == x[6 + ks[i]]);
    }
    CHECK(gathered[5] == 0 && gathered[6] == 0);
    w4ax_order_free(order);
    w4ax_order_free(NULL);
}

static void files(const char *folder, const char *path, const char *name) {
    char copy[4096];
    w4ax_file *file = NULL;
    w4ax_weight *weight = NULL, *refused = (w4ax_weight *)&shape;
    w4ax_order *order = NULL, *none = (w4ax_order *)&shape, *other = NULL;
    uint32_t zero = 0;
    size_t k = 0;
    OK(w4ax_file_load(path, 1, &file));
    EXPECT(W4AX_BAD_FORMAT, w4ax_file_get(file, name, &refused));
    CHECK(refused == NULL && strstr(w4ax_last_error(), "gathered") != NULL);
    EXPECT(W4AX_NOT_FOUND, w4ax_file_get_act_order(file, "no such", &weight, &order));
    CHECK(weight == NULL && order == NULL);
    EXPECT(W4AX_NULL_POINTER, w4ax_file_get_act_order(file, name, NULL, &order));
    EXPECT(W4AX_NULL_POINTER, w4ax_file_get_act_order(file, name, &weight, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_file_get_act_order(NULL, name, &weight, &order));
    OK(w4ax_file_get_act_order(file, name, &weight, &order));
    CHECK(weight != NULL && order != NULL);
    OK(w4ax_order_k(order, &k));
    CHECK(k == shape[2]);
    run(weight, order);

    /* Another file with it, and the same values without their order. */
    w4ax_file_free(file);
    OK(w4ax_file_create(&file));
    OK(w4ax_order_create(&zero, 1, &other));
    EXPECT(W4AX_BAD_SHAPE, w4ax_file_insert_act_order(file, "ordered", weight, other));
    EXPECT(W4AX_NULL_POINTER, w4ax_file_insert_act_order(file, "ordered", weight, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_file_insert_act_order(file, "ordered", NULL, order));
    OK(w4ax_file_insert_act_order(file, "ordered", weight, order));
    OK(w4ax_file_insert(file, "plain", weight));
    w4ax_weight_free(weight);
    w4ax_order_free(order);
    snprintf(copy, sizeof copy, "%s/copy.safetensors", folder);
    OK(w4ax_file_save(file, copy));
    w4ax_file_free(file);
    OK(w4ax_file_load(copy, 1, &file));
    OK(w4ax_file_count(file, &k));
    CHECK(k == 2);
    OK(w4ax_file_get_act_order(file, "plain", &weight, &none));
    CHECK(weight != NULL && none == NULL);
    w4ax_weight_free(weight);
    OK(w4ax_file_get_act_order(file, "ordered", &weight, &order));
    run(weight, order);
    w4ax_weight_free(weight);
    w4ax_order_free(order);
    w4ax_order_free(other);
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
