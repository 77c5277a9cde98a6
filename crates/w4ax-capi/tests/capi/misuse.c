/* Wrong calls for weights, files, and the CPU: each returns a status and changes nothing.
 *
 *     misuse FOLDER [leak]      FOLDER: for temporary files; leak: leak a handle, which a checker must find */
#include "check.h"

enum { N = 20, K = 70, M = 3, GROUPS = 3 };

static int8_t q[N * K];
static float scales[N * GROUPS];
static int8_t zeros[N * GROUPS];
static uint16_t x[M * K], y[M * N];
static float bias[N];

static w4ax_pack_args pack_args(void) {
    w4ax_pack_args a;
    memset(&a, 0, sizeof a);
    a.q = q;
    a.q_len = N * K;
    a.scales = scales;
    a.scales_len = N * GROUPS;
    a.zeros = zeros;
    a.zeros_len = N * GROUPS;
    a.n = N;
    a.k = K;
    a.grouping = W4AX_G32;
    a.scale_type = W4AX_TYPE_F32;
    a.threads = 1;
    return a;
}

#define REFUSED(expected, make, args, change)                                                                          \
    do {                                                                                                               \
        a = args();                                                                                                    \
        change;                                                                                                        \
        weight = (w4ax_weight *)&a;                                                                                    \
        EXPECT(expected, make(&a, &weight));                                                                           \
        CHECK(weight == NULL);                                                                                         \
    } while (0)

static void packing(void) {
    w4ax_pack_args a = pack_args();
    w4ax_weight *weight = NULL;
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_pack(NULL, &weight));
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_pack(&a, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_pack(NULL, NULL));
    EXPECT(W4AX_MISALIGNED, w4ax_weight_pack((w4ax_pack_args *)odd(&a), &weight));
    EXPECT(W4AX_MISALIGNED, w4ax_weight_pack(&a, (w4ax_weight **)odd(&weight)));
#define NOT(expected, change) REFUSED(expected, w4ax_weight_pack, pack_args, change)
    NOT(W4AX_NULL_POINTER, a.q = NULL);
    NOT(W4AX_NULL_POINTER, a.scales = NULL);
    NOT(W4AX_NULL_POINTER, a.zeros = NULL);
    NOT(W4AX_MISALIGNED, a.scales = odd(scales));
    NOT(W4AX_BUFFER_TOO_SMALL, a.q_len--);
    NOT(W4AX_BUFFER_TOO_SMALL, a.q_stride = K + 1);
    NOT(W4AX_BUFFER_TOO_SMALL, a.n++);
    NOT(W4AX_BAD_SHAPE, a.q_stride = K - 1);
    NOT(W4AX_BAD_SHAPE, a.scales_len--);
    NOT(W4AX_BAD_SHAPE, (a.scales = NULL, a.scales_len = 0));
    NOT(W4AX_BAD_SHAPE, a.zeros_len--);
    NOT(W4AX_BAD_SHAPE, a.zeros_len = 0);
    NOT(W4AX_BAD_SHAPE, a.n = 0);
    NOT(W4AX_BAD_SHAPE, a.k = 0);
    NOT(W4AX_BAD_SHAPE, (a.n = SIZE_MAX, a.q_len = SIZE_MAX));
    NOT(W4AX_OUT_OF_RANGE, (a.n = SIZE_MAX, a.k = 1, a.q_len = SIZE_MAX));
    NOT(W4AX_OUT_OF_RANGE, a.scales_len = SIZE_MAX);
    NOT(W4AX_OUT_OF_RANGE, a.zeros_len = SIZE_MAX);
    NOT(W4AX_OUT_OF_RANGE, a.threads = W4AX_MAX_THREADS + 1);
    NOT(W4AX_BAD_ENUM, a.grouping = 31);
    NOT(W4AX_BAD_ENUM, a.grouping = UINT32_MAX);
    NOT(W4AX_BAD_ENUM, a.scale_type = 3);
    NOT(W4AX_BAD_ENUM, a.reserved = 1);
    q[7] = 8;
    NOT(W4AX_OUT_OF_RANGE, (void)0);
    q[7] = -9;
    NOT(W4AX_OUT_OF_RANGE, (void)0);
    q[7] = 0;
    zeros[5] = 9;
    NOT(W4AX_OUT_OF_RANGE, (void)0);
    zeros[5] = 0;
    memset(&scales[4], 0xFF, sizeof scales[4]);
    NOT(W4AX_NOT_FINITE, (void)0);
    CHECK(strstr(w4ax_last_error(), "scale") != NULL);
    scales[4] = 1;
#undef NOT
}

static float plain[N * K], wide[W4AX_MAX_PER_CHANNEL_K + 1];

static w4ax_quantize_args quantize_args(void) {
    w4ax_quantize_args a;
    memset(&a, 0, sizeof a);
    a.w = plain;
    a.w_len = N * K;
    a.n = N;
    a.k = K;
    a.grouping = W4AX_G64;
    a.threads = 1;
    return a;
}

static void quantizing(void) {
    w4ax_quantize_args a = quantize_args();
    w4ax_weight *weight = NULL;
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_quantize(NULL, &weight));
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_quantize(&a, NULL));
#define NOT(expected, change) REFUSED(expected, w4ax_weight_quantize, quantize_args, change)
    NOT(W4AX_NULL_POINTER, a.w = NULL);
    NOT(W4AX_MISALIGNED, a.w = odd(plain));
    NOT(W4AX_MISALIGNED, (a.w = odd(plain), a.w_type = W4AX_TYPE_BF16));
    NOT(W4AX_BUFFER_TOO_SMALL, a.w_len--);
    NOT(W4AX_BUFFER_TOO_SMALL, (a.w = NULL, a.w_len = 0));
    NOT(W4AX_BAD_SHAPE, a.w_stride = 1);
    NOT(W4AX_BAD_SHAPE, a.n = 0);
    NOT(W4AX_BAD_SHAPE, a.k = SIZE_MAX);
    NOT(W4AX_BAD_ENUM, a.w_type = 3);
    NOT(W4AX_BAD_ENUM, a.symmetry = 2);
    NOT(W4AX_BAD_ENUM, a.grouping = 1);
    NOT(W4AX_BAD_ENUM, a.scale_type = 77);
    NOT(W4AX_BAD_ENUM, a.reserved = UINT32_MAX);
    NOT(W4AX_OUT_OF_RANGE,
        (a.grouping = W4AX_PER_CHANNEL, a.n = 1, a.k = a.w_len = W4AX_MAX_PER_CHANNEL_K + 1, a.w = wide));
    plain[69] = 1e30f;
    NOT(W4AX_OUT_OF_RANGE, a.scale_type = W4AX_TYPE_F16);
    memset(&plain[69], 0xFF, sizeof plain[69]);
    NOT(W4AX_NOT_FINITE, (void)0);
    CHECK(strstr(w4ax_last_error(), "69") != NULL);
    plain[69] = 0;
#undef NOT
}

static void weights(w4ax_weight *weight) {
    w4ax_weight_info info;
    float w[N * K];
    uint32_t order[K];
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_get_info(NULL, &info));
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_get_info(weight, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_dequantize(NULL, w, N * K));
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_dequantize(weight, NULL, N * K));
    EXPECT(W4AX_MISALIGNED, w4ax_weight_dequantize(weight, (float *)odd(w), N * K));
    EXPECT(W4AX_BUFFER_TOO_SMALL, w4ax_weight_dequantize(weight, w, N * K - 1));
    EXPECT(W4AX_OUT_OF_RANGE, w4ax_weight_dequantize(weight, w, SIZE_MAX));
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_unpack(NULL, q, N * K, scales, N * GROUPS, zeros, N * GROUPS));
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_unpack(weight, NULL, 1, NULL, 0, NULL, 0));
    EXPECT(W4AX_BUFFER_TOO_SMALL, w4ax_weight_unpack(weight, q, N * K - 1, NULL, 0, NULL, 0));
    EXPECT(W4AX_BUFFER_TOO_SMALL, w4ax_weight_unpack(weight, NULL, 0, scales, 1, NULL, 0));
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_unpack(weight, NULL, 0, NULL, N * GROUPS, NULL, 0));
    EXPECT(W4AX_MISALIGNED, w4ax_weight_unpack(weight, NULL, 0, odd(scales), N * GROUPS, NULL, 0));
    EXPECT(W4AX_BUFFER_TOO_SMALL, w4ax_weight_unpack(weight, NULL, 0, NULL, 0, zeros, 0));
    OK(w4ax_weight_unpack(weight, NULL, 0, NULL, 0, NULL, 0));
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_get_order(NULL, order, K));
    EXPECT(W4AX_NULL_POINTER, w4ax_weight_get_order(weight, NULL, K));
    EXPECT(W4AX_MISALIGNED, w4ax_weight_get_order(weight, (uint32_t *)odd(order), K));
    EXPECT(W4AX_BUFFER_TOO_SMALL, w4ax_weight_get_order(weight, order, K - 1));
    w4ax_weight_free(NULL);
}

static void files(const char *folder, w4ax_weight *weight) {
    w4ax_file *file = NULL;
    w4ax_weight *found = weight;
    const char *name = NULL;
    char path[4096];
    size_t count = 0;
    FILE *foreign;
    EXPECT(W4AX_NULL_POINTER, w4ax_file_create(NULL));
    OK(w4ax_file_create(&file));
    EXPECT(W4AX_NULL_POINTER, w4ax_file_insert(NULL, "a", weight));
    EXPECT(W4AX_NULL_POINTER, w4ax_file_insert(file, NULL, weight));
    EXPECT(W4AX_NULL_POINTER, w4ax_file_insert(file, "a", NULL));
    EXPECT(W4AX_BAD_TEXT, w4ax_file_insert(file, "\xff", weight));
    OK(w4ax_file_insert(file, "a", weight));
    OK(w4ax_file_insert(file, "a", weight));
    EXPECT(W4AX_NULL_POINTER, w4ax_file_count(NULL, &count));
    EXPECT(W4AX_NULL_POINTER, w4ax_file_count(file, NULL));
    OK(w4ax_file_count(file, &count));
    CHECK(count == 1);
    EXPECT(W4AX_NULL_POINTER, w4ax_file_name(NULL, 0, &name));
    EXPECT(W4AX_NULL_POINTER, w4ax_file_name(file, 0, NULL));
    EXPECT(W4AX_NOT_FOUND, w4ax_file_name(file, 1, &name));
    EXPECT(W4AX_NULL_POINTER, w4ax_file_get(NULL, "a", &found));
    CHECK(found == NULL);
    EXPECT(W4AX_NULL_POINTER, w4ax_file_get(file, NULL, &found));
    EXPECT(W4AX_NULL_POINTER, w4ax_file_get(file, "a", NULL));
    EXPECT(W4AX_NOT_FOUND, w4ax_file_get(file, "b", &found));
    CHECK(strstr(w4ax_last_error(), "`b`") != NULL);
    EXPECT(W4AX_NULL_POINTER, w4ax_file_save(NULL, "a"));
    EXPECT(W4AX_NULL_POINTER, w4ax_file_save(file, NULL));
    EXPECT(W4AX_BAD_TEXT, w4ax_file_save(file, "\xc0"));
    snprintf(path, sizeof path, "%s/no-folder/weights", folder);
    EXPECT(W4AX_IO, w4ax_file_save(file, path));
    w4ax_file_free(file);
    w4ax_file_free(NULL);
    EXPECT(W4AX_NULL_POINTER, w4ax_file_load(NULL, 1, &file));
    CHECK(file == NULL);
    EXPECT(W4AX_NULL_POINTER, w4ax_file_load(path, 1, NULL));
    EXPECT(W4AX_IO, w4ax_file_load(path, 1, &file));
    EXPECT(W4AX_OUT_OF_RANGE, w4ax_file_load(path, UINT32_MAX, &file));
    snprintf(path, sizeof path, "%s/foreign", folder);
    foreign = fopen(path, "wb");
    CHECK(foreign != NULL);
    if (foreign) {
        fputs("not a safetensors file", foreign);
        fclose(foreign);
    }
    EXPECT(W4AX_BAD_FORMAT, w4ax_file_load(path, 1, &file));
    remove(path);
}

/* ---- pools that break their contract ---- */

static w4ax_pool table(void (*run)(void *, uint32_t, w4ax_piece, void *)) {
    w4ax_pool t;
    memset(&t, 0, sizeof t);
    t.run = run;
    t.threads = 2;
    return t;
}

static void skips_pieces(void *context, uint32_t pieces, w4ax_piece piece, void *argument) {
    (void)context;
    if (pieces > 1) {
        piece(argument, 1);
    }
}

static void repeats_pieces(void *context, uint32_t pieces, w4ax_piece piece, void *argument) {
    uint32_t i;
    (void)context;
    for (i = 0; i < 2 * pieces; i++) {
        piece(argument, i / 2);
    }
}

static void exceeds_range(void *context, uint32_t pieces, w4ax_piece piece, void *argument) {
    uint32_t i;
    (void)context;
    for (i = 0; i <= pieces; i++) {
        piece(argument, i);
    }
    piece(argument, UINT32_MAX);
    piece(NULL, 0);
}

static const w4ax_cpu *outer_cpu;
static const w4ax_gemm_args *outer_args;
static w4ax_workspace *outer_workspace;

static void calls_again(void *context, uint32_t pieces, w4ax_piece piece, void *argument) {
    uint32_t i;
    (void)context;
    EXPECT(W4AX_BUSY, w4ax_cpu_gemm(outer_cpu, outer_args, outer_workspace));
    for (i = pieces; i-- > 0;) {
        piece(argument, i);
    }
}

static w4ax_gemm_args gemm_args(const w4ax_weight *weight) {
    w4ax_gemm_args a;
    memset(&a, 0, sizeof a);
    a.weight = weight;
    a.x = x;
    a.x_len = M * K;
    a.bias = bias;
    a.bias_len = N;
    a.y = y;
    a.y_len = M * N;
    a.m = M;
    a.n = N;
    a.k = K;
    a.width = W4AX_A4;
    return a;
}

static void multiplying(const w4ax_weight *weight) {
    w4ax_cpu *cpu = NULL, *other = NULL;
    w4ax_workspace *workspace = NULL, *small = NULL;
    w4ax_pool pool = table(skips_pieces);
    w4ax_gemm_args a = gemm_args(weight);
    const char *isa = NULL;
    uint32_t threads = 0;
    size_t bytes = 0, i;
    static uint16_t both[M * (K + N)];
    static uint16_t before[M * N];

    EXPECT(W4AX_NULL_POINTER, w4ax_cpu_create(NULL, 1, NULL));
    EXPECT(W4AX_NO_BACKEND, w4ax_cpu_create("neon", 1, &cpu));
    EXPECT(W4AX_BAD_TEXT, w4ax_cpu_create("\xff", 1, &cpu));
    EXPECT(W4AX_OUT_OF_RANGE, w4ax_cpu_create(NULL, W4AX_MAX_THREADS + 1, &cpu));
    EXPECT(W4AX_NULL_POINTER, w4ax_cpu_create_with_pool(NULL, NULL, &cpu));
    EXPECT(W4AX_NULL_POINTER, w4ax_cpu_create_with_pool(NULL, &pool, NULL));
    pool.run = NULL;
    EXPECT(W4AX_NULL_POINTER, w4ax_cpu_create_with_pool(NULL, &pool, &cpu));
    pool = table(skips_pieces);
    pool.threads = 0;
    EXPECT(W4AX_OUT_OF_RANGE, w4ax_cpu_create_with_pool(NULL, &pool, &cpu));
    pool = table(skips_pieces);
    pool.reserved = 1;
    EXPECT(W4AX_BAD_ENUM, w4ax_cpu_create_with_pool(NULL, &pool, &cpu));
    CHECK(cpu == NULL);
    w4ax_cpu_free(NULL);
    OK(w4ax_cpu_create(NULL, 1, &cpu));
    EXPECT(W4AX_NULL_POINTER, w4ax_cpu_isa(NULL, &isa));
    EXPECT(W4AX_NULL_POINTER, w4ax_cpu_isa(cpu, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_cpu_threads(NULL, &threads));
    EXPECT(W4AX_NULL_POINTER, w4ax_cpu_threads(cpu, NULL));

    EXPECT(W4AX_NULL_POINTER, w4ax_workspace_create(NULL, M, K, &workspace));
    EXPECT(W4AX_NULL_POINTER, w4ax_workspace_create(cpu, M, K, NULL));
    EXPECT(W4AX_OUT_OF_MEMORY, w4ax_workspace_create(cpu, SIZE_MAX, SIZE_MAX, &workspace));
    EXPECT(W4AX_OUT_OF_MEMORY, w4ax_workspace_create(cpu, 256, SIZE_MAX / 300 - 100, &workspace));
    CHECK(workspace == NULL);
    OK(w4ax_workspace_create(cpu, M, K, &workspace));
    EXPECT(W4AX_NULL_POINTER, w4ax_workspace_bytes(NULL, &bytes));
    EXPECT(W4AX_NULL_POINTER, w4ax_workspace_bytes(workspace, NULL));
    OK(w4ax_workspace_bytes(workspace, &bytes));
    CHECK(bytes >= M * K);
    w4ax_workspace_free(NULL);

    EXPECT(W4AX_NULL_POINTER, w4ax_cpu_gemm(NULL, &a, workspace));
    EXPECT(W4AX_NULL_POINTER, w4ax_cpu_gemm(cpu, NULL, workspace));
    EXPECT(W4AX_NULL_POINTER, w4ax_cpu_gemm(cpu, &a, NULL));
    for (i = 0; i < M * N; i++) {
        before[i] = y[i] = (uint16_t)(0x4000 + i);
    }
#define NOT(expected, change)                                                                                          \
    do {                                                                                                               \
        a = gemm_args(weight);                                                                                         \
        change;                                                                                                        \
        EXPECT(expected, w4ax_cpu_gemm(cpu, &a, workspace));                                                           \
        CHECK(memcmp(y, before, sizeof y) == 0);                                                                       \
    } while (0)
    NOT(W4AX_NULL_POINTER, a.weight = NULL);
    NOT(W4AX_NULL_POINTER, a.x = NULL);
    NOT(W4AX_NULL_POINTER, a.y = NULL);
    NOT(W4AX_NULL_POINTER, a.bias = NULL);
    NOT(W4AX_MISALIGNED, a.x = (uint16_t *)odd(x));
    NOT(W4AX_MISALIGNED, a.y = (uint16_t *)odd(y));
    NOT(W4AX_MISALIGNED, a.bias = (float *)odd(bias));
    NOT(W4AX_BUFFER_TOO_SMALL, a.x_len--);
    NOT(W4AX_BUFFER_TOO_SMALL, a.y_len--);
    NOT(W4AX_BUFFER_TOO_SMALL, (a.x = NULL, a.x_len = 0));
    NOT(W4AX_BUFFER_TOO_SMALL, a.x_stride = K + 1);
    NOT(W4AX_BUFFER_TOO_SMALL, a.y_stride = N + 1);
    NOT(W4AX_BUFFER_TOO_SMALL, a.m++);
    NOT(W4AX_BAD_SHAPE, a.x_stride = K - 1);
    NOT(W4AX_BAD_SHAPE, a.y_stride = N - 1);
    NOT(W4AX_BAD_SHAPE, a.n = N - 1);
    NOT(W4AX_BAD_SHAPE, a.k = K - 1);
    NOT(W4AX_BAD_SHAPE, a.bias_len--);
    NOT(W4AX_BAD_SHAPE, a.bias_len = 0);
    NOT(W4AX_BAD_SHAPE, a.m = SIZE_MAX);
    NOT(W4AX_BAD_SHAPE, a.x_stride = SIZE_MAX);
    NOT(W4AX_BAD_SHAPE, a.y_stride = SIZE_MAX / 2 + 1);
    NOT(W4AX_OUT_OF_RANGE, (a.bias_len = SIZE_MAX));
    NOT(W4AX_OUT_OF_RANGE, (a.m = 2, a.x_stride = SIZE_MAX - K, a.x_len = SIZE_MAX));
    NOT(W4AX_BAD_WIDTH, a.width = 0);
    NOT(W4AX_BAD_WIDTH, a.width = 3);
    NOT(W4AX_BAD_WIDTH, a.width = UINT32_MAX);
    NOT(W4AX_BAD_ENUM, a.flags = 2);
    NOT(W4AX_OVERLAP, (a.y = both, a.y_len = M * N, a.x = both + M * N - 1));
    NOT(W4AX_OVERLAP, (a.y = both + M * K - 1, a.x = both));
    NOT(W4AX_OVERLAP, (a.bias = (float *)(void *)(y + 2)));
    a = gemm_args(weight);
    OK(w4ax_workspace_create(cpu, M - 1, K, &small));
    EXPECT(W4AX_BUFFER_TOO_SMALL, w4ax_cpu_gemm(cpu, &a, small));
    w4ax_workspace_free(small);
    OK(w4ax_workspace_create(cpu, M, K - 1, &small));
    EXPECT(W4AX_BUFFER_TOO_SMALL, w4ax_cpu_gemm(cpu, &a, small));
    w4ax_workspace_free(small);
    CHECK(memcmp(y, before, sizeof y) == 0);
#undef NOT
    /* Adjacent buffers do not overlap; 0 tokens are allowed; a pool may run the pieces in any order. */
    a = gemm_args(weight);
    a.x = both;
    a.y = both + M * K;
    OK(w4ax_cpu_gemm(cpu, &a, workspace));
    a = gemm_args(weight);
    a.m = a.x_len = a.y_len = 0;
    a.x = a.y = NULL;
    OK(w4ax_cpu_gemm(cpu, &a, workspace));

    {
        void (*const broken[])(void *, uint32_t, w4ax_piece, void *) = {skips_pieces, repeats_pieces, exceeds_range};
        for (i = 0; i < 3; i++) {
            pool = table(broken[i]);
            OK(w4ax_cpu_create_with_pool("scalar", &pool, &other));
            a = gemm_args(weight);
            EXPECT(W4AX_THREADS, w4ax_cpu_gemm(other, &a, workspace));
            w4ax_cpu_free(other);
        }
        pool = table(calls_again);
        OK(w4ax_cpu_create_with_pool("scalar", &pool, &other));
        outer_cpu = other;
        outer_args = &a;
        outer_workspace = workspace;
        OK(w4ax_cpu_gemm(other, &a, workspace));
        w4ax_cpu_free(other);
    }
    /* The workspace is still usable. */
    OK(w4ax_cpu_gemm(cpu, &a, workspace));
    w4ax_workspace_free(workspace);
    w4ax_cpu_free(cpu);
}

int main(int argc, char **argv) {
    w4ax_pack_args args = pack_args();
    w4ax_weight *weight = NULL;
    size_t i;
    if (argc < 2) {
        fprintf(stderr, "usage: misuse FOLDER [leak]\n");
        return 2;
    }
    CHECK(w4ax_version() == W4AX_VERSION);
    CHECK(w4ax_last_error()[0] == 0);
    CHECK(strcmp(w4ax_status_text(W4AX_OK), "no error") == 0);
    CHECK(strcmp(w4ax_status_text(12345), "unknown status") == 0);
    for (i = 0; i < N * GROUPS; i++) {
        scales[i] = 1;
    }
    packing();
    quantizing();
    OK(w4ax_weight_pack(&args, &weight));
    weights(weight);
    files(argv[1], weight);
    multiplying(weight);
    if (argc < 3) {
        w4ax_weight_free(weight);
    }
    weight = NULL;
    return finish();
}
