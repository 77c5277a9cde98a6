// The addresses of device and pinned memory, apart from the host's heap: each allocation has pages of its own between
// pages that trap. Addresses are never used again, so a stale one traps too.
//
//     | trap | canary ... | allocation, aligned to 512 | canary | trap |
//
// The allocation ends as near to the second trap as its alignment allows. A sanitizer reports accesses to the canaries
// at once; without one, they are checked when the memory is released.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "driver.h"

namespace w4ax_driver {

namespace {

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t alignment = 512;
constexpr unsigned char canary = 0xC5;
constexpr std::uint64_t chunk_bytes = std::uint64_t(64) << 30;

std::uint64_t chunk_at = 0, chunk_end = 0;

/// Reserves addresses that trap.
std::uint64_t reserve(std::uint64_t bytes) {
    if (chunk_at + bytes > chunk_end) {
        std::uint64_t const size = std::max(chunk_bytes, bytes);
        void* const made = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (made == MAP_FAILED) return 0;
        chunk_at = reinterpret_cast<std::uint64_t>(made);
        chunk_end = chunk_at + size;
    }
    std::uint64_t const at = chunk_at;
    chunk_at += bytes;
    return at;
}

// Plain stores and loads: a sanitizer must not see them.
void store(std::uint64_t at, std::uint64_t bytes, unsigned char value) {
    auto* const to = reinterpret_cast<unsigned char volatile*>(at);
    for (std::uint64_t i = 0; i < bytes; ++i) to[i] = value;
}
bool holds(std::uint64_t at, std::uint64_t bytes, unsigned char value) {
    auto const* const from = reinterpret_cast<unsigned char const volatile*>(at);
    for (std::uint64_t i = 0; i < bytes; ++i) {
        if (from[i] != value) return false;
    }
    return true;
}

struct Gaps {
    std::uint64_t front, front_bytes, back, back_bytes;
};
Gaps gaps_of(Allocation const& memory) {
    std::uint64_t const end = memory.base + memory.bytes, mapped_end = memory.mapped + memory.mapped_bytes;
    return {memory.mapped, memory.base - memory.mapped, end, mapped_end - end};
}

}  // namespace

void fill_with_garbage(std::uint64_t at, std::size_t bytes) {
    // All bits set: NaN as a float, half or bfloat16, and -1 as an integer.
    std::uint64_t i = 0;
    for (; i < bytes && (at + i) % 8; ++i) *reinterpret_cast<unsigned char volatile*>(at + i) = 0xFF;
    for (; i + 8 <= bytes; i += 8) *reinterpret_cast<std::uint64_t volatile*>(at + i) = ~std::uint64_t(0);
    for (; i < bytes; ++i) *reinterpret_cast<unsigned char volatile*>(at + i) = 0xFF;
}

CUresult allocate(Ref<Context> const& context, std::size_t bytes, Allocation::Place place, bool commit,
                  Ref<Allocation>& made) {
    bool const on_device = place == Allocation::Place::device;
    if (bytes == 0) return refuse(CUDA_ERROR_INVALID_VALUE, "an allocation of 0 bytes");
    std::uint64_t& used = driver().used_bytes[context->device];
    if (on_device && (bytes > play().memory_bytes || used + bytes > play().memory_bytes)) {
        return refuse(CUDA_ERROR_OUT_OF_MEMORY, "%llu bytes, of which %llu are in use, do not hold %llu more",
                      static_cast<unsigned long long>(play().memory_bytes), static_cast<unsigned long long>(used),
                      static_cast<unsigned long long>(bytes));
    }
    std::uint64_t const rounded = (bytes + alignment - 1) / alignment * alignment;
    std::uint64_t const mapped_bytes = (rounded + page - 1) / page * page;
    std::uint64_t const at = reserve(mapped_bytes + 2 * page);
    if (!at) return refuse(CUDA_ERROR_OUT_OF_MEMORY, "mmap has no addresses left");
    made = std::make_shared<Allocation>();
    made->mapped = at + page;
    made->mapped_bytes = mapped_bytes;
    // Pinned memory begins at a page, as that of a real driver does.
    made->base = on_device ? made->mapped + mapped_bytes - rounded : made->mapped;
    made->bytes = bytes;
    made->place = place;
    made->context = context;
    made->state = Allocation::State::reserved;
    if (on_device) used += bytes;
    driver().memory[made->base] = made;
    if (commit) commit_memory(*made);
    return CUDA_SUCCESS;
}

void commit_memory(Allocation& memory) {
    if (mprotect(reinterpret_cast<void*>(memory.mapped), memory.mapped_bytes, PROT_READ | PROT_WRITE) != 0) abort();
    unpoison(reinterpret_cast<void*>(memory.mapped), memory.mapped_bytes);
    Gaps const gaps = gaps_of(memory);
    store(gaps.front, gaps.front_bytes, canary);
    store(gaps.back, gaps.back_bytes, canary);
    poison(reinterpret_cast<void*>(gaps.front), gaps.front_bytes);
    // ASan's shadow has a granularity of 8 bytes: the poisoned range must not begin before its first whole granule.
    poison(reinterpret_cast<void*>(gaps.back), gaps.back_bytes);
    fill_with_garbage(memory.base, memory.bytes);
    memory.state = Allocation::State::live;
}

std::string release_memory(Allocation& memory) {
    bool const was_committed = memory.state != Allocation::State::reserved;
    if (memory.place == Allocation::Place::device) driver().used_bytes[memory.context->device] -= memory.bytes;
    memory.state = Allocation::State::freed;
    if (!was_committed) return "";
    Gaps const gaps = gaps_of(memory);
    std::string damage;
    if (!holds(gaps.front, gaps.front_bytes, canary)) damage = "before its beginning";
    if (!holds(gaps.back, gaps.back_bytes, canary)) damage = "past its end";
    // Garbage first: the pages may be read until they trap.
    fill_with_garbage(memory.base, memory.bytes);
    madvise(reinterpret_cast<void*>(memory.mapped), memory.mapped_bytes, MADV_DONTNEED);
    mprotect(reinterpret_cast<void*>(memory.mapped), memory.mapped_bytes, PROT_NONE);
    if (damage.empty()) return "";
    damage = format("memory of %llu bytes of %s was written %s", static_cast<unsigned long long>(memory.bytes),
                    memory.origin.c_str(), damage.c_str());
    driver().lost.push_back(damage);
    return damage;
}

}  // namespace w4ax_driver
