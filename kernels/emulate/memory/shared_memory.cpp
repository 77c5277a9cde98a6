#include "emulate/memory/shared_memory.h"

#include <cstdlib>

#include "emulate/engine/block.h"
#include "emulate/engine/sanitizers.h"

namespace w4ax_emulate {

namespace {

// No memset: the sanitizers intercept it, and would attribute it to the running thread.
void fill_with_garbage(SharedRegion& region, std::uint64_t serial) {
    unpoison(region.bytes, region.size);  // an abandoned block may have left copies in flight
    volatile char* bytes = region.bytes;
    std::uint32_t garbage = random_bits();
    for (std::size_t at = 0; at < region.size; ++at) {
        if (at % 4 == 0) garbage = garbage * 1664525u + 1013904223u;
        bytes[at] = static_cast<char>(garbage >> (8 * (at % 4)));
    }
    mark_uninitialized(region.bytes, region.size);
    for (auto& flag : region.in_flight) flag = Flight::none;
    region.filled_for = serial;
}

void allocate(SharedRegion& region, std::size_t size) {
    std::free(region.bytes);
    region.bytes = nullptr;
    void* bytes = nullptr;
    // Swizzled tensor copies need 1024. Exactly `size` bytes: the red zone follows immediately.
    if (posix_memalign(&bytes, 1024, size ? size : 1)) std::abort();
    region.bytes = static_cast<char*>(bytes);
    region.size = size;
    region.in_flight.assign((size + 3) / 4, Flight::none);
}

}  // namespace

void SharedMemory::set_dynamic_size(std::size_t size) {
    if (dynamic.bytes && dynamic.size == size) return;
    unpoison(dynamic.bytes, dynamic.size);
    allocate(dynamic, size);
}

void SharedMemory::start_block(std::uint64_t serial) {
    fill_with_garbage(dynamic, serial);  // static memory is filled at its first use in the block
}

SharedRegion* SharedMemory::find(void const* pointer, std::size_t count) {
    if (dynamic.holds(pointer, count)) return &dynamic;
    for (auto* region : statics) {
        if (region->filled_for == block.serial && region->holds(pointer, count)) return region;
    }
    return nullptr;
}

void* dynamic_shared(std::size_t alignment) {
    auto& region = block.on->shared.dynamic;
    if (alignment > 1024) fail("dynamic shared memory aligned to %zu bytes: expected at most 1024", alignment);
    return region.bytes;
}

void* static_shared(void const* site, std::size_t size, std::size_t) {
    auto& shared = block.on->shared;
    for (auto* region : shared.statics) {
        if (region->site != site) continue;
        acquire(region);  // for TSan: after the allocation by the first thread
        if (region->filled_for != block.serial) fill_with_garbage(*region, block.serial);
        return region->bytes;
    }
    auto* region = new SharedRegion;
    region->site = site;
    allocate(*region, size);
    fill_with_garbage(*region, block.serial);
    shared.statics.push_back(region);
    release(region);
    return region->bytes;
}

}  // namespace w4ax_emulate
