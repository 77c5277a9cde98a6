// The shared memory of a block: at its exact size, so that ASan sees one byte too far, full of garbage at the start.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace w4ax_emulate {

/// Its own type, so that its vector's code is never shared with (and instrumented like) a kernel's.
enum class Flight : std::uint8_t { none, under_way };

struct SharedRegion {
  char* bytes = nullptr;
  std::size_t size = 0;
  void const* site = nullptr;            // the declaration, of static shared memory
  std::uint64_t filled_for = 0;          // the block (its serial) that it was filled for
  std::vector<Flight> in_flight;         // per 4 bytes: is a cp.async under way into them?

  bool holds(void const* pointer, std::size_t count) const {
    auto* first = static_cast<char const*>(pointer);
    return first >= bytes && first + count <= bytes + size;
  }
};

struct SharedMemory {
  SharedRegion dynamic;
  std::vector<SharedRegion*> statics;

  void set_dynamic_size(std::size_t size);
  /// Garbage into all of it, nothing in flight.
  void start_block(std::uint64_t serial);
  SharedRegion* find(void const* pointer, std::size_t count);
};

/// `extern __shared__`: what the launch asked for.
void* dynamic_shared(std::size_t alignment);
/// `__shared__ T name`: one object for each declaration and block.
void* static_shared(void const* site, std::size_t size, std::size_t alignment);

template <class T>
T& static_shared(void const* site) {
  return *static_cast<T*>(static_shared(site, sizeof(T), alignof(T)));
}

}  // namespace w4ax_emulate
