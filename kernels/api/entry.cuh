// What the entry points of the C ABI have in common: checks of arguments, and the launch of one kernel.
#pragma once

#include "common/layout.cuh"
#include "runtime/context.cuh"
#include "runtime/launch.cuh"

namespace w4ax {

inline bool is_aligned(void const* pointer, uintptr_t bytes) {
    return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}
inline bool is_extent(uint32_t v) { return v >= 1 && v <= uint32_t(W4AXK_MAX_EXTENT); }
inline bool is_stride(int64_t v, uint32_t row) { return v >= int64_t(row) && v <= int64_t(W4AXK_MAX_STRIDE); }

// Returns whether an argument structure has known flags only and its reserved field is 0.
template <class Args>
bool flags_are_valid(Args const& a) {
    return (a.flags & ~uint32_t(W4AXK_FLAG_PDL)) == 0 && a.reserved == 0;
}

// Calls `enqueue(device, stream)` in the device's primary context, to which the stream must belong.
template <class Enqueue>
w4axk_status on_device(int32_t ordinal, void* stream, Enqueue enqueue) {
    Device const* device = find_device(ordinal);
    if (!device) return W4AXK_NOT_PRELOADED;
    auto const on = static_cast<cudaStream_t>(stream);
    ContextGuard guard;
    w4axk_status const status = guard.enter(*device, on);
    return status == W4AXK_OK ? enqueue(*device, on) : status;
}

// Returns whether a launch may overlap the previous one: it is requested, the device supports it, and the launch is not
// captured into the body of a conditional node, where CUDA does not document such an edge.
inline bool may_overlap(uint32_t flags, Device const& device, cudaStream_t stream) {
    return (flags & W4AXK_FLAG_PDL) != 0 && device.has_pdl && !is_capturing_body(stream);
}

// Launches a kernel without dynamic shared memory. `args` are the caller's, checked.
template <class Args, class Params>
w4axk_status launch_one(Args const& args, int kernel, dim3 grid, Params const& params, void* stream) {
    return on_device(args.device, stream, [&](Device const& device, cudaStream_t on) {
        w4axk_status const status = load_kernel(device, kernel);
        if (status != W4AXK_OK) return status;
        Launch const l = {
            .kernel = kernel_at(kernel),
            .grid = grid,
            .shared_bytes = 0,
            .pdl = may_overlap(args.flags, device, on),
            .stream = on,
        };
        return status_of(launch(l, params));
    });
}

// The body of an entry point: checks `args` by `check(args)`, then launches by `enqueue(args)`.
template <class Args, class Check, class Enqueue>
w4axk_status check_and_launch(Args const* args, Check check, Enqueue enqueue) {
    if (!args) return W4AXK_NULL_POINTER;
    w4axk_status const status = check(*args);
    return status == W4AXK_OK ? enqueue(*args) : status;
}

}  // namespace w4ax
