// Launches: one block after the other, in an order by the seed.
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "emulate/engine/block.h"
#include "emulate/engine/launch.h"
#include "emulate/engine/quiet_lock.h"
#include "emulate/engine/sanitizers.h"
#include "emulate/memory/bulk_copy.h"
#include "emulate/mma/wgmma.h"
#include "emulate/sync/mbarrier.h"

namespace w4ax_emulate {

namespace {

#ifdef W4AX_EMULATE_TSAN
// Two multiprocessors, to detect races between blocks; and two alternating sets, so that a grid that overlaps the
// previous one does not run on its fibers, which would order the two.
constexpr int sets = 2, per_set = 2;
#else
constexpr int sets = 1, per_set = 1;
#endif

struct Set {
    Multiprocessor processors[per_set];
    char started = 0;  // released by the host at a launch, acquired by each thread at its start
};

struct Retained {
    void* closure;
    void (*destroy)(void*);
};

/// What the launches of one host thread share. The software driver launches the grids of a stream on a thread of its
/// own. For TSan the grids of two threads run on fibers of their own too, and nothing orders them.
struct Lane {
    Set* all_sets[sets] = {};
    Set* last = nullptr;
    std::uint64_t launches = 0;
    std::vector<Retained> retained;
};

Lane& lane() {
#ifdef W4AX_EMULATE_TSAN
    static thread_local Lane* const own = new Lane;  // not destroyed: the fibers' clocks must outlive the thread
#else
    static Lane* const own = new Lane;
#endif
    return *own;
}

struct Allowance {
    void const* kernel;
    std::size_t bytes;
};
std::vector<Allowance> allowances;

QuietLock launching;  // the emulator's state is global: one grid at a time
std::uint64_t launches_since_seed = 0;
std::uint64_t block_serial = 0;
std::uint64_t random_state = 1;

Set* running_set = nullptr;
Set* previous_set = nullptr;
Grid running_grid;
void (*run_thread)(void*) = nullptr;
void* run_closure = nullptr;

void acquire_blocks_of(Set* set) {
    if (!set) return;
    for (auto& processor : set->processors) acquire(&processor.block_clock);
}

/// The body of a fiber: the same CUDA thread of one block after the other.
void thread_main() {
    Fiber::entered();
    for (;;) {
        acquire(&running_set->started);
        acquire(&block.on->block_clock);
        if (!running_grid.overlaps_previous) acquire_blocks_of(previous_set);
        run_thread(run_closure);
        check_no_copies(self());
        check_no_wgmma_in_flight();
        bool const last = block.exited + 1 == block.threads;
        if (last && bulk_copies_in_flight()) {
            fail("the block exits with %d bulk copies in flight", bulk_copies_in_flight());
        }
        if (last && running_grid.overlaps_previous && !block.waited_for_previous_grid) {
            fail("the block exits without griddepcontrol.wait, but its grid overlaps the previous one");
        }
        release(&block.on->block_clock);
        leave_block();
    }
}

bool can_run(Grid const& grid) {
    std::size_t const threads = std::size_t(grid.block.x) * grid.block.y * grid.block.z;
    if (threads == 0 || threads > max_threads || grid.block.z > 64) {
        report("launch: a block of %zu threads", threads);
    } else if (threads % 32) {
        report("launch: a block of %zu threads is not whole warps", threads);
    } else if (!grid.grid.x || !grid.grid.y || !grid.grid.z || grid.grid.x > 0x7FFFFFFFu || grid.grid.y > 65535 ||
               grid.grid.z > 65535) {
        report("launch: a grid of %u x %u x %u blocks", grid.grid.x, grid.grid.y, grid.grid.z);
    } else if (grid.dynamic_shared_bytes > largest_shared_bytes()) {
        report("launch: %zu bytes of shared memory: at most %zu at compute capability %d", grid.dynamic_shared_bytes,
               largest_shared_bytes(), options.compute_capability);
    } else {
        std::size_t allowed = 48 << 10;
        for (auto const& allowance : allowances) {
            if (allowance.kernel == grid.kernel && allowance.bytes > allowed) allowed = allowance.bytes;
        }
        if (!grid.kernel || grid.dynamic_shared_bytes <= allowed) return true;
        report("launch: %zu bytes of dynamic shared memory: cudaFuncSetAttribute allowed the kernel %zu",
               grid.dynamic_shared_bytes, allowed);
    }
    return false;
}

void start_threads() {
    for (int warp = 0; warp < block.threads / 32; ++warp) block.on->arrivals[warp] = {};
    for (int i = 0; i < block.threads; ++i) {
        CudaThread& thread = block.thread(i);
        if (!thread.fiber.created()) {
            auto* name = static_cast<char*>(std::malloc(32));  // TSan keeps the pointer
            std::snprintf(name, 32, "CUDA thread %d", i);
            thread.fiber.create(thread_main, name);
            thread.copies.reserve(256);  // by the host: a fiber must not free what an abandoned fiber allocated
        }
        unsigned const x = blockDim.x, y = blockDim.y;
        thread.index = {i % x, i / x % y, i / (x * y)};
        thread.linear = i;
        thread.lane = i % 32;
        thread.warp = i / 32;
        thread.waited_for_previous_grid = false;
        make_ready(thread);
    }
}

/// After a failure: abandons the stacks of the threads, which may be anywhere in the kernel.
void abandon_threads() {
    for (int i = 0; i < block.threads; ++i) {
        CudaThread& thread = block.thread(i);
        forget_copies(thread);
        if (thread.state == State::exited) continue;
        thread.state = State::exited;
        thread.ready_position = -1;
        thread.fiber.restart();
    }
}

/// Returns false if the block failed.
bool run_one_block(unsigned linear) {
    dim3 const& grid = running_grid.grid;
    blockIdx = {linear % grid.x, linear / grid.x % grid.y, linear / grid.x / grid.y};
    block.on = &running_set->processors[per_set == 1 ? 0 : random_bits() % per_set];
    block.threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
    block.exited = 0;
    block.serial = ++block_serial;
    block.waited_for_previous_grid = false;
    for (auto& barrier : block.on->barriers) barrier.arrived = 0;
    ++counters.blocks;
    block.on->shared.start_block(block.serial);
    reset_mbarriers();
    reset_bulk_copies();
    reset_wgmma();
    start_schedule();
    start_threads();
    run_block();
    if (block.exited == block.threads) {
        for (int id = 0; id < max_barriers; ++id) {
            if (block.on->barriers[id].arrived == 0) continue;
            report("barrier %d: the block exited after %d of %d arrivals", id, block.on->barriers[id].arrived,
                   block.on->barriers[id].expected);
            return false;
        }
        return true;
    }
    describe_failure();
    abandon_threads();
    return false;
}

}  // namespace

std::uint32_t random_bits() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return static_cast<std::uint32_t>(random_state >> 16);
}

void set_seed(std::uint64_t seed) {
    std::lock_guard<QuietLock> lock(launching);
    options.seed = seed;
    launches_since_seed = 0;
}

cudaError_t launch_erased(Grid const& grid, void (*run)(void*), void* closure, void (*destroy)(void*)) {
    std::lock_guard<QuietLock> lock(launching);
    Lane& on = lane();
    on.retained.push_back({closure, destroy});
    if (failed() || !can_run(grid)) return cudaErrorLaunchFailure;
    ++counters.launches;
    random_state = (options.seed + 1) * 0x9E3779B97F4A7C15ull + ++launches_since_seed * 0xD1B54A32D192ED03ull;
    previous_set = on.last;
    Set*& set = on.all_sets[++on.launches % sets];
    if (!set) set = new Set;
    running_set = on.last = set;
    running_grid = grid;
    run_thread = run;
    run_closure = closure;
    blockDim = grid.block;
    gridDim = grid.grid;
    host.adopt_host();
    // The last grid on this set has ended: the host may touch its shared memory.
    if (sets > 1) acquire_blocks_of(running_set);
    for (auto& processor : running_set->processors) processor.shared.set_dynamic_size(grid.dynamic_shared_bytes);
    release(&running_set->started);

    std::uint64_t const blocks = std::uint64_t(grid.grid.x) * grid.grid.y * grid.grid.z;
    // Each block once: the step has no common divisor with the count.
    auto divides = [&](std::uint64_t step) {
        std::uint64_t a = step, b = blocks;
        while (b) {
            std::uint64_t const rest = a % b;
            a = b;
            b = rest;
        }
        return a != 1;
    };
    std::uint64_t step = 1 + random_bits() % blocks;
    while (divides(step)) ++step;
    std::uint64_t const first = random_bits() % blocks;
    for (std::uint64_t i = 0; i < blocks; ++i) {
        if (!run_one_block(static_cast<unsigned>((first + i * step) % blocks))) return cudaErrorLaunchFailure;
    }
    return cudaSuccess;
}

void wait_for_previous_grid() {
    block.waited_for_previous_grid = self().waited_for_previous_grid = true;
    acquire_blocks_of(previous_set);
}

bool overlaps_previous_grid() { return running_grid.overlaps_previous && !self().waited_for_previous_grid; }

cudaError_t synchronize() {
    std::lock_guard<QuietLock> lock(launching);
    Lane& on = lane();
    for (auto* set : on.all_sets) acquire_blocks_of(set);
    for (auto const& one : on.retained) one.destroy(one.closure);
    on.retained.clear();
    return failed() ? cudaErrorLaunchFailure : cudaSuccess;
}

cudaError_t allow_dynamic_shared(void const* kernel, std::size_t bytes) {
    std::lock_guard<QuietLock> lock(launching);
    if (bytes > largest_shared_bytes()) return cudaErrorInvalidValue;
    for (auto& allowance : allowances) {
        if (allowance.kernel == kernel) {
            allowance.bytes = bytes;
            return cudaSuccess;
        }
    }
    allowances.push_back({kernel, bytes});
    return cudaSuccess;
}

std::size_t largest_shared_bytes() {
    switch (options.compute_capability) {
        case 80:
        case 87: return 163 << 10;
        case 86:
        case 89:
        case 120:
        case 121: return 99 << 10;
        case 90:
        case 100:
        case 103:
        case 110: return 227 << 10;
        default: return 48 << 10;
    }
}

}  // namespace w4ax_emulate
