// The execution of one operation, on the thread of its stream and without the lock.
#include <cstring>

#include "driver.h"
#include "thread_state.h"

namespace w4ax_driver {

namespace {

Failure illegal(char const* what, std::string const& text) {
    return {CUDA_ERROR_ILLEGAL_ADDRESS, std::string(what) + ": " + text};
}

void copy_row(std::uint64_t to, std::uint64_t from, std::size_t bytes, bool staged) {
    if (!staged) touch(reinterpret_cast<void*>(from), bytes, false);
    touch(reinterpret_cast<void*>(to), bytes, true);
    std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
}

Failure copy(Operation const& operation) {
    CopyShape const& c = operation.copy;
    {
        Lock const lock;
        Context const& context = *operation.context;
        if (!c.to_is_pageable) {
            auto const text = check_accessible(c.to_context ? *c.to_context : context, c.to, c.to_extent());
            if (!text.empty()) return illegal("a copy to", text);
        }
        if (!c.from_is_pageable) {
            auto const text = check_accessible(c.from_context ? *c.from_context : context, c.from, c.from_extent());
            if (!text.empty()) return illegal("a copy from", text);
        }
    }
    std::uint64_t const from = operation.staged ? reinterpret_cast<std::uint64_t>(operation.staged->data()) : c.from;
    for (std::size_t z = 0; z < c.depth; ++z) {
        for (std::size_t y = 0; y < c.height; ++y) {
            copy_row(c.to + z * c.to_slice + y * c.to_pitch, from + z * c.from_slice + y * c.from_pitch, c.width,
                     operation.staged != nullptr);
        }
    }
    return {};
}

template <class Element>
void fill_row(std::uint64_t at, std::size_t count, unsigned value) {
    auto* const to = reinterpret_cast<Element volatile*>(at);
    for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<Element>(value);
}

Failure fill(Operation const& operation) {
    FillShape const& f = operation.fill;
    {
        Lock const lock;
        auto const text = check_accessible(*operation.context, f.to, f.extent());
        if (!text.empty()) return illegal("a memset of", text);
    }
    for (std::size_t y = 0; y < f.height; ++y) {
        std::uint64_t const at = f.to + y * f.pitch;
        touch(reinterpret_cast<void*>(at), f.width * f.element, true);
        if (f.element == 1) {
            std::memset(reinterpret_cast<void*>(at), int(f.value), f.width);
        } else if (f.element == 2) {
            fill_row<std::uint16_t>(at, f.width, f.value);
        } else {
            fill_row<std::uint32_t>(at, f.width, f.value);
        }
    }
    return {};
}

/// The pointers of a kernel's parameter.
Failure check_pointers(Operation const& operation) {
    w4ax_kernel const& kernel = *operation.function->kernel;
    if (!kernel.pointers) return {};
    constexpr int room = 64;
    w4ax_pointer pointers[room];
    int const count = kernel.pointers(&kernel, operation.parameter.get(), pointers, room);
    Lock const lock;
    for (int i = 0; i < count && i < room; ++i) {
        w4ax_pointer const& pointer = pointers[i];
        auto const at = reinterpret_cast<std::uint64_t>(pointer.address);
        if (at == 0 && pointer.bytes == 0) continue;
        if (pointer.alignment > 1 && at % pointer.alignment) {
            return {CUDA_ERROR_MISALIGNED_ADDRESS,
                    format("%s: %s is %#llx: expected a multiple of %u", kernel.name, pointer.name,
                           static_cast<unsigned long long>(at), pointer.alignment)};
        }
        auto const text = check_accessible(*operation.context, at, pointer.bytes ? pointer.bytes : 1);
        if (!text.empty()) return illegal(format("%s: %s", kernel.name, pointer.name).c_str(), text);
    }
    return {};
}

Failure run_kernel(Operation const& operation, bool overlaps_previous) {
    w4ax_kernel const& kernel = *operation.function->kernel;
    {
        Lock const lock;
        std::uint64_t const number = ++driver().launches;
        if (auto const* fail = injected("launch", number)) {
            return {fail->result, format("%s: launch %llu fails because W4AX_DEVICE_PLAY demands it", kernel.name,
                                         static_cast<unsigned long long>(number))};
        }
    }
    if (Failure const failure = check_pointers(operation); failure.result != CUDA_SUCCESS) return failure;
    w4ax_grid grid = {};
    for (int i = 0; i < 3; ++i) {
        grid.grid[i] = operation.grid[i];
        grid.block[i] = operation.block[i];
    }
    grid.dynamic_shared_bytes = operation.dynamic_shared;
    grid.overlaps_previous = overlaps_previous;
    grid.parameter = operation.parameter.get();
    grid.compute_capability = play().arch;
    char const* error = nullptr;
    CUresult const result = kernel.run(&kernel, &grid, &error);
    if (result == CUDA_SUCCESS) return {};
    return {result, format("%s: %s", kernel.name, error ? error : "no description")};
}

}  // namespace

Failure execute(Operation const& operation, bool overlaps_previous) {
    switch (operation.work) {
        case Work::empty: return {};
        case Work::kernel: return run_kernel(operation, overlaps_previous);
        case Work::copy: return copy(operation);
        case Work::fill: return fill(operation);
        case Work::graph: return execute_graph(*operation.exec);
        case Work::host:
            thread_state().in_host_function = true;
            operation.host(operation.host_data);
            thread_state().in_host_function = false;
            return {};
        case Work::allocate: {
            Lock const lock;
            Allocation& memory = *operation.memory;
            if (memory.state == Allocation::State::live) return illegal("an allocation", "the memory was not released");
            // A graph allocates the same addresses at each launch.
            if (memory.state == Allocation::State::freed) driver().used_bytes[memory.context->device] += memory.bytes;
            commit_memory(memory);
            return {};
        }
        case Work::release: {
            Allocation& memory = *operation.memory;
            {
                Lock const lock;
                if (memory.state != Allocation::State::live) return illegal("a release", "the memory is not allocated");
            }
            // Other streams that still use the memory race with its release.
            touch(reinterpret_cast<void*>(memory.base), memory.bytes, true);
            Lock const lock;
            std::string const damage = release_memory(memory);
            return damage.empty() ? Failure{} : illegal("a release", damage);
        }
    }
    return {};
}

}  // namespace w4ax_driver
