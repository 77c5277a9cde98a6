/* Packs weights and multiplies on the CPU. Compares every bit of y: with plain C on data whose sums are exact, and with
 * the expected results in case files.
 *
 *     gemm FOLDER CASE...      FOLDER: for temporary files; CASE: a file that gemm.rs writes */
#include "check.h"

#include <pthread.h>

static const char *const ISAS[] = {"scalar", "avx2", "avx512vnni", "avx512bf16"};
static const uint16_t MARK = 0x1234; /* fills the gaps between the rows of y */

/* Allocates exactly this size, so that a checker finds an access beyond it. */
static void *allocate_zeroed(size_t count, size_t size) {
    void *p = calloc(count ? count : 1, size);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return p;
}

/* ---- a pool of the caller: one thread per piece ---- */

typedef struct job {
    w4ax_piece piece;
    void *argument;
    uint32_t number;
} job;

static void *run_job(void *p) {
    job *j = (job *)p;
    j->piece(j->argument, j->number);
    return NULL;
}

static void run_threads(void *context, uint32_t pieces, w4ax_piece piece, void *argument) {
    pthread_t threads[8];
    job jobs[8];
    uint32_t i, started = 0;
    ++*(int *)context;
    for (i = 0; i < pieces; i++) {
        jobs[i].piece = piece;
        jobs[i].argument = argument;
        jobs[i].number = i;
        if (i < 8 && pthread_create(&threads[i], NULL, run_job, &jobs[i]) == 0) {
            started++;
        }
    }
    for (i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* ---- a case: INT4 values and x, and the expected y ---- */

typedef struct problem {
    uint32_t n, k, m, grouping, symmetric, scale_type, width, x_stride, y_stride, has_bias;
    int8_t *q;
    void *scales;
    int8_t *zeros;
    uint16_t *x;
    float *bias;
    uint16_t *y; /* expected, dense */
} problem;

static size_t groups_of(const problem *p) {
    return p->grouping ? (p->k + p->grouping - 1) / p->grouping : 1;
}

static size_t scale_size(const problem *p) {
    return p->scale_type == W4AX_TYPE_F32 ? 4 : 2;
}

static size_t x_len(const problem *p) {
    return (size_t)(p->m - 1) * p->x_stride + p->k;
}

static void allocate_problem(problem *p) {
    size_t scale_count = p->n * groups_of(p);
    p->q = (int8_t *)allocate_zeroed((size_t)p->n * p->k, 1);
    p->scales = allocate_zeroed(scale_count, scale_size(p));
    p->zeros = (int8_t *)allocate_zeroed(p->symmetric ? 0 : scale_count, 1);
    p->x = (uint16_t *)allocate_zeroed(x_len(p), 2);
    p->bias = (float *)allocate_zeroed(p->has_bias ? p->n : 0, 4);
    p->y = (uint16_t *)allocate_zeroed((size_t)p->m * p->n, 2);
}

static void release(problem *p) {
    free(p->q);
    free(p->scales);
    free(p->zeros);
    free(p->x);
    free(p->bias);
    free(p->y);
}

static void take(FILE *file, void *to, size_t count, size_t size) {
    if (fread(to, size, count, file) != count) {
        fprintf(stderr, "truncated case file\n");
        exit(1);
    }
}

static problem read_case(const char *path) {
    problem p;
    uint32_t header[10];
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "cannot open %s\n", path);
        exit(1);
    }
    take(file, header, 10, 4);
    p.n = header[0];
    p.k = header[1];
    p.m = header[2];
    p.grouping = header[3];
    p.symmetric = header[4];
    p.scale_type = header[5];
    p.width = header[6];
    p.x_stride = header[7];
    p.y_stride = header[8];
    p.has_bias = header[9];
    allocate_problem(&p);
    take(file, p.q, (size_t)p.n * p.k, 1);
    take(file, p.scales, p.n * groups_of(&p), scale_size(&p));
    take(file, p.zeros, p.symmetric ? 0 : p.n * groups_of(&p), 1);
    take(file, p.x, x_len(&p), 2);
    take(file, p.bias, p.has_bias ? p.n : 0, 4);
    take(file, p.y, (size_t)p.m * p.n, 2);
    fclose(file);
    return p;
}

static w4ax_weight *pack(const problem *p) {
    w4ax_weight *weight = NULL;
    w4ax_weight_info info;
    size_t scale_count = p->n * groups_of(p), all = (size_t)p->n * p->k;
    int8_t *q = (int8_t *)allocate_zeroed(all, 1), *zeros = (int8_t *)allocate_zeroed(scale_count, 1);
    void *scales = allocate_zeroed(scale_count, scale_size(p));
    w4ax_pack_args args;
    memset(&args, 0, sizeof args);
    args.q = p->q;
    args.q_len = all;
    args.scales = p->scales;
    args.scales_len = scale_count;
    args.zeros = p->symmetric ? NULL : p->zeros;
    args.zeros_len = p->symmetric ? 0 : scale_count;
    args.n = p->n;
    args.k = p->k;
    args.grouping = p->grouping;
    args.scale_type = p->scale_type;
    args.threads = 2;
    OK(w4ax_weight_pack(&args, &weight));

    OK(w4ax_weight_get_info(weight, &info));
    CHECK(info.n == p->n && info.k == p->k && info.groups == groups_of(p) && info.grouping == p->grouping);
    CHECK(info.symmetry == (p->symmetric ? W4AX_SYMMETRIC : W4AX_ASYMMETRIC) && info.scale_type == p->scale_type);
    CHECK(info.bytes >= all / 2 + scale_count * scale_size(p));
    memset(zeros, 99, scale_count);
    OK(w4ax_weight_unpack(weight, q, all, scales, scale_count, zeros, scale_count));
    CHECK(memcmp(q, p->q, all) == 0 && memcmp(scales, p->scales, scale_count * scale_size(p)) == 0);
    if (p->symmetric) {
        size_t i;
        for (i = 0; i < scale_count; i++) {
            CHECK(zeros[i] == 0);
        }
    } else {
        CHECK(memcmp(zeros, p->zeros, scale_count) == 0);
    }
    free(q);
    free(zeros);
    free(scales);
    return weight;
}

/* Runs one call on one backend. y must be as expected, and the gaps between its rows unchanged. */
static void multiply(const problem *p, const w4ax_weight *weight, const w4ax_cpu *cpu, const char *what) {
    size_t y_len = (size_t)(p->m - 1) * p->y_stride + p->n, i, wrong = 0;
    uint16_t *y = (uint16_t *)allocate_zeroed(y_len, 2);
    w4ax_workspace *workspace = NULL;
    w4ax_gemm_args args;
    OK(w4ax_workspace_create(cpu, p->m, p->k, &workspace));
    for (i = 0; i < y_len; i++) {
        y[i] = MARK;
    }
    memset(&args, 0, sizeof args);
    args.weight = weight;
    args.x = p->x;
    args.x_len = x_len(p);
    args.x_stride = p->x_stride;
    args.bias = p->has_bias ? p->bias : NULL;
    args.bias_len = p->has_bias ? p->n : 0;
    args.y = y;
    args.y_len = y_len;
    args.y_stride = p->y_stride;
    args.m = p->m;
    args.n = p->n;
    args.k = p->k;
    args.width = p->width;
    OK(w4ax_cpu_gemm(cpu, &args, workspace));
    for (i = 0; i < y_len; i++) {
        size_t row = i / p->y_stride, column = i % p->y_stride;
        if (y[i] != (column < p->n ? p->y[row * p->n + column] : MARK)) {
            wrong++;
        }
    }
    if (wrong) {
        fprintf(stderr, "%s: m %u n %u k %u grouping %u width %u: %lu wrong values\n", what, (unsigned)p->m,
                (unsigned)p->n, (unsigned)p->k, (unsigned)p->grouping, (unsigned)p->width, (unsigned long)wrong);
        failures++;
    }
    w4ax_workspace_free(workspace);
    free(y);
}

/* Runs every instruction set of this machine: in this thread, on threads of the library, on threads of this program. */
static void multiply_everywhere(const problem *p) {
    w4ax_weight *weight = pack(p);
    size_t i;
    for (i = 0; i < sizeof ISAS / sizeof *ISAS; i++) {
        w4ax_cpu *cpu = NULL;
        const char *isa = NULL;
        uint32_t threads = 0;
        int calls = 0;
        w4ax_pool pool;
        w4ax_status made = w4ax_cpu_create(ISAS[i], 1, &cpu);
        if (made == W4AX_NO_BACKEND && i > 0) {
            continue;
        }
        CHECK(made == W4AX_OK);
        OK(w4ax_cpu_isa(cpu, &isa));
        CHECK(strcmp(isa, ISAS[i]) == 0);
        multiply(p, weight, cpu, isa);
        w4ax_cpu_free(cpu);

        OK(w4ax_cpu_create(ISAS[i], 3, &cpu));
        OK(w4ax_cpu_threads(cpu, &threads));
        CHECK(threads == 3);
        multiply(p, weight, cpu, isa);
        w4ax_cpu_free(cpu);

        memset(&pool, 0, sizeof pool);
        pool.run = run_threads;
        pool.context = &calls;
        pool.threads = 4;
        OK(w4ax_cpu_create_with_pool(ISAS[i], &pool, &cpu));
        multiply(p, weight, cpu, isa);
        CHECK(calls > 0);
        w4ax_cpu_free(cpu);
    }
    w4ax_weight_free(weight);
}

/* ---- plain C on exact data ---- */

static uint32_t seed = 1;

static uint32_t below(uint32_t end) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % end;
}

static uint16_t bf16_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16); /* to nearest, ties to even */
}

static float float_of(uint16_t bf16) {
    uint32_t bits = (uint32_t)bf16 << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* Activations are integers from 0 to the largest code, which every group contains: the scale is 1 and quantization is
 * exact. Weight scales are powers of two, so sums are exact in double and in float. Only the result is rounded. */
static void exact_case(uint32_t m, uint32_t n, uint32_t k, uint32_t grouping, uint32_t width, uint32_t symmetric) {
    uint32_t qmax = width == 16 ? 15 : (1u << width) - 1, size = grouping ? grouping : k, row, column, i;
    problem p;
    float *scales;
    p.n = n;
    p.k = k;
    p.m = m;
    p.grouping = grouping;
    p.symmetric = symmetric;
    p.scale_type = W4AX_TYPE_F32;
    p.width = width;
    p.x_stride = k + 3;
    p.y_stride = n + 5;
    p.has_bias = 1;
    allocate_problem(&p);
    scales = (float *)p.scales;
    for (i = 0; i < n * k; i++) {
        p.q[i] = (int8_t)((int)below(16) - 8);
    }
    for (i = 0; i < n * groups_of(&p); i++) {
        scales[i] = below(2) ? 0.5f : 2.0f;
        if (!symmetric) {
            p.zeros[i] = (int8_t)((int)below(17) - 8);
        }
    }
    for (i = 0; i < x_len(&p); i++) {
        uint32_t at = i % p.x_stride;
        p.x[i] = bf16_of((float)(at % size == 0 ? qmax : below(qmax + 1)));
    }
    for (column = 0; column < n; column++) {
        p.bias[column] = (float)below(100);
    }
    for (row = 0; row < m; row++) {
        for (column = 0; column < n; column++) {
            double sum = p.bias[column];
            for (i = 0; i < k; i++) {
                size_t scale = column * groups_of(&p) + i / size;
                int zero = symmetric ? 0 : p.zeros[scale];
                sum += (double)float_of(p.x[row * p.x_stride + i]) * (p.q[column * k + i] - zero) * scales[scale];
            }
            p.y[row * n + column] = bf16_of((float)sum);
        }
    }
    multiply_everywhere(&p);
    release(&p);
}

/* ---- quantization: integers whose groups contain 7 have scale 1 and are exact ---- */

static void quantize_case(const char *folder, uint32_t type) {
    enum { N = 33, K = 100, STRIDE = 104 };
    static float plain[N * STRIDE], back[N * K];
    static uint16_t narrow[N * STRIDE];
    char path[4096];
    w4ax_quantize_args args;
    w4ax_weight *weight = NULL, *loaded = NULL;
    w4ax_file *file = NULL;
    const char *name = NULL;
    size_t i, count = 0;
    for (i = 0; i < N * STRIDE; i++) {
        plain[i] = i % STRIDE % 32 == 0 ? 7.0f : (float)((int)below(15) - 7);
        narrow[i] = bf16_of(plain[i]);
    }
    memset(&args, 0, sizeof args);
    args.w = type == W4AX_TYPE_F32 ? (const void *)plain : (const void *)narrow;
    args.w_len = (N - 1) * STRIDE + K;
    args.w_stride = STRIDE;
    args.n = N;
    args.k = K;
    args.w_type = type;
    args.grouping = W4AX_G32;
    args.symmetry = W4AX_SYMMETRIC;
    args.scale_type = W4AX_TYPE_BF16;
    OK(w4ax_weight_quantize(&args, &weight));

    /* Through a file. The order in which handles are freed must not matter. */
    snprintf(path, sizeof path, "%s/weights.%u.safetensors", folder, (unsigned)type);
    OK(w4ax_file_create(&file));
    OK(w4ax_file_insert(file, "layers.1.down", weight));
    OK(w4ax_file_insert(file, "layers.0.up", weight));
    OK(w4ax_file_save(file, path));
    OK(w4ax_file_count(file, &count));
    CHECK(count == 2);
    w4ax_weight_free(weight);
    w4ax_file_free(file);
    OK(w4ax_file_load(path, 1, &file));
    OK(w4ax_file_name(file, 0, &name));
    CHECK(strcmp(name, "layers.0.up") == 0);
    OK(w4ax_file_get(file, "layers.1.down", &loaded));
    w4ax_file_free(file);
    OK(w4ax_weight_dequantize(loaded, back, N * K));
    for (i = 0; i < N * K; i++) {
        CHECK(back[i] == plain[i / K * STRIDE + i % K]);
    }
    w4ax_weight_free(loaded);
    remove(path);
}

int main(int argc, char **argv) {
    static const uint32_t groupings[] = {W4AX_PER_CHANNEL, W4AX_G32, W4AX_G64, W4AX_G128};
    static const uint32_t widths[] = {W4AX_A2, W4AX_A4, W4AX_A8, W4AX_BF16};
    size_t g, w;
    int i;
    if (argc < 2) {
        fprintf(stderr, "usage: gemm FOLDER CASE...\n");
        return 2;
    }
    for (g = 0; g < 4; g++) {
        for (w = 0; w < 4; w++) {
            exact_case(1, 70, 200, groupings[g], widths[w], g % 2 == 0);
            exact_case(5, 33, 100, groupings[g], widths[w], g % 2 == 1);
        }
    }
    quantize_case(argv[1], W4AX_TYPE_F32);
    quantize_case(argv[1], W4AX_TYPE_BF16);
    for (i = 2; i < argc; i++) {
        problem p = read_case(argv[i]);
        multiply_everywhere(&p);
        release(&p);
    }
    return finish();
}
