// What the entry points of the C ABI that launch one kernel have in common.
#pragma once

#include "runtime/context.cuh"
#include "runtime/launch.cuh"

namespace w4ax {

inline bool is_aligned(void const* pointer, uintptr_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

// Runs `enqueue(device, stream)` in the device's primary context, to which the stream must belong.
template <class Enqueue>
w4axk_status on_device(int32_t ordinal, void* stream, Enqueue enqueue) {
    Device const* device = find_device(ordinal);
    if (!device) return W4AXK_NOT_PRELOADED;
    auto const on = static_cast<cudaStream_t>(stream);
    ContextGuard guard;
    w4axk_status const status = guard.enter(*device, on);
    return status == W4AXK_OK ? enqueue(*device, on) : status;
}

// Whether a launch may overlap the one before it: asked for, known to the device, and not in the body of a conditional node, of
// which CUDA does not say that it may hold such an edge.
inline bool may_overlap(uint32_t flags, Device const& device, cudaStream_t stream) {
    return (flags & W4AXK_FLAG_PDL) != 0 && device.has_pdl && !captures_body(stream);
}

// One launch of a kernel without dynamic shared memory. `args`: the caller's, checked.
template <class Args, class Params>
w4axk_status launch_one(Args const& args, int kernel, dim3 grid, Params const& params, void* stream) {
    LoadedKernel const* const loaded = find_loaded(args.device, kernel);
    if (loaded && !loaded->there) return W4AXK_DRIVER_TOO_OLD;
    return on_device(args.device, stream, [&](Device const& device, cudaStream_t on) {
        return status_of(launch(Launch{kernel_at(kernel), grid, 0, may_overlap(args.flags, device, on), on}, params));
    });
}

}  // namespace w4ax
