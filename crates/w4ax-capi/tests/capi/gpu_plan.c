/* Plans, workspaces and sizes for GPUs, which need no device: correct and wrong calls.
 *
 *     gpu_plan TABLE [TEXT]
 *
 * TABLE: the status of queries that need the kernels but no device; TEXT: a part of its w4ax_last_error. */
#include "check.h"
#include "w4ax_gpu.h"

enum { M = 5, N = 20, K = 70, ROOM = 32 * 1024 };

static w4ax_status table;
static const char *why;

static w4ax_gpu_problem problem(void) {
    w4ax_gpu_problem p;
    memset(&p, 0, sizeof p);
    p.m = M;
    p.n = N;
    p.k = K;
    p.grouping = W4AX_G32;
    p.width = W4AX_A4;
    return p;
}

/* Sizes that no kernel supports. They are checked before the kernels, except in a build without feature `cuda`. */
#define REFUSED(call)                                                                                                  \
    do {                                                                                                               \
        w4ax_status refused = (call);                                                                                  \
        CHECK(refused == W4AX_OUT_OF_RANGE || (table != W4AX_OK && refused == table));                                 \
    } while (0)

/* Without kernels, the message has the reason. */
static void no_kernels(w4ax_status status) {
    if (table != W4AX_OK && status != W4AX_OK) {
        CHECK(strstr(w4ax_last_error(), why) != NULL);
    }
}

static void plans(void) {
    w4ax_gpu_problem p = problem();
    w4ax_gpu_plan plan;
    size_t bytes = 77, more = 0;
    uint32_t tiles = 77;
    unsigned char before[sizeof plan];
    memset(&plan, 0xEE, sizeof plan);
    memcpy(before, &plan, sizeof plan);
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_plan_problem(NULL, &plan));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_plan_problem(&p, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_workspace_bytes(NULL, &bytes));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_workspace_bytes(&p, NULL));
    EXPECT(W4AX_MISALIGNED, w4ax_gpu_workspace_bytes(&p, (size_t *)(void *)((char *)&bytes + 1)));
#define NOT(expected, change)                                                                                          \
    do {                                                                                                               \
        p = problem();                                                                                                 \
        change;                                                                                                        \
        EXPECT(expected, w4ax_gpu_plan_problem(&p, &plan));                                                            \
        EXPECT(expected, w4ax_gpu_workspace_bytes(&p, &bytes));                                                        \
        CHECK(memcmp(&plan, before, sizeof plan) == 0 && bytes == 77);                                                 \
    } while (0)
    NOT(W4AX_BAD_WIDTH, p.width = 0);
    NOT(W4AX_BAD_WIDTH, p.width = 3);
    NOT(W4AX_BAD_ENUM, p.grouping = 16);
    NOT(W4AX_BAD_ENUM, p.family = W4AX_FAMILY_WGMMA + 1);
    NOT(W4AX_BAD_ENUM, p.family = UINT32_MAX);
    NOT(W4AX_BAD_ENUM, p.mode = W4AX_MODE_QUANTIZED + 1);
    NOT(W4AX_BAD_ENUM, p.flags = W4AX_GPU_GATHERED);
    NOT(W4AX_BAD_ENUM, p.has_order = 2);
    NOT(W4AX_BAD_ENUM, p.reserved = 1);
    NOT(W4AX_BAD_ENUM, p.flags = W4AX_GPU_PDL | 0x80000000u);
    /* Combinations that no kernel supports. Without kernels, every combination has the status of the table. */
#define RANGE (table == W4AX_OK ? (w4ax_status)W4AX_OUT_OF_RANGE : table)
    NOT(RANGE, p.tile = 99);
    NOT(RANGE, (p.width = W4AX_BF16, p.mode = W4AX_MODE_QUANTIZED));
    NOT(RANGE, (p.family = W4AX_FAMILY_PLAIN, p.mode = W4AX_MODE_QUANTIZED));
    NOT(RANGE, (p.family = W4AX_FAMILY_WGMMA, p.mode = W4AX_MODE_FUSED));
    NOT(RANGE, (p.family = W4AX_FAMILY_DECODE, p.m = W4AX_GPU_DECODE_MAX_M + 1));
#undef NOT
#define NOT(change)                                                                                                    \
    do {                                                                                                               \
        p = problem();                                                                                                 \
        change;                                                                                                        \
        REFUSED(w4ax_gpu_plan_problem(&p, &plan));                                                                     \
        REFUSED(w4ax_gpu_workspace_bytes(&p, &bytes));                                                                 \
        CHECK(memcmp(&plan, before, sizeof plan) == 0 && bytes == 77);                                                 \
    } while (0)
    NOT(p.m = 0);
    NOT(p.n = W4AX_GPU_MAX_EXTENT + 1);
    NOT(p.k = SIZE_MAX);
    NOT((p.grouping = W4AX_PER_CHANNEL, p.k = W4AX_MAX_PER_CHANNEL_K + 1));
#undef NOT
    /* Quantized for the wgmma family: one launch and no workspace. */
    p = problem();
    p.family = W4AX_FAMILY_WGMMA;
    p.mode = W4AX_MODE_QUANTIZED;
    EXPECT(table, w4ax_gpu_plan_problem(&p, &plan));
    CHECK(table != W4AX_OK || (plan.family == W4AX_FAMILY_WGMMA && plan.launches == 1 && plan.workspace_bytes == 0));
    memcpy(&plan, before, sizeof plan);

    p = problem();
    EXPECT(table, w4ax_gpu_plan_problem(&p, &plan));
    no_kernels(table);
    EXPECT(table, w4ax_gpu_workspace_bytes(&p, &bytes));
    if (table == W4AX_OK) {
        CHECK(plan.workspace_bytes <= bytes && bytes > 0);
        CHECK(plan.family == W4AX_FAMILY_DECODE && plan.tile >= 1);
        CHECK(plan.mode == (plan.launches == 2 ? W4AX_MODE_QUANTIZED : W4AX_MODE_FUSED));
        CHECK(strncmp(plan.kernel, "decode_a4", 9) == 0 && plan.mma == W4AX_MMA_NONE && plan.blocks >= 1);
        CHECK(plan.slow_x == 0 && plan.slow_y == 0 && plan.gathers == 0);
        p.mode = W4AX_MODE_FUSED;
        p.family = W4AX_FAMILY_PREFILL;
        p.tile = 2;
        OK(w4ax_gpu_plan_problem(&p, &plan));
        CHECK(plan.family == W4AX_FAMILY_PREFILL && plan.mode == W4AX_MODE_FUSED && plan.tile == 2);
        CHECK(plan.launches == 1 && plan.workspace_bytes == 0);
        /* A gather is a launch more, and takes a part of the workspace. */
        p.has_order = 1;
        OK(w4ax_gpu_plan_problem(&p, &plan));
        CHECK(plan.gathers == 1 && plan.launches == 2 && plan.workspace_bytes >= 2 * M * K);
        OK(w4ax_gpu_workspace_bytes(&p, &more));
        CHECK(more >= plan.workspace_bytes);
        /* The bytes are enough for fewer tokens and narrower widths. */
        p = problem();
        for (p.width = W4AX_A2; p.width <= W4AX_A8; p.width *= 2) {
            for (p.m = 1; p.m <= M; p.m++) {
                OK(w4ax_gpu_workspace_bytes(&p, &more));
                CHECK(p.width > W4AX_A4 || more <= bytes);
                OK(w4ax_gpu_plan_problem(&p, &plan));
                CHECK(plan.workspace_bytes <= more);
            }
        }
    }

    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_tiles(W4AX_FAMILY_DECODE, NULL));
    EXPECT(W4AX_BAD_ENUM, w4ax_gpu_tiles(W4AX_FAMILY_AUTO, &tiles));
    EXPECT(W4AX_BAD_ENUM, w4ax_gpu_tiles(W4AX_FAMILY_WGMMA + 1, &tiles));
    CHECK(tiles == 77);
    EXPECT(table, w4ax_gpu_tiles(W4AX_FAMILY_PREFILL, &tiles));
    no_kernels(table);
    CHECK(table == W4AX_OK ? tiles >= 2 && tiles < 77 : tiles == 77);

    bytes = 77;
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_quantized_bytes(M, K, W4AX_A4, W4AX_G32, W4AX_FAMILY_AUTO, NULL));
    EXPECT(W4AX_BAD_WIDTH, w4ax_gpu_quantized_bytes(M, K, 5, W4AX_G32, W4AX_FAMILY_AUTO, &bytes));
    EXPECT(W4AX_BAD_ENUM, w4ax_gpu_quantized_bytes(M, K, W4AX_A4, 5, W4AX_FAMILY_AUTO, &bytes));
    EXPECT(W4AX_BAD_ENUM, w4ax_gpu_quantized_bytes(M, K, W4AX_A4, W4AX_G32, 5, &bytes));
    REFUSED(w4ax_gpu_quantized_bytes(M, K, W4AX_BF16, W4AX_G32, W4AX_FAMILY_AUTO, &bytes));
    REFUSED(w4ax_gpu_quantized_bytes(M, K, W4AX_A4, W4AX_G32, W4AX_FAMILY_PLAIN, &bytes));
    REFUSED(w4ax_gpu_quantized_bytes(0, K, W4AX_A4, W4AX_G32, W4AX_FAMILY_AUTO, &bytes));
    CHECK(bytes == 77);
    EXPECT(table, w4ax_gpu_quantized_bytes(M, K, W4AX_A4, W4AX_G32, W4AX_FAMILY_AUTO, &bytes));
    no_kernels(table);
    CHECK(table == W4AX_OK ? bytes >= M * K / 2 && bytes < ROOM && bytes != 77 : bytes == 77);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: gpu_plan TABLE [TEXT]\n");
        return 2;
    }
    table = (w4ax_status)strtoul(argv[1], NULL, 10);
    why = argc > 2 ? argv[2] : "";
    plans();
    return finish();
}
