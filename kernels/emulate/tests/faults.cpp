// Planted faults. The builds that can detect a fault must detect it; the same kernel without a fault must pass in every
// build with every seed. Each run is a process: a sanitizer's report ends it.
//
//   faults            runs all faults with 8 seeds each, prints a table, and fails if too few runs were caught
//   faults NAME SEED  runs one fault and prints its output
#include <sys/wait.h>
#include <unistd.h>
#include <thread>
#include <vector>

#include "mini_gemm.h"

namespace {

constexpr int kSeeds = 8;

enum class Outcome { right, wrong_result, emulator_error, sanitizer, crash };

/// A buffer of exactly its size, so that ASan detects the first byte beyond.
template <class T>
struct Buffer {
    explicit Buffer(std::size_t count) : data(static_cast<T*>(std::aligned_alloc(16, bytes(count)))) {
        // aligned_alloc requires a multiple of 16.
        if (bytes(count) % 16) std::abort();
    }
    ~Buffer() { std::free(data); }
    static std::size_t bytes(std::size_t count) { return count * sizeof(T); }
    T& operator[](std::size_t i) { return data[i]; }
    T* data;
};

/// Returns the emulator's error text, "wrong result" or "".
std::string run_gemm_fault(int fault, std::uint64_t seed) {
    using namespace mini;
    test::Random numbers(seed);
    int const m = 21, n = 128, k = 320, groups = k / kBlockK;
    Buffer<bfloat16_t> x(m * k), y(m * n);
    Buffer<uint32_t> tiles(n / 16 * groups * kTileWords);
    Buffer<float> scales(groups * n);
    Buffer<int> sums(groups * n);
    std::vector<int> w(n * k);
    for (int i = 0; i < m * k; ++i) x[i] = bfloat16_t(float(numbers.between(-9000, 11000)) * 1e-4f);
    for (int i = 0; i < m * n; ++i) y[i] = bfloat16_t::bitcast(0x7F7F);
    for (int i = 0; i < n / 16 * groups * kTileWords; ++i) tiles[i] = 0;
    for (int i = 0; i < groups * n; ++i) scales[i] = float(numbers.between(1, 1000)) * 1e-4f, sums[i] = 0;
    for (int row = 0; row < n; ++row) {
        for (int col = 0; col < k; ++col) {
            int const value = w[row * k + col] = numbers.between(-8, 7);
            int const g = row & 7, r_row = (row >> 3) & 1, k64 = col & 63, t = (k64 >> 1) & 3;
            int const word = 4 * (4 * g + t) + 2 * (k64 >> 5) + r_row;
            int const nibble = 4 * (k64 & 1) + 2 * ((k64 >> 4) & 1) + ((k64 >> 3) & 1);
            tiles[(row / 16 * groups + col / 64) * kTileWords + word] |= uint32_t(value & 15) << (4 * nibble);
            sums[col / kBlockK * n + row] += value;
        }
    }
    Arguments const arguments{x.data, tiles.data, scales.data, sums.data, y.data, m, n, k};
    std::string const error = test::run(dim3(n / kBlockN, (m + kBlockM - 1) / kBlockM), kThreads, sizeof(Shared),
                                        [=] { gemm_kernel(arguments, static_cast<Fault>(fault)); });
    if (!error.empty()) return error;

    for (int token = 0; token < m; ++token) {
        std::vector<float> acc(n);
        for (int group = 0; group < groups; ++group) {
            float low = 0, high = 0;
            for (int i = 0; i < kBlockK; ++i) {
                float const v = float(x[token * k + group * kBlockK + i]);
                low = std::fmin(low, v);
                high = std::fmax(high, v);
            }
            float const step = high / 255.0f - low / 255.0f, inverse = step > 0 ? 1.0f / step : 0.0f;
            int const zero = int(std::nearbyint(-low * inverse));
            for (int row = 0; row < n; ++row) {
                int d = 0;
                for (int i = 0; i < kBlockK; ++i) {
                    int const code = int(std::nearbyint(float(x[token * k + group * kBlockK + i]) * inverse)) + zero;
                    d += ((code < 0 ? 0 : code > 255 ? 255 : code) - zero) * w[row * k + group * kBlockK + i];
                }
                acc[row] = std::fma(float(d), step * scales[group * n + row], acc[row]);
            }
        }
        for (int row = 0; row < n; ++row) {
            if (y[token * n + row].storage != bfloat16_t(acc[row]).storage) return "wrong result";
        }
    }
    return "";
}

// Two grids. The second may start before the first has ended.
enum class Dependence { right, reads_too_early, never_waits };

std::string run_dependent_case(int argument, std::uint64_t) {
    auto const how = static_cast<Dependence>(argument);
    Buffer<int> made(64), used(64);
    w4ax_emulate_clear_error();
    w4ax_emulate::launch({2, 32}, [made = made.data] { made[blockIdx.x * 32 + threadIdx.x] = 7 * threadIdx.x; });
    w4ax_emulate::Grid grid{2, 32};
    grid.overlaps_previous = true;
    w4ax_emulate::launch(grid, [how, made = made.data, used = used.data] {
        int const at = blockIdx.x * 32 + threadIdx.x;
        int early = how == Dependence::reads_too_early ? made[at] : 0;
        if (how != Dependence::never_waits) w4ax::ptx::wait_on_dependent_grids();
        used[at] = how == Dependence::reads_too_early ? early : how == Dependence::right ? made[at] : 0;
    });
    w4ax_emulate::synchronize();
    std::string error = w4ax_emulate_last_error();
    for (int i = 0; i < 64 && error.empty(); ++i) {
        if (how != Dependence::never_waits && used[i] != 7 * (i % 32)) error = "wrong result";
    }
    return error;
}

// Sets two conditional nodes by one thread of a block or, wrongly, by two.
std::string run_conditionals(int by_two, std::uint64_t) {
    return test::run(dim3(2), 64, 0, [=] {
        for (int i = 0; i < 2; ++i) {
            if (int(threadIdx.x) == (by_two ? 32 * i : 0)) w4ax_emulate::set_graph_conditional(i, 1);
        }
    });
}

/// Two streams, each launched by a thread of its own. They write memory of their own, or the same (argument 1).
std::string run_streams(int same, std::uint64_t) {
    static int results[2][256];
    auto stream = [same](int number) {
        for (int launch = 0; launch < 3; ++launch) {
            int* const to = results[same ? 0 : number];
            w4ax_emulate::launch({dim3(2), dim3(128)}, [to] { to[blockIdx.x * 128 + threadIdx.x] += 1; });
            w4ax_emulate::synchronize();
        }
    };
    std::thread first(stream, 0), second(stream, 1);
    first.join();
    second.join();
    for (int const* of : {results[0], results[1]}) {
        for (int i = 0; i < 256; ++i) {
            if (!same && of[i] != 3) return "wrong result";
        }
    }
    return w4ax_emulate_last_error();
}

struct Case {
    char const* name;
    std::string (*run)(int, std::uint64_t);
    int argument;
    int plain, address, thread;  // least number of the 8 seeds that must be caught
};

Case const cases[] = {
    {"none", run_gemm_fault, mini::none, 0, 0, 0},
    {"dependent launch, right", run_dependent_case, int(Dependence::right), 0, 0, 0},
    {"barrier missing after quantizing", run_gemm_fault, mini::no_barrier_after_quantizing, 8, 8, 8},
    {"barrier missing at the loop's top", run_gemm_fault, mini::no_barrier_at_loop_top, 1, 1, 8},
    {"cp.async: no wait", run_gemm_fault, mini::no_wait, 8, 8, 8},
    {"cp.async: wait off by one", run_gemm_fault, mini::wait_off_by_one, 1, 8, 1},
    {"cp.async: no commit", run_gemm_fault, mini::no_commit, 1, 8, 8},
    {"cp.async: exits without a wait", run_gemm_fault, mini::no_last_wait, 8, 8, 8},
    {"cp.async: into the stage being read", run_gemm_fault, mini::overwrites_stage_being_read, 8, 8, 8},
    {"cp.async: past the last stage", run_gemm_fault, mini::copies_past_the_stages, 8, 8, 8},
    {"cp.async: twice to one place", run_gemm_fault, mini::copies_twice, 8, 8, 8},
    {"cp.async: misaligned source", run_gemm_fault, mini::misaligned_copy, 8, 8, 8},
    {"reads the wrong stage", run_gemm_fault, mini::reads_wrong_stage, 8, 8, 8},
    {"wrong fragment order", run_gemm_fault, mini::wrong_fragment_order, 8, 8, 8},
    {"wrong shuffle distance", run_gemm_fault, mini::wrong_shuffle_distance, 8, 8, 8},
    {"wrong shuffle mask", run_gemm_fault, mini::wrong_shuffle_mask, 8, 8, 8},
    {"row predicate missing", run_gemm_fault, mini::no_row_predicate, 0, 8, 0},
    {"stores past M", run_gemm_fault, mini::stores_past_m, 0, 8, 0},
    {"scale column off by one", run_gemm_fault, mini::scale_column_off_by_one, 8, 8, 8},
    {"reads past the shared memory", run_gemm_fault, mini::reads_past_shared, 0, 8, 0},
    {"a scale is never written", run_gemm_fault, mini::scale_not_written, 8, 8, 8},
    {"divergent barrier", run_gemm_fault, mini::divergent_barrier, 8, 8, 8},
    {"one barrier in two branches", run_gemm_fault, mini::barrier_in_branch, 8, 8, 8},
    {"a warp exits before a barrier", run_gemm_fault, mini::warp_exits_early, 8, 8, 8},
    {"a lane skips an mma", run_gemm_fault, mini::lane_skips_mma, 8, 8, 8},
    {"a lane skips an ldmatrix", run_gemm_fault, mini::lane_skips_ldmatrix, 8, 8, 8},
    {"two blocks write the same output", run_gemm_fault, mini::blocks_write_same_output, 8, 8, 8},
    {"dependent launch reads too early", run_dependent_case, int(Dependence::reads_too_early), 0, 0, 8},
    {"dependent launch never waits", run_dependent_case, int(Dependence::never_waits), 8, 8, 8},
    {"two streams, apart", run_streams, 0, 0, 0, 0},
    {"two streams write the same output", run_streams, 1, 0, 0, 8},
    {"conditionals set by one thread", run_conditionals, 0, 0, 0, 0},
    {"conditionals set by two threads", run_conditionals, 1, 8, 8, 8},
};

Outcome run_in_child(Case const& one, std::uint64_t seed, std::string& text) {
    int ends[2];
    if (pipe(ends)) std::abort();
    std::fflush(stdout);
    pid_t const child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        dup2(ends[1], 1);
        close(ends[0]);
        w4ax_emulate_set_seed(seed);
        std::string const error = one.run(one.argument, seed);
        std::fprintf(stderr, "%s\n", error.c_str());
        std::fflush(stderr);
        _exit(error.empty() ? 0 : error == "wrong result" ? 1 : 2);
    }
    close(ends[1]);
    text.clear();
    char part[4096];
    for (ssize_t got; (got = read(ends[0], part, sizeof part)) > 0;) text.append(part, static_cast<std::size_t>(got));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (test::contains(text, "Sanitizer") || test::contains(text, "runtime error")) return Outcome::sanitizer;
    if (!WIFEXITED(status)) return Outcome::crash;
    switch (WEXITSTATUS(status)) {
        case 0: return Outcome::right;
        case 1: return Outcome::wrong_result;
        case 2: return Outcome::emulator_error;
        default: return Outcome::crash;
    }
}

}  // namespace

int main(int count, char** values) {
    if (count == 3) {
        for (Case const& one : cases) {
            if (std::strcmp(one.name, values[1])) continue;
            w4ax_emulate_set_seed(std::strtoull(values[2], nullptr, 10));
            std::string const error = one.run(one.argument, std::strtoull(values[2], nullptr, 10));
            std::printf("%s\n", error.empty() ? "right" : error.c_str());
            return !error.empty();
        }
        std::printf("unknown fault\n");
        return 2;
    }
    std::string const build = w4ax_emulate_sanitizer();
    std::printf("%-38s caught of %d, sanitizer %s (by emulator, sanitizer, result, crash)\n", "fault", kSeeds,
                build.c_str());
    for (Case const& one : cases) {
        int by[5] = {};
        std::string first;
        for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
            std::string text;
            Outcome const outcome = run_in_child(one, seed, text);
            ++by[static_cast<int>(outcome)];
            if (first.empty() && outcome == Outcome::emulator_error) first = text.substr(0, text.find('\n'));
        }
        int const caught = kSeeds - by[0];
        int const wanted = build == "address" ? one.address : build == "thread" ? one.thread : one.plain;
        bool const right = one.name == std::string("none") || one.argument == 0;
        bool const good = right ? caught == 0 : caught >= wanted;
        std::printf("%-38s %d (%d, %d, %d, %d)%s\n", one.name, caught, by[2], by[3], by[1], by[4],
                    good ? "" : "   <-- FAILED");
        if (!first.empty() && std::getenv("W4AX_VERBOSE")) std::printf("    %s\n", first.c_str());
        test::expect(good, one.name);
    }
    return test::finish("faults");
}
