/* Wrong calls for GPUs, with and without a GPU: each returns a status and launches nothing.
 *
 *     gpu DEVICE [TEXT]
 *
 * DEVICE: the status of opening device 0 on this machine; TEXT: a part of its w4ax_last_error. */
#include "check.h"
#include "w4ax_gpu.h"

enum { M = 5, N = 20, K = 70 };

static w4ax_status device;
static const char *why;

static int8_t q[N * K];
static float scales[N];

/* Takes the place of device memory: addresses are checked as numbers, and nothing here is launched. */
static union memory {
    uint64_t aligned[64 * 1024];
    char bytes[512 * 1024];
} memory;

/* Returns the address `offset` bytes after its first multiple of W4AX_GPU_ALIGNMENT. */
static void *at(size_t offset) {
    uintptr_t start = (uintptr_t)memory.bytes;
    uintptr_t up = (W4AX_GPU_ALIGNMENT - start % W4AX_GPU_ALIGNMENT) % W4AX_GPU_ALIGNMENT;
    return memory.bytes + up + offset;
}

enum { X = 0, Y = 64 * 1024, BIAS = 128 * 1024, WORKSPACE = 192 * 1024, QUANTIZED = 256 * 1024, ROOM = 32 * 1024 };

/* Returns device 0, or NULL without a usable device. */
static w4ax_gpu *devices(void) {
    w4ax_gpu *gpu = (w4ax_gpu *)&memory, *other = gpu;
    w4ax_gpu_info info;
    w4ax_mma mma = 77;
    uint32_t count = 77;
    w4ax_status no_such = device == W4AX_OK ? (w4ax_status)W4AX_NO_DEVICE : device;
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
    EXPECT(no_such, w4ax_gpu_create(device == W4AX_OK ? count : 1, &other));
    CHECK(other == NULL);
    other = (w4ax_gpu *)&memory;
    EXPECT(no_such, w4ax_gpu_create(UINT32_MAX, &other));
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
        CHECK(info.name[0] != 0 && info.ordinal == 0 && info.reserved == 0);
        CHECK(info.major >= 8 && info.driver_major >= 12);
        OK(w4ax_gpu_get_mma(gpu, W4AX_A4, W4AX_FAMILY_DECODE, &mma));
        CHECK(mma == (info.major < 9 ? W4AX_MMA_S4 : W4AX_MMA_S8));
        OK(w4ax_gpu_get_mma(gpu, W4AX_BF16, W4AX_FAMILY_PREFILL, &mma));
        CHECK(mma == W4AX_MMA_BF16);
        printf("%s, sm_%u%u\n", info.name, (unsigned)info.major, (unsigned)info.minor);
    }
    return gpu;
}

/* Uploads a weight, with an order of k unless `order` is NULL. */
static w4ax_gpu_weight *upload(w4ax_gpu *gpu, const uint32_t *order) {
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
    a.order = order;
    a.order_len = order ? K : 0;
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
        CHECK(info.grouping == W4AX_PER_CHANNEL && info.symmetry == W4AX_SYMMETRIC);
        CHECK(info.scale_type == W4AX_TYPE_F32 && info.has_order == (order != NULL));
    }
    w4ax_weight_free(here);
    return there;
}

static w4ax_gpu_gather_args gather_args(const w4ax_gpu_weight *weight) {
    w4ax_gpu_gather_args a;
    memset(&a, 0, sizeof a);
    a.weight = weight;
    a.x = (const uint16_t *)at(X);
    a.x_len = M * K;
    a.gathered = (uint16_t *)at(Y);
    a.gathered_len = M * K;
    a.m = M;
    a.k = K;
    return a;
}

/* `ordered` has an order of k, `plain` has none. */
static void gathering(const w4ax_gpu *gpu, const w4ax_gpu_weight *ordered, const w4ax_gpu_weight *plain) {
    w4ax_gpu_gather_args a;
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_gather(gpu, NULL, NULL));
#define NOT(expected, change)                                                                                          \
    do {                                                                                                               \
        a = gather_args(ordered);                                                                                      \
        change;                                                                                                        \
        EXPECT(expected, w4ax_gpu_gather(gpu, &a, NULL));                                                              \
    } while (0)
    NOT(W4AX_NULL_POINTER, a.weight = NULL);
    NOT(W4AX_NULL_POINTER, a.x = NULL);
    NOT(W4AX_NULL_POINTER, a.gathered = NULL);
    NOT(W4AX_MISALIGNED, a.x = (const uint16_t *)at(X + 1));
    NOT(W4AX_MISALIGNED, a.gathered = (uint16_t *)at(Y + 1));
    NOT(W4AX_BUFFER_TOO_SMALL, a.x_len--);
    NOT(W4AX_BUFFER_TOO_SMALL, a.gathered_len--);
    NOT(W4AX_BUFFER_TOO_SMALL, a.x_stride = K + 1);
    NOT(W4AX_BAD_SHAPE, a.gathered_stride = K - 1);
    NOT(W4AX_BAD_SHAPE, a.m = SIZE_MAX);
    NOT(W4AX_BAD_ENUM, a.flags = W4AX_GPU_GATHERED);
    NOT(W4AX_BAD_ENUM, a.reserved = 1);
    NOT(W4AX_OVERLAP, a.gathered = (uint16_t *)at(X + 2 * (M * K - 1)));
    if (gpu) {
        EXPECT(W4AX_NULL_POINTER, w4ax_gpu_gather(NULL, &a, NULL));
        NOT(W4AX_BAD_SHAPE, (a.k = K - 1));
        NOT(W4AX_OUT_OF_RANGE, a.weight = plain);
        NOT(W4AX_OUT_OF_RANGE, (a.m = W4AX_GPU_MAX_EXTENT + 1, a.x_len = a.gathered_len = a.m * K,
                                a.gathered = (uint16_t *)at(X + 2 * a.x_len)));
        NOT(W4AX_OK, a.m = 0);
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

/* The same arguments for quantized activations. */
static w4ax_gpu_gemm_args quantized_args(const w4ax_gpu_weight *weight) {
    w4ax_gpu_gemm_args a = gemm_args(weight);
    a.x = NULL;
    a.x_len = 0;
    a.mode = W4AX_MODE_QUANTIZED;
    a.quantized = at(QUANTIZED);
    a.quantized_bytes = ROOM;
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
    /* `planned`: the status of the plan, which ignores the workspace. */
#define NOT2(expected, planned, args, change)                                                                          \
    do {                                                                                                               \
        a = args(weight);                                                                                              \
        change;                                                                                                        \
        EXPECT(expected, w4ax_gpu_gemm(gpu, &a, NULL));                                                                \
        EXPECT(planned, w4ax_gpu_plan_gemm(gpu, &a, &plan));                                                           \
        CHECK(planned == W4AX_OK || memcmp(&plan, before, sizeof plan) == 0);                                          \
        memset(&plan, 0xEE, sizeof plan);                                                                              \
    } while (0)
#define NOT(expected, change) NOT2(expected, expected, gemm_args, change)
#define NOT_QUANTIZED(expected, change) NOT2(expected, expected, quantized_args, change)
    /* Only the workspace is wrong, so the plan is correct; without a device its handle is null. */
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
    NOT(W4AX_BAD_ENUM, a.flags = 8 | W4AX_GPU_PDL | W4AX_GPU_GATHERED);
    NOT(W4AX_BAD_ENUM, a.reserved = 1);
    NOT(W4AX_OVERLAP, a.y = (uint16_t *)at(X + 2 * (M * K - 1)));
    NOT(W4AX_OVERLAP, a.y = (uint16_t *)at(BIAS + 4 * (N - 1)));
    NOT2(W4AX_OVERLAP, RIGHT, gemm_args, a.y = (uint16_t *)at(WORKSPACE));
    NOT2(W4AX_OVERLAP, RIGHT, gemm_args, a.workspace = at(X));
    NOT2(W4AX_OVERLAP, RIGHT, gemm_args, a.workspace = at(BIAS));
    /* Activations that are BF16 and quantized at once. */
    NOT(W4AX_OUT_OF_RANGE, a.quantized = at(QUANTIZED));
    NOT(W4AX_OUT_OF_RANGE, a.quantized_bytes = 1);
    NOT(W4AX_OUT_OF_RANGE, a.mode = W4AX_MODE_QUANTIZED);
    NOT_QUANTIZED(W4AX_OUT_OF_RANGE, a.x_len = 1);
    NOT_QUANTIZED(W4AX_NULL_POINTER, a.quantized = NULL);
    NOT_QUANTIZED(W4AX_NULL_POINTER, (a.quantized = NULL, a.quantized_bytes = 0));
    NOT_QUANTIZED(W4AX_MISALIGNED, a.quantized = at(QUANTIZED + 2));
    NOT_QUANTIZED(W4AX_OVERLAP, a.y = (uint16_t *)at(QUANTIZED));
    NOT2(W4AX_OVERLAP, RIGHT, quantized_args, a.workspace = at(QUANTIZED));
    if (!gpu) {
        /* Only the handle of the device is null. */
        NOT(W4AX_NULL_POINTER, (void)0);
        NOT_QUANTIZED(W4AX_NULL_POINTER, (void)0);
        NOT(W4AX_NULL_POINTER, a.m = 0);
        return;
    }
    NOT(W4AX_BAD_SHAPE, (a.n = N - 1, a.bias_len = N - 1));
    NOT(W4AX_BAD_SHAPE, a.k = K - 1);
    NOT(W4AX_OUT_OF_RANGE, a.tile = 99);
    NOT(W4AX_OUT_OF_RANGE, (a.m = 1, a.x_stride = W4AX_GPU_MAX_STRIDE + 1));
    NOT_QUANTIZED(W4AX_OUT_OF_RANGE, a.width = W4AX_BF16);
    NOT_QUANTIZED(W4AX_OUT_OF_RANGE, a.family = W4AX_FAMILY_PLAIN);
    NOT_QUANTIZED(W4AX_BUFFER_TOO_SMALL, a.quantized_bytes = 128);
    NOT2(W4AX_BUFFER_TOO_SMALL, RIGHT, gemm_args, a.workspace_bytes = 128);
    NOT2(W4AX_BUFFER_TOO_SMALL, RIGHT, gemm_args, (a.workspace = NULL, a.workspace_bytes = 0));
    a = gemm_args(weight);
    OK(w4ax_gpu_plan_gemm(gpu, &a, &plan));
    CHECK(plan.launches == 2 && plan.workspace_bytes > 0 && plan.mma != W4AX_MMA_NONE);
    CHECK(strncmp(plan.kernel, "decode_a4", 9) == 0 && plan.gathers == 0);
    a = quantized_args(weight);
    OK(w4ax_gpu_plan_gemm(gpu, &a, &plan));
    CHECK(plan.launches == 1 && plan.workspace_bytes == 0 && plan.mode == W4AX_MODE_QUANTIZED);
    /* 0 tokens: nothing is launched. */
    a.m = 0;
    OK(w4ax_gpu_gemm(gpu, &a, NULL));
#undef NOT
}

/* A weight with an order of k: x is gathered into the workspace, unless the caller gathers it. */
static void multiplying_in_order(const w4ax_gpu *gpu, const w4ax_gpu_weight *weight) {
    w4ax_gpu_gemm_args a = gemm_args(weight);
    w4ax_gpu_plan plan, gathered;
    OK(w4ax_gpu_plan_gemm(gpu, &a, &plan));
    CHECK(plan.gathers == 1 && plan.launches == 3 && plan.workspace_bytes >= 2 * M * K);
    a.workspace_bytes = 256;
    EXPECT(W4AX_BUFFER_TOO_SMALL, w4ax_gpu_gemm(gpu, &a, NULL));
    a = gemm_args(weight);
    a.flags = W4AX_GPU_GATHERED;
    OK(w4ax_gpu_plan_gemm(gpu, &a, &gathered));
    CHECK(gathered.gathers == 0 && gathered.launches == 2);
    CHECK(gathered.workspace_bytes < plan.workspace_bytes);
    a = quantized_args(weight);
    OK(w4ax_gpu_plan_gemm(gpu, &a, &gathered));
    CHECK(gathered.gathers == 0 && gathered.launches == 1 && gathered.workspace_bytes == 0);
}

static w4ax_gpu_quantize_args quantize_args(void) {
    w4ax_gpu_quantize_args a;
    memset(&a, 0, sizeof a);
    a.x = (const uint16_t *)at(X);
    a.x_len = M * K;
    a.quantized = at(QUANTIZED);
    a.quantized_bytes = ROOM;
    a.m = M;
    a.k = K;
    a.width = W4AX_A8;
    return a;
}

static void quantizing(const w4ax_gpu *gpu) {
    w4ax_gpu_quantize_args a = quantize_args();
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_quantize(gpu, NULL, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_gpu_quantize(NULL, &a, NULL));
#define NOT(expected, change)                                                                                          \
    do {                                                                                                               \
        a = quantize_args();                                                                                           \
        change;                                                                                                        \
        EXPECT(expected, w4ax_gpu_quantize(gpu, &a, NULL));                                                            \
    } while (0)
    NOT(W4AX_NULL_POINTER, a.x = NULL);
    NOT(W4AX_NULL_POINTER, a.quantized = NULL);
    NOT(W4AX_NULL_POINTER, (a.quantized = NULL, a.quantized_bytes = 0));
    NOT(W4AX_MISALIGNED, a.x = (const uint16_t *)at(X + 1));
    NOT(W4AX_MISALIGNED, a.quantized = at(QUANTIZED + 16));
    NOT(W4AX_BUFFER_TOO_SMALL, a.x_len--);
    NOT(W4AX_BUFFER_TOO_SMALL, a.x_stride = K + 3);
    NOT(W4AX_BAD_SHAPE, a.x_stride = K - 1);
    NOT(W4AX_BAD_WIDTH, a.width = 1);
    NOT(W4AX_BAD_ENUM, a.grouping = 7);
    NOT(W4AX_BAD_ENUM, a.flags = W4AX_GPU_GATHERED);
    NOT(W4AX_BAD_ENUM, a.family = 5);
    NOT(W4AX_OVERLAP, a.quantized = at(X));
    if (gpu) {
        NOT(W4AX_OUT_OF_RANGE, a.family = W4AX_FAMILY_PLAIN);
        NOT(W4AX_OUT_OF_RANGE, a.width = W4AX_BF16);
        NOT(W4AX_OUT_OF_RANGE, a.m = 0);
        NOT(W4AX_BUFFER_TOO_SMALL, a.quantized_bytes = 128);
    }
#undef NOT
}

int main(int argc, char **argv) {
    uint32_t order[K], i;
    w4ax_gpu *gpu;
    w4ax_gpu_weight *weight, *ordered;
    if (argc < 2) {
        fprintf(stderr, "usage: gpu DEVICE [TEXT]\n");
        return 2;
    }
    device = (w4ax_status)strtoul(argv[1], NULL, 10);
    why = argc > 2 ? argv[2] : "";
    for (i = 0; i < K; i++) {
        order[i] = K - 1 - i;
    }
    gpu = devices();
    weight = upload(gpu, NULL);
    ordered = upload(gpu, order);
    gathering(gpu, ordered, weight);
    multiplying(gpu, weight);
    if (gpu) {
        multiplying_in_order(gpu, ordered);
    }
    quantizing(gpu);
    /* Handles can be freed in any order. */
    w4ax_gpu_free(gpu);
    w4ax_gpu_weight_free(weight);
    w4ax_gpu_weight_free(ordered);
    return finish();
}
