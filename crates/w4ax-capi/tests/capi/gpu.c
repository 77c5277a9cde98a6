/* What the functions for GPUs answer to everything that is wrong, with and without a GPU: a status each, and nothing is touched.
 *
 *     gpu DEVICE TABLE [TEXT]
 *
 * DEVICE: the status that taking device 0 has here; TABLE: that of questions to the kernels' table, which needs no device; TEXT:
 * what w4ax_last_error says of the device. */
#include "check.h"
#include "w4ax_gpu.h"

enum { M = 5, N = 20, K = 70 };

static w4ax_status device, table;
static const char *why;

static int8_t q[N * K];
static float scales[N];

/* Stands for device memory: the addresses are looked at as numbers, and nothing here gets as far as a launch. */
static union memory {
    uint64_t aligned[64 * 1024];
    char bytes[512 * 1024];
} memory;

/* The first multiple of W4AX_GPU_ALIGNMENT in it, and from there on. */
static void *at(size_t offset) {
    uintptr_t start = (uintptr_t)memory.bytes;
    uintptr_t up = (W4AX_GPU_ALIGNMENT - start % W4AX_GPU_ALIGNMENT) % W4AX_GPU_ALIGNMENT;
    return memory.bytes + up + offset;
}

enum { X = 0, Y = 64 * 1024, BIAS = 128 * 1024, WORKSPACE = 192 * 1024, PACKED = 256 * 1024, ROOM = 32 * 1024 };

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

/* Numbers that no kernel takes. They are seen before the table is asked, but for a build that has neither. */
#define REFUSED(call)                                                                                                            \
    do {                                                                                                                         \
        w4ax_status refused = (call);                                                                                            \
        CHECK(refused == W4AX_OUT_OF_RANGE || (table != W4AX_OK && refused == table));                                           \
    } while (0)

/* Where there is no kernel, `why` is the reason. */
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
#define NOT(expected, change)                                                                                                    \
    do {                                                                                                                         \
        p = problem();                                                                                                           \
        change;                                                                                                                  \
        EXPECT(expected, w4ax_gpu_plan_problem(&p, &plan));                                                                      \
        EXPECT(expected, w4ax_gpu_workspace_bytes(&p, &bytes));                                                                  \
        CHECK(memcmp(&plan, before, sizeof plan) == 0 && bytes == 77);                                                           \
    } while (0)
    NOT(W4AX_BAD_WIDTH, p.width = 0);
    NOT(W4AX_BAD_WIDTH, p.width = 3);
    NOT(W4AX_BAD_ENUM, p.grouping = 16);
    NOT(W4AX_BAD_ENUM, p.family = W4AX_FAMILY_WGMMA + 1);
    NOT(W4AX_BAD_ENUM, p.family = UINT32_MAX);
    NOT(W4AX_BAD_ENUM, p.mode = W4AX_MODE_PACKED + 1);
    NOT(W4AX_BAD_ENUM, p.flags = 2);
    NOT(W4AX_BAD_ENUM, p.flags = W4AX_GPU_PDL | 0x80000000u);
    /* What there is no kernel for: without kernels, that is all that is to be said. */
#define RANGE (table == W4AX_OK ? (w4ax_status)W4AX_OUT_OF_RANGE : table)
    NOT(RANGE, p.tile = 99);
    NOT(RANGE, (p.width = W4AX_BF16, p.mode = W4AX_MODE_PACKED));
    NOT(RANGE, (p.family = W4AX_FAMILY_PLAIN, p.mode = W4AX_MODE_PACKED));
    NOT(RANGE, (p.family = W4AX_FAMILY_WGMMA, p.mode = W4AX_MODE_FUSED));
    NOT(RANGE, (p.family = W4AX_FAMILY_DECODE, p.m = W4AX_GPU_DECODE_MAX_M + 1));
#undef NOT
#define NOT(change)                                                                                                              \
    do {                                                                                                                         \
        p = problem();                                                                                                           \
        change;                                                                                                                  \
        REFUSED(w4ax_gpu_plan_problem(&p, &plan));                                                                               \
        REFUSED(w4ax_gpu_workspace_bytes(&p, &bytes));                                                                           \
        CHECK(memcmp(&plan, before, sizeof plan) == 0 && bytes == 77);                                                           \
    } while (0)
    NOT(p.m = 0);
    NOT(p.n = W4AX_GPU_MAX_EXTENT + 1);
    NOT(p.k = SIZE_MAX);
    NOT((p.grouping = W4AX_PER_CHANNEL, p.k = W4AX_MAX_PER_CHANNEL_K + 1));
#undef NOT
    /* Packed for the wgmma family: its GEMM alone, no workspace. */
    p = problem();
    p.family = W4AX_FAMILY_WGMMA;
    p.mode = W4AX_MODE_PACKED;
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
        CHECK(plan.mode == (plan.launches == 2 ? W4AX_MODE_PACKED : W4AX_MODE_FUSED));
        CHECK(strncmp(plan.kernel, "decode_a4", 9) == 0 && plan.mma == W4AX_MMA_NONE && plan.blocks >= 1);
        CHECK(plan.slow_x == 0 && plan.slow_y == 0 && plan.reserved == 0);
        p.mode = W4AX_MODE_FUSED;
        p.family = W4AX_FAMILY_PREFILL;
        p.tile = 2;
        OK(w4ax_gpu_plan_problem(&p, &plan));
        CHECK(plan.family == W4AX_FAMILY_PREFILL && plan.mode == W4AX_MODE_FUSED && plan.tile == 2);
        CHECK(plan.launches == 1 && plan.workspace_bytes == 0);
        /* Enough for fewer tokens and narrower widths. */
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
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_packed_bytes(M, K, W4AX_A4, W4AX_G32, W4AX_FAMILY_AUTO, NULL));
    EXPECT(W4AX_BAD_WIDTH, w4ax_gpu_packed_bytes(M, K, 5, W4AX_G32, W4AX_FAMILY_AUTO, &bytes));
    EXPECT(W4AX_BAD_ENUM, w4ax_gpu_packed_bytes(M, K, W4AX_A4, 5, W4AX_FAMILY_AUTO, &bytes));
    EXPECT(W4AX_BAD_ENUM, w4ax_gpu_packed_bytes(M, K, W4AX_A4, W4AX_G32, 5, &bytes));
    REFUSED(w4ax_gpu_packed_bytes(M, K, W4AX_BF16, W4AX_G32, W4AX_FAMILY_AUTO, &bytes));
    REFUSED(w4ax_gpu_packed_bytes(M, K, W4AX_A4, W4AX_G32, W4AX_FAMILY_PLAIN, &bytes));
    REFUSED(w4ax_gpu_packed_bytes(0, K, W4AX_A4, W4AX_G32, W4AX_FAMILY_AUTO, &bytes));
    CHECK(bytes == 77);
    EXPECT(table, w4ax_gpu_packed_bytes(M, K, W4AX_A4, W4AX_G32, W4AX_FAMILY_AUTO, &bytes));
    no_kernels(table);
    CHECK(table == W4AX_OK ? bytes >= M * K / 2 && bytes < ROOM && bytes != 77 : bytes == 77);
}

/* Device 0, or NULL where there is none to use. */
static w4ax_gpu *devices(void) {
    w4ax_gpu *gpu = (w4ax_gpu *)&memory, *other = gpu;
    w4ax_gpu_info info;
    w4ax_mma mma = 77;
    uint32_t count = 77;
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_count(NULL));
    EXPECT(W4AX_MISALIGNED, w4ax_gpu_count((uint32_t *)(void *)((char *)&count + 1)));
    EXPECT(device, w4ax_gpu_count(&count));
    CHECK(device == W4AX_OK ? count >= 1 && count != 77 : count == 77);
    if (device != W4AX_OK) {
        CHECK(strstr(w4ax_last_error(), why) != NULL);
    }
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_create(0, NULL));
    EXPECT(device, w4ax_gpu_create(0, &gpu));
    CHECK((gpu != NULL) == (device == W4AX_OK));
    if (device != W4AX_OK) {
        CHECK(strstr(w4ax_last_error(), why) != NULL);
        printf("%s: %s\n", w4ax_status_text(device), w4ax_last_error());
    }
    EXPECT(device == W4AX_OK ? (w4ax_status)W4AX_NO_DEVICE : device, w4ax_gpu_create(device == W4AX_OK ? count : 1, &other));
    CHECK(other == NULL);
    other = (w4ax_gpu *)&memory;
    EXPECT(device == W4AX_OK ? (w4ax_status)W4AX_NO_DEVICE : device, w4ax_gpu_create(UINT32_MAX, &other));
    CHECK(other == NULL);

    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_get_info(NULL, &info));
    EXPECT(W4AX_BAD_WIDTH, w4ax_gpu_get_mma(NULL, 6, W4AX_FAMILY_DECODE, &mma));
    EXPECT(W4AX_BAD_ENUM, w4ax_gpu_get_mma(NULL, W4AX_A4, W4AX_FAMILY_AUTO, &mma));
    EXPECT(W4AX_BAD_ENUM, w4ax_gpu_get_mma(NULL, W4AX_A4, 9, &mma));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_get_mma(NULL, W4AX_A4, W4AX_FAMILY_DECODE, &mma));
    CHECK(mma == 77);
    w4ax_gpu_free(NULL);
    if (gpu) {
        EXPECT(W4AX_NULL_POINTER, w4ax_gpu_get_info(gpu, NULL));
        EXPECT(W4AX_NULL_POINTER, w4ax_gpu_get_mma(gpu, W4AX_A4, W4AX_FAMILY_DECODE, NULL));
        OK(w4ax_gpu_get_info(gpu, &info));
        CHECK(info.name[0] != 0 && info.ordinal == 0 && info.major >= 8 && info.driver_major >= 12 && info.reserved == 0);
        OK(w4ax_gpu_get_mma(gpu, W4AX_A4, W4AX_FAMILY_DECODE, &mma));
        CHECK(mma == (info.major < 9 ? W4AX_MMA_S4 : W4AX_MMA_S8));
        OK(w4ax_gpu_get_mma(gpu, W4AX_BF16, W4AX_FAMILY_PREFILL, &mma));
        CHECK(mma == W4AX_MMA_BF16);
        printf("%s, sm_%u%u\n", info.name, (unsigned)info.major, (unsigned)info.minor);
    }
    return gpu;
}

static w4ax_gpu_weight *upload(w4ax_gpu *gpu) {
    w4ax_gpu_weight *there = (w4ax_gpu_weight *)&memory;
    w4ax_weight *here = NULL;
    w4ax_weight_info info;
    w4ax_pack_args a;
    size_t i;
    memset(&a, 0, sizeof a);
    for (i = 0; i < N; i++) {
        scales[i] = 1;
    }
    a.q = q;
    a.q_len = N * K;
    a.scales = scales;
    a.scales_len = N;
    a.n = N;
    a.k = K;
    a.threads = 1;
    OK(w4ax_weight_pack(&a, &here));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_weight_upload(gpu, NULL, &there));
    CHECK(there == NULL);
    there = (w4ax_gpu_weight *)&memory;
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_weight_upload(NULL, here, &there));
    CHECK(there == NULL);
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_weight_upload(gpu, here, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_weight_get_info(NULL, &info));
    w4ax_gpu_weight_free(NULL);
    if (gpu) {
        OK(w4ax_gpu_weight_upload(gpu, here, &there));
        EXPECT(W4AX_NULL_POINTER, w4ax_gpu_weight_get_info(there, NULL));
        OK(w4ax_gpu_weight_get_info(there, &info));
        CHECK(info.n == N && info.k == K && info.groups == 1 && info.bytes >= N * K / 2);
        CHECK(info.grouping == W4AX_PER_CHANNEL && info.symmetry == W4AX_SYMMETRIC && info.scale_type == W4AX_TYPE_F32);
    }
    w4ax_weight_free(here);
    return there;
}

static w4ax_gpu_gather_args gather_args(const w4ax_gpu_order *order) {
    w4ax_gpu_gather_args a;
    memset(&a, 0, sizeof a);
    a.order = order;
    a.x = (const uint16_t *)at(X);
    a.x_len = M * K;
    a.gathered = (uint16_t *)at(Y);
    a.gathered_len = M * K;
    a.m = M;
    a.k = K;
    return a;
}

/* Orders of k, and the gather. */
static void gathering(const w4ax_gpu *gpu) {
    w4ax_gpu_order *there = (w4ax_gpu_order *)&memory;
    w4ax_order *here = NULL;
    w4ax_gpu_gather_args a;
    uint32_t ks[K], i;
    for (i = 0; i < K; i++) {
        ks[i] = K - 1 - i;
    }
    OK(w4ax_order_create(ks, K, &here));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_order_upload(gpu, NULL, &there));
    CHECK(there == NULL);
    there = (w4ax_gpu_order *)&memory;
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_order_upload(NULL, here, &there));
    CHECK(there == NULL);
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_order_upload(gpu, here, NULL));
    w4ax_gpu_order_free(NULL);
    if (gpu) {
        OK(w4ax_gpu_order_upload(gpu, here, &there));
    }
    w4ax_order_free(here);

    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_gather(gpu, NULL, NULL));
#define NOT(expected, change)                                                                                                    \
    do {                                                                                                                         \
        a = gather_args(there);                                                                                                  \
        change;                                                                                                                  \
        EXPECT(expected, w4ax_gpu_gather(gpu, &a, NULL));                                                                        \
    } while (0)
    NOT(W4AX_NULL_POINTER, a.order = NULL);
    NOT(W4AX_NULL_POINTER, a.x = NULL);
    NOT(W4AX_NULL_POINTER, a.gathered = NULL);
    NOT(W4AX_MISALIGNED, a.x = (const uint16_t *)at(X + 1));
    NOT(W4AX_MISALIGNED, a.gathered = (uint16_t *)at(Y + 1));
    NOT(W4AX_BUFFER_TOO_SMALL, a.x_len--);
    NOT(W4AX_BUFFER_TOO_SMALL, a.gathered_len--);
    NOT(W4AX_BUFFER_TOO_SMALL, a.x_stride = K + 1);
    NOT(W4AX_BAD_SHAPE, a.gathered_stride = K - 1);
    NOT(W4AX_BAD_SHAPE, a.m = SIZE_MAX);
    NOT(W4AX_BAD_ENUM, a.flags = 2);
    NOT(W4AX_BAD_ENUM, a.reserved = 1);
    NOT(W4AX_OVERLAP, a.gathered = (uint16_t *)at(X + 2 * (M * K - 1)));
    if (gpu) {
        EXPECT(W4AX_NULL_POINTER, w4ax_gpu_gather(NULL, &a, NULL));
        NOT(W4AX_BAD_SHAPE, (a.k = K - 1));
        NOT(W4AX_OUT_OF_RANGE, (a.m = W4AX_GPU_MAX_EXTENT + 1, a.x_len = a.gathered_len = a.m * K,
                                a.gathered = (uint16_t *)at(X + 2 * a.x_len)));
        NOT(W4AX_OK, a.m = 0);
        w4ax_gpu_order_free(there);
    }
#undef NOT
}

static w4ax_gpu_gemm_args gemm_args(const w4ax_gpu_weight *weight) {
    w4ax_gpu_gemm_args a;
    memset(&a, 0, sizeof a);
    a.weight = weight;
    a.x = (const uint16_t *)at(X);
    a.x_len = M * K;
    a.bias = (const float *)at(BIAS);
    a.bias_len = N;
    a.y = (uint16_t *)at(Y);
    a.y_len = M * N;
    a.workspace = at(WORKSPACE);
    a.workspace_bytes = ROOM;
    a.m = M;
    a.n = N;
    a.k = K;
    a.width = W4AX_A4;
    return a;
}

/* The same arguments for activations that are packed. */
static w4ax_gpu_gemm_args packed_args(const w4ax_gpu_weight *weight) {
    w4ax_gpu_gemm_args a = gemm_args(weight);
    a.x = NULL;
    a.x_len = 0;
    a.mode = W4AX_MODE_PACKED;
    a.packed = at(PACKED);
    a.packed_bytes = ROOM;
    return a;
}

static void multiplying(const w4ax_gpu *gpu, const w4ax_gpu_weight *weight) {
    w4ax_gpu_gemm_args a = gemm_args(weight);
    w4ax_gpu_plan plan;
    unsigned char before[sizeof plan];
    memset(&plan, 0xEE, sizeof plan);
    memcpy(before, &plan, sizeof plan);
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_gemm(gpu, NULL, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_gemm(NULL, &a, NULL));
    EXPECT(W4AX_MISALIGNED, w4ax_gpu_gemm(gpu, (w4ax_gpu_gemm_args *)(void *)((char *)&a + 1), NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_plan_gemm(gpu, &a, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_plan_gemm(gpu, NULL, &plan));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_plan_gemm(NULL, &a, &plan));
    /* `planned`: the status of the plan, for which there is no workspace. */
#define NOT2(expected, planned, args, change)                                                                                    \
    do {                                                                                                                         \
        a = args(weight);                                                                                                        \
        change;                                                                                                                  \
        EXPECT(expected, w4ax_gpu_gemm(gpu, &a, NULL));                                                                          \
        EXPECT(planned, w4ax_gpu_plan_gemm(gpu, &a, &plan));                                                                     \
        CHECK(planned == W4AX_OK || memcmp(&plan, before, sizeof plan) == 0);                                                    \
        memset(&plan, 0xEE, sizeof plan);                                                                                        \
    } while (0)
#define NOT(expected, change) NOT2(expected, expected, gemm_args, change)
#define NOT_PACKED(expected, change) NOT2(expected, expected, packed_args, change)
    /* Arguments that are right but for the workspace: without a device, that there is none is all that is wrong with the plan. */
#define RIGHT (gpu ? (w4ax_status)W4AX_OK : (w4ax_status)W4AX_NULL_POINTER)
    NOT(W4AX_NULL_POINTER, a.weight = NULL);
    NOT(W4AX_NULL_POINTER, a.x = NULL);
    NOT(W4AX_NULL_POINTER, a.y = NULL);
    NOT(W4AX_NULL_POINTER, a.bias = NULL);
    NOT2(W4AX_NULL_POINTER, RIGHT, gemm_args, a.workspace = NULL);
    NOT(W4AX_MISALIGNED, a.x = (const uint16_t *)at(X + 1));
    NOT(W4AX_MISALIGNED, a.y = (uint16_t *)at(Y + 1));
    NOT(W4AX_MISALIGNED, a.bias = (const float *)at(BIAS + 2));
    NOT2(W4AX_MISALIGNED, RIGHT, gemm_args, a.workspace = at(WORKSPACE + 64));
    NOT(W4AX_BUFFER_TOO_SMALL, a.x_len--);
    NOT(W4AX_BUFFER_TOO_SMALL, a.y_len--);
    NOT(W4AX_BUFFER_TOO_SMALL, a.x_stride = K + 1);
    NOT(W4AX_BUFFER_TOO_SMALL, a.y_stride = N + 1);
    NOT(W4AX_BUFFER_TOO_SMALL, a.m++);
    NOT(W4AX_BAD_SHAPE, a.x_stride = K - 1);
    NOT(W4AX_BAD_SHAPE, a.y_stride = N - 1);
    NOT(W4AX_BAD_SHAPE, a.bias_len--);
    NOT(W4AX_BAD_SHAPE, a.bias_len = 0);
    NOT(W4AX_BAD_SHAPE, a.m = SIZE_MAX);
    NOT(W4AX_OUT_OF_RANGE, a.bias_len = SIZE_MAX);
    NOT2(W4AX_OUT_OF_RANGE, RIGHT, gemm_args, a.workspace_bytes = SIZE_MAX);
    NOT(W4AX_BAD_WIDTH, a.width = 0);
    NOT(W4AX_BAD_WIDTH, a.width = 32);
    NOT(W4AX_BAD_ENUM, a.family = W4AX_FAMILY_WGMMA + 1);
    NOT(W4AX_BAD_ENUM, a.mode = 3);
    NOT(W4AX_BAD_ENUM, a.flags = 4);
    NOT(W4AX_BAD_ENUM, a.reserved = 1);
    NOT(W4AX_OVERLAP, a.y = (uint16_t *)at(X + 2 * (M * K - 1)));
    NOT(W4AX_OVERLAP, a.y = (uint16_t *)at(BIAS + 4 * (N - 1)));
    NOT2(W4AX_OVERLAP, RIGHT, gemm_args, a.y = (uint16_t *)at(WORKSPACE));
    NOT2(W4AX_OVERLAP, RIGHT, gemm_args, a.workspace = at(X));
    NOT2(W4AX_OVERLAP, RIGHT, gemm_args, a.workspace = at(BIAS));
    /* Two ways to give the activations. */
    NOT(W4AX_OUT_OF_RANGE, a.packed = at(PACKED));
    NOT(W4AX_OUT_OF_RANGE, a.packed_bytes = 1);
    NOT(W4AX_OUT_OF_RANGE, a.mode = W4AX_MODE_PACKED);
    NOT_PACKED(W4AX_OUT_OF_RANGE, a.x_len = 1);
    NOT_PACKED(W4AX_NULL_POINTER, a.packed = NULL);
    NOT_PACKED(W4AX_NULL_POINTER, (a.packed = NULL, a.packed_bytes = 0));
    NOT_PACKED(W4AX_MISALIGNED, a.packed = at(PACKED + 2));
    NOT_PACKED(W4AX_OVERLAP, a.y = (uint16_t *)at(PACKED));
    NOT2(W4AX_OVERLAP, RIGHT, packed_args, a.workspace = at(PACKED));
    if (!gpu) {
        /* All that is wrong now is that there is no device. */
        NOT(W4AX_NULL_POINTER, (void)0);
        NOT_PACKED(W4AX_NULL_POINTER, (void)0);
        NOT(W4AX_NULL_POINTER, a.m = 0);
        return;
    }
    NOT(W4AX_BAD_SHAPE, (a.n = N - 1, a.bias_len = N - 1));
    NOT(W4AX_BAD_SHAPE, a.k = K - 1);
    NOT(W4AX_OUT_OF_RANGE, a.tile = 99);
    NOT(W4AX_OUT_OF_RANGE, (a.m = 1, a.x_stride = W4AX_GPU_MAX_STRIDE + 1));
    NOT_PACKED(W4AX_OUT_OF_RANGE, a.width = W4AX_BF16);
    NOT_PACKED(W4AX_OUT_OF_RANGE, a.family = W4AX_FAMILY_PLAIN);
    NOT_PACKED(W4AX_BUFFER_TOO_SMALL, a.packed_bytes = 128);
    NOT2(W4AX_BUFFER_TOO_SMALL, RIGHT, gemm_args, a.workspace_bytes = 128);
    NOT2(W4AX_BUFFER_TOO_SMALL, RIGHT, gemm_args, (a.workspace = NULL, a.workspace_bytes = 0));
    a = gemm_args(weight);
    OK(w4ax_gpu_plan_gemm(gpu, &a, &plan));
    CHECK(plan.launches == 2 && plan.workspace_bytes > 0 && plan.mma != W4AX_MMA_NONE);
    CHECK(strncmp(plan.kernel, "decode_a4", 9) == 0 && plan.reserved == 0);
    a = packed_args(weight);
    OK(w4ax_gpu_plan_gemm(gpu, &a, &plan));
    CHECK(plan.launches == 1 && plan.workspace_bytes == 0 && plan.mode == W4AX_MODE_PACKED);
    /* No tokens: nothing is launched. */
    a.m = 0;
    OK(w4ax_gpu_gemm(gpu, &a, NULL));
#undef NOT
}

static w4ax_gpu_pack_args pack_args(void) {
    w4ax_gpu_pack_args a;
    memset(&a, 0, sizeof a);
    a.x = (const uint16_t *)at(X);
    a.x_len = M * K;
    a.packed = at(PACKED);
    a.packed_bytes = ROOM;
    a.m = M;
    a.k = K;
    a.width = W4AX_A8;
    return a;
}

static void packing(const w4ax_gpu *gpu) {
    w4ax_gpu_pack_args a = pack_args();
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_quantize_pack(gpu, NULL, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_quantize_pack(NULL, &a, NULL));
#define NOT(expected, change)                                                                                                    \
    do {                                                                                                                         \
        a = pack_args();                                                                                                         \
        change;                                                                                                                  \
        EXPECT(expected, w4ax_gpu_quantize_pack(gpu, &a, NULL));                                                                 \
    } while (0)
    NOT(W4AX_NULL_POINTER, a.x = NULL);
    NOT(W4AX_NULL_POINTER, a.packed = NULL);
    NOT(W4AX_NULL_POINTER, (a.packed = NULL, a.packed_bytes = 0));
    NOT(W4AX_MISALIGNED, a.x = (const uint16_t *)at(X + 1));
    NOT(W4AX_MISALIGNED, a.packed = at(PACKED + 16));
    NOT(W4AX_BUFFER_TOO_SMALL, a.x_len--);
    NOT(W4AX_BUFFER_TOO_SMALL, a.x_stride = K + 3);
    NOT(W4AX_BAD_SHAPE, a.x_stride = K - 1);
    NOT(W4AX_BAD_WIDTH, a.width = 1);
    NOT(W4AX_BAD_ENUM, a.grouping = 7);
    NOT(W4AX_BAD_ENUM, a.flags = 2);
    NOT(W4AX_BAD_ENUM, a.family = 5);
    NOT(W4AX_OVERLAP, a.packed = at(X));
    if (gpu) {
        NOT(W4AX_OUT_OF_RANGE, a.family = W4AX_FAMILY_PLAIN);
        NOT(W4AX_OUT_OF_RANGE, a.width = W4AX_BF16);
        NOT(W4AX_OUT_OF_RANGE, a.m = 0);
        NOT(W4AX_BUFFER_TOO_SMALL, a.packed_bytes = 128);
    }
#undef NOT
}

int main(int argc, char **argv) {
    w4ax_gpu *gpu;
    w4ax_gpu_weight *weight;
    if (argc < 3) {
        fprintf(stderr, "usage: gpu DEVICE TABLE [TEXT]\n");
        return 2;
    }
    device = (w4ax_status)strtoul(argv[1], NULL, 10);
    table = (w4ax_status)strtoul(argv[2], NULL, 10);
    why = argc > 3 ? argv[3] : "";
    plans();
    gpu = devices();
    weight = upload(gpu);
    gathering(gpu);
    multiplying(gpu, weight);
    packing(gpu);
    /* Any order of freeing is right. */
    w4ax_gpu_free(gpu);
    w4ax_gpu_weight_free(weight);
    return finish();
}
