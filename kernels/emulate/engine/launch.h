// Launches.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulate/engine/engine.h"

namespace w4ax_emulate {

struct Grid {
    dim3 grid;
    dim3 block;
    std::size_t dynamic_shared_bytes = 0;
    /// Programmatic dependent launch: the grid may start before the previous one has ended. Each block must execute
    /// griddepcontrol.wait. TSan reports a race for a read of the previous grid's output before the wait.
    bool overlaps_previous = false;
    /// Identifies the kernel for the limit of shared memory that cudaFuncSetAttribute sets.
    void const* kernel = nullptr;
};

cudaError_t launch_erased(Grid const& grid, void (*run)(void*), void* closure, void (*destroy)(void*));

/// Runs `thread_body` once for each thread of each block. After an error, no launch runs until the error is cleared.
/// The closure lives until the next `synchronize`, as a launch's arguments outlive the call.
template <class Body>
cudaError_t launch(Grid const& grid, Body thread_body) {
    return launch_erased(
        grid, [](void* closure) { (*static_cast<Body*>(closure))(); }, new Body(thread_body),
        [](void* closure) { delete static_cast<Body*>(closure); });
}

/// The host waits for all grids: its later reads are ordered after them.
cudaError_t synchronize();

void set_seed(std::uint64_t seed);

/// cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes).
cudaError_t allow_dynamic_shared(void const* kernel, std::size_t bytes);
/// The shared memory of a block at the device's compute capability.
std::size_t largest_shared_bytes();

/// griddepcontrol.wait
void wait_for_previous_grid();

}  // namespace w4ax_emulate
