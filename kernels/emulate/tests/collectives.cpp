// Warp collectives, barriers, shared memory, intrinsics and the text of errors: each against its definition.
#include "test.h"

namespace {

constexpr std::uint32_t all = 0xFFFFFFFFu;
using Values = int[256];

/// Runs a block of one or more warps. `body` returns whether a thread's result is right.
template <class Body>
void check(char const* name, int threads, Body body) {
    test::Verdicts verdicts;
    std::string const error = test::run(1, threads, 0,
                                        [body, &verdicts] { verdicts.mine() &= body(static_cast<int>(threadIdx.x)); });
    test::expect(error.empty(), error.c_str());
    test::expect(verdicts.all(), name);
}

template <class Body>
void check_error(char const* part, int threads, Body body) {
    std::string const error = test::run(1, threads, 0, body);
    if (test::contains(error, part)) return;
    std::printf("expected an error that contains \"%s\", got \"%s\"\n", part, error.c_str());
    ++test::failures;
}

void shuffles() {
    check("shfl", 32, [](int t) { return __shfl_sync(all, 10 * t, 5) == 50; });
    check("shfl of a segment", 32, [](int t) { return __shfl_sync(all, t, 1, 8) == t / 8 * 8 + 1; });
    check("shfl.bfly", 32, [](int t) { return __shfl_xor_sync(all, 0.5f * t, 4) == 0.5f * (t ^ 4); });
    check("shfl.bfly of a segment", 32, [](int t) { return __shfl_xor_sync(all, t, 4, 4) == (t / 4 % 2 ? t ^ 4 : t); });
    check("shfl.down", 32, [](int t) { return __shfl_down_sync(all, t, 3) == (t + 3 < 32 ? t + 3 : t); });
    check("shfl.up", 32, [](int t) { return __shfl_up_sync(all, t, 3, 16) == (t % 16 >= 3 ? t - 3 : t); });
    check("shfl of 8 bytes", 32, [](int t) { return __shfl_sync(all, 1ull << 40 | t, 7) == (1ull << 40 | 7); });
    check("the halves of a warp separately", 64, [](int t) {
        std::uint32_t const half = t % 32 < 16 ? 0x0000FFFFu : 0xFFFF0000u;
        int sum = t;
        for (int d = 8; d; d /= 2) sum += __shfl_xor_sync(half, sum, d);
        return sum == (t / 16 * 16) * 16 + 120;
    });
}

void votes_and_reductions() {
    check("ballot", 32, [](int t) { return __ballot_sync(all, t % 3 == 0) == 0x49249249u; });
    check("any, all", 32,
          [](int t) { return __any_sync(all, t == 9) && !__all_sync(all, t != 9) && __all_sync(all, 1); });
    check("match_any", 32, [](int t) { return __match_any_sync(all, t % 4) == 0x11111111u << (t % 4); });
    check("reduce_add", 32, [](int t) { return __reduce_add_sync(all, t) == 496; });
    check("reduce_min", 32, [](int t) { return __reduce_min_sync(all, t - 5) == -5; });
    check("reduce_max", 32, [](int t) { return __reduce_max_sync(0x3u << (t & ~1), unsigned(t)) == unsigned(t | 1); });
}

void barriers() {
    check("a barrier orders accesses in every schedule", 256, [](int t) {
        W4AX_STATIC_SHARED(Values, values);
        values[t] = t;
        __syncthreads();  // each thread reads another's value
        int const seen = values[255 - t];
        __syncthreads();  // all threads have read
        values[t] = -1;
        return seen == 255 - t;
    });
    check("syncthreads_count", 128, [](int t) {
        return __syncthreads_count(t % 4 == 0) == 32 && __syncthreads_or(t == 77) && !__syncthreads_and(t != 77);
    });
    check("named barriers of part of a block", 128, [](int t) {
        W4AX_STATIC_SHARED(Values, values);
        int const half = t / 64;
        for (int round = 0; round < 3; ++round) {
            values[t] = round;
            w4ax_emulate::barrier_sync(1 + half, 64, __FILE__, __LINE__);  // the half's values are written
            if (values[half * 64 + (t + 1) % 64] != round) return false;
            w4ax_emulate::barrier_sync(1 + half, 64, __FILE__, __LINE__);  // and read
        }
        return true;
    });
    check("arrive without waiting", 64, [](int t) {
        W4AX_STATIC_SHARED(int, value);
        if (t == 0) value = 42;
        if (t < 32)
            w4ax_emulate::barrier_arrive(3, 64, __FILE__, __LINE__);  // the first warp has written the value
        else
            w4ax_emulate::barrier_sync(3, 64, __FILE__, __LINE__);  // the second warp reads it
        return t < 32 || value == 42;
    });
}

void errors() {
    check_error("in __ballot_sync", 32, [] {
        if (threadIdx.x % 4 == 3)
            __ballot_sync(all, 1);
        else
            __shfl_sync(all, 1, 0);
    });
    check_error("has exited", 32, [] {
        if (threadIdx.x == 3) return;
        __syncwarp();
    });
    check_error("is not in its own mask", 32, [] { __syncwarp(0x7FFFFFFFu); });
    check_error("which is not in mask", 32, [] {
        if (threadIdx.x < 16) __shfl_xor_sync(0xFFFFu, 1, 16);
    });
    check_error("divergent barrier", 64, [] {
        if (threadIdx.x < 32)
            __syncthreads();
        else
            __syncthreads();
    });
    check_error("collectives.cpp:", 64, [] {
        if (threadIdx.x < 32) __syncthreads();
    });
    check_error("expects", 64, [] { w4ax_emulate::barrier_sync(1, threadIdx.x % 2 ? 32 : 64, __FILE__, __LINE__); });
    check_error("misaligned", 32, [] { w4ax_emulate::fail("misaligned"); });
    check_error("not whole warps", 33, [] {});
    test::expect(test::contains(test::run(1, 32, 300 << 10, [] {}), "307200 bytes"), "too much shared memory");
    // The emulator still works after errors.
    check("after errors", 64, [](int t) { return __shfl_sync(all, t, 0) == t / 32 * 32; });
}

void a_sticky_error_stops_later_launches() {
    w4ax_emulate_clear_error();
    static int ran;
    ran = 0;
    bool const first = w4ax_emulate::launch({1, 32}, [] { __trap(); }) == cudaSuccess;
    bool const second = w4ax_emulate::launch({1, 32}, [] { ++ran; }) == cudaSuccess;
    w4ax_emulate::synchronize();
    test::expect(!first && !second && ran == 0, "launches after a failed launch do not run");
    w4ax_emulate_clear_error();
}

void every_block_runs_once() {
    static int runs[3][5][7];
    std::memset(runs, 0, sizeof runs);
    test::run(dim3(7, 5, 3), dim3(4, 4, 2), 0, [] {
        if (threadIdx.x == 3 && threadIdx.y == 3 && threadIdx.z == 1) ++runs[blockIdx.z][blockIdx.y][blockIdx.x];
    });
    bool once = true;
    for (auto& plane : runs)
        for (auto& row : plane)
            for (int run : row) once &= run == 1;
    test::expect(once, "every block runs once");
}

void conflicts() {
    for (int stride : {128, 144}) {  // rows at 128 bytes share their banks; rows at 144 bytes do not
        w4ax_emulate_reset_counters();
        test::run(1, 32, 8 * 144, [=] {
            auto* rows = static_cast<char*>(w4ax_emulate::dynamic_shared(16));
            for (int i = threadIdx.x; i < 8 * 144; i += 32) rows[i] = 0;
            __syncthreads();  // written by all lanes, read by others
            std::uint32_t word;
            w4ax_emulate::ldmatrix<1, false>("ldmatrix", rows + threadIdx.x % 8 * stride, &word);
        });
        w4ax_emulate_counters counters;
        w4ax_emulate_get_counters(&counters);
        test::expect(counters.ldmatrix_conflicts == (stride == 128 ? 7 : 0), "bank conflicts of ldmatrix");
    }
}

void intrinsics() {
    test::expect(__byte_perm(0x33221100u, 0x77665544u, 0x7531) == 0x77553311u, "prmt");
    test::expect(__byte_perm(0x00008000u, 0, 0x0009) == 0x000000FFu, "prmt with a sign");
    test::expect(__float2int_rn(2.5f) == 2 && __float2int_rn(-3.5f) == -4, "round to even");
    test::expect(__float2int_rn(3e9f) == 2147483647 && __float2int_rn(NAN) == 0, "conversion saturates");
    test::expect(__dp4a(0x80FF0102u, 0x01010101u, 0u) == 128 + 255 + 1 + 2, "dp4a unsigned");
    test::expect(__dp4a(int(0x80FF0102), 0x01010101, 0) == -128 - 1 + 1 + 2, "dp4a signed");
    test::expect(__vadd4(0xFF7F0180u, 0x01010180u) == 0x00800200u, "vadd4");
    test::expect(__vsub4(0x00800200u, 0x01010180u) == 0xFF7F0180u, "vsub4");
    test::expect(__funnelshift_r(0x89ABCDEFu, 0x01234567u, 8) == 0x6789ABCDu, "funnel shift");
    // 136 + w - 136 is exact.
    __nv_bfloat162 const one = __float2bfloat162_rn(1.0f), big = __float2bfloat162_rn(143.0f);
    test::expect(__low2float(__hfma2(big, one, __float2bfloat162_rn(-136.0f))) == 7.0f, "bf16 fma");
    // 1 + 2^-8 is a tie in BF16: any larger value must round up.
    float const above_tie = __bfloat162float(w4ax_emulate::fma_bf16(1.0f, 1.00390625f, 1e-30f));
    test::expect(above_tie == 1.0078125f, "bf16 fma rounds once");
}

}  // namespace

int main() {
    for (std::uint64_t seed = 0; seed < 12; ++seed) {
        w4ax_emulate_set_seed(seed);
        shuffles();
        votes_and_reductions();
        barriers();
        every_block_runs_once();
    }
    conflicts();
    intrinsics();
    errors();
    a_sticky_error_stops_later_launches();
    return test::finish("collectives");
}
