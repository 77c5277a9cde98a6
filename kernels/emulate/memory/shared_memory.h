// The shared memory of a block. It has its exact size, so that ASan detects the first byte beyond, and starts as
// garbage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace w4ax_emulate {

/// A type of its own: std::vector<char> could be shared with a kernel's translation unit, which is instrumented.
enum class Flight : std::uint8_t { none, in_flight };

struct SharedRegion {
    char* bytes = nullptr;
    std::size_t size = 0;
    void const* site = nullptr;     // identifies the declaration of static shared memory
    std::uint64_t filled_for = 0;   // serial of the block that it was filled for
    std::vector<Flight> in_flight;  // per 4 bytes: whether a copy into them is in flight

    bool holds(void const* pointer, std::size_t count) const {
        auto* first = static_cast<char const*>(pointer);
        return first >= bytes && first + count <= bytes + size;
    }
};

struct SharedMemory {
    SharedRegion dynamic;
    std::vector<SharedRegion*> statics;

    void set_dynamic_size(std::size_t size);
    /// Fills the memory with garbage. Nothing is in flight.
    void start_block(std::uint64_t serial);
    SharedRegion* find(void const* pointer, std::size_t count);
};

/// `extern __shared__`: the dynamic shared memory of the launch.
void* dynamic_shared(std::size_t alignment);
/// `__shared__ T name`: one object for each declaration and block.
void* static_shared(void const* site, std::size_t size, std::size_t alignment);

template <class T>
T& static_shared(void const* site) {
    return *static_cast<T*>(static_shared(site, sizeof(T), alignof(T)));
}

}  // namespace w4ax_emulate
