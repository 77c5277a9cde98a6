#include "emulate/memory/cp_async.h"

#include "emulate/engine/block.h"

namespace w4ax_emulate {

bool arrives_now() {
    AsyncCopies mode = options.async_copies;
    // seed % 4 selects the schedule.
    if (mode == AsyncCopies::by_seed) mode = static_cast<AsyncCopies>(options.seed / 4 % 3);
    return mode == AsyncCopies::early || (mode == AsyncCopies::random && (random_bits() & 1));
}

void set_flight(void const* pointer, std::size_t bytes, Flight flight) {
    SharedRegion& region = *block.on->shared.find(pointer, bytes);
    std::size_t const first = static_cast<char const*>(pointer) - region.bytes;
    for (std::size_t at = first / 4; at < (first + bytes + 3) / 4; ++at) region.in_flight[at] = flight;
}

namespace {

bool in_flight(SharedRegion const& region, void const* pointer, std::size_t bytes) {
    std::size_t const first = static_cast<char const*>(pointer) - region.bytes;
    for (std::size_t at = first / 4; at < (first + bytes + 3) / 4; ++at) {
        if (region.in_flight[at] != Flight::none) return true;
    }
    return false;
}

}  // namespace

Arrival begin_async_copy(void* destination, void const* source, int bytes, int source_bytes) {
    if (bytes != 4 && bytes != 8 && bytes != 16) fail("cp.async of %d bytes: expected 4, 8 or 16", bytes);
    if (source_bytes < 0 || source_bytes > bytes) fail("cp.async: %d source bytes of %d", source_bytes, bytes);
    if (reinterpret_cast<std::uintptr_t>(destination) % bytes) {
        fail("cp.async: destination %p is not aligned to %d bytes", destination, bytes);
    }
    if (reinterpret_cast<std::uintptr_t>(source) % bytes) {
        fail("cp.async: source %p is not aligned to %d bytes", source, bytes);
    }
    SharedRegion* region = block.on->shared.find(destination, bytes);
    if (!region) fail("cp.async: destination %p is not in the block's shared memory", destination);
    if (in_flight(*region, destination, bytes)) {
        fail("cp.async: another copy into shared byte %zu is in flight",
             static_cast<std::size_t>(static_cast<char*>(destination) - region->bytes));
    }
    set_flight(destination, bytes, Flight::in_flight);
    ++counters.async_copies;
    counters.global_bytes_read += source_bytes;
    bool const now = arrives_now();
    CudaThread& me = self();
    me.copies.push_back({destination, source, static_cast<std::uint8_t>(bytes), static_cast<std::uint8_t>(source_bytes),
                         now, me.committed_groups});
    return now ? Arrival::now : Arrival::at_the_wait;
}

void commit_async_copies() { ++self().committed_groups; }

bool next_completing_copy(int pending, CompletingCopy& out) {
    CudaThread& me = self();
    if (me.first_copy == me.copies.size()) {
        me.copies.clear();
        me.first_copy = 0;
        return false;
    }
    AsyncCopy const& copy = me.copies[me.first_copy];
    if (pending >= 0 && std::int64_t(copy.group) >= std::int64_t(me.committed_groups) - pending) return false;
    out = {const_cast<void*>(copy.destination), copy.source, copy.bytes, copy.source_bytes, copy.arrived};
    set_flight(copy.destination, copy.bytes, Flight::none);
    ++me.first_copy;
    return true;
}

void check_not_in_flight(void const* pointer, std::size_t bytes, char const* reader) {
    SharedRegion* region = block.on->shared.find(pointer, bytes);
    if (!region) fail("%s: address %p is not in the block's shared memory", reader, pointer);
    if (in_flight(*region, pointer, bytes)) {
        fail("%s: reads shared byte %zu, into which a copy is in flight", reader,
             static_cast<std::size_t>(static_cast<char const*>(pointer) - region->bytes));
    }
}

void check_no_copies(CudaThread& thread) {
    std::size_t const left = thread.copies.size() - thread.first_copy;
    // Hardware permits it, but no kernel here does it on purpose: a wait is missing.
    if (left) fail("the thread exits with %zu cp.async in flight: cp.async.wait_group is missing", left);
    forget_copies(thread);
}

void forget_copies(CudaThread& thread) {
    thread.copies.clear();
    thread.first_copy = 0;
    thread.committed_groups = 0;
}

}  // namespace w4ax_emulate
