#include "emulate/memory/bulk_copy.h"

#include "emulate/engine/block.h"
#include "emulate/engine/sanitizers.h"
#include "emulate/memory/cp_async.h"
#include "emulate/mma/wgmma.h"
#include "emulate/sync/mbarrier.h"

namespace w4ax_emulate {

namespace {

struct BulkCopy {
    void* to;
    int bytes;
    std::uint64_t* barrier;
    void const* from;  // null: a tensor copy
    TensorMap map;
    int column, row;
};

struct Range {
    char const* at;
    std::uint64_t bytes;
};

// Fixed arrays: TSan would report a race for memory that one fiber frees and another one allocates.
constexpr int max_copies = 1024, max_constants = 16;
BulkCopy copies[max_copies];
int copy_count = 0;
Range constants[max_constants];
int constant_count = 0;
constexpr std::uint64_t tensor_map_magic = 0x57344158'524F5753ull;

std::uint16_t element(TensorMap const& map, std::uint64_t row, std::uint64_t column) {
    if (row >= map.rows || column >= map.columns) return 0;
    return reinterpret_cast<std::uint16_t const volatile*>(map.address)[row * map.stride + column];
}

void complete(int number) {
    BulkCopy const copy = copies[number];
    copies[number] = copies[--copy_count];
    unpoison(copy.to, copy.bytes);
    set_flight(copy.to, copy.bytes, Flight::none);
    auto volatile* const to = static_cast<char volatile*>(copy.to);
    if (copy.from) {
        for (int i = 0; i < copy.bytes; ++i) to[i] = static_cast<char const volatile*>(copy.from)[i];
    } else {
        // SWIZZLE_128B: bits 4 to 6 of the shared memory address are XORed with bits 7 to 9.
        for (std::uint64_t row = 0; row < copy.map.box_rows; ++row) {
            for (int column = 0; column < 64; ++column) {
                std::uint16_t const value = element(copy.map, copy.row + row, copy.column + column);
                std::uint64_t const at = row * 128 + ((column / 8) ^ (row & 7)) * 16 + column % 8 * 2;
                to[at] = static_cast<char>(value);
                to[at + 1] = static_cast<char>(value >> 8);
            }
        }
    }
    Mbarrier& barrier = find_mbarrier(copy.barrier, "completion of a copy");
    barrier.bytes -= copy.bytes;
    complete_phase(barrier);
}

bool is_constant(void const* from, int bytes) {
    for (int i = 0; i < constant_count; ++i) {
        auto const before = static_cast<std::uint64_t>(static_cast<char const*>(from) - constants[i].at);
        auto const length = static_cast<std::uint64_t>(bytes);
        if (before <= constants[i].bytes && length <= constants[i].bytes - before) return true;
    }
    return false;
}

void begin(BulkCopy const& copy) {
    Mbarrier& barrier = find_mbarrier(copy.barrier, "bulk copy");
    if (!barrier.published) fail("bulk copy: no fence.mbarrier_init after the init of its mbarrier");
    if (barrier.unstarted < copy.bytes) {
        fail("bulk copy of %d bytes: its mbarrier expects %lld more", copy.bytes,
             static_cast<long long>(barrier.unstarted));
    }
    barrier.unstarted -= copy.bytes;
    // A tensor copy loads activations, which are never constant.
    if (constant_count && overlaps_previous_grid() && !(copy.from && is_constant(copy.from, copy.bytes))) {
        fail("bulk copy of %d bytes before griddepcontrol.wait: the previous grid may still write them", copy.bytes);
    }
    SharedRegion* const region = block.on->shared.find(copy.to, copy.bytes);
    if (!region) fail("bulk copy: %d bytes at %p are not in the block's shared memory", copy.bytes, copy.to);
    check_not_in_flight(copy.to, copy.bytes, "bulk copy");
    check_not_read_by_wgmma(copy.to, copy.bytes);
    set_flight(copy.to, copy.bytes, Flight::in_flight);
    ++counters.async_copies;
    for (int i = 0; i < copy.bytes; ++i) static_cast<char volatile*>(copy.to)[i] = static_cast<char>(0xCB);
    mark_uninitialized(copy.to, copy.bytes);
    poison(copy.to, copy.bytes);
    if (copy_count == max_copies) fail("bulk copy: more than %d in flight", max_copies);
    copies[copy_count++] = copy;
    if (arrives_now()) complete(copy_count - 1);
}

bool misaligned(void const* pointer, std::uintptr_t alignment) {
    return reinterpret_cast<std::uintptr_t>(pointer) % alignment != 0;
}

}  // namespace

void add_constant(void const* at, std::uint64_t bytes) {
    if (constant_count == max_constants)
        report("more than %d ranges of constant memory", max_constants);
    else
        constants[constant_count++] = {static_cast<char const*>(at), bytes};
}

void clear_constants() { constant_count = 0; }

void encode_tensor_map(void* map, void const* x, int rows, int columns, std::int64_t stride, int box_rows) {
    TensorMap encoded;
    encoded.magic = tensor_map_magic;
    encoded.address = reinterpret_cast<std::uint64_t>(x);
    encoded.rows = std::uint64_t(rows);
    encoded.columns = std::uint64_t(columns);
    encoded.stride = std::uint64_t(stride);
    encoded.box_rows = std::uint64_t(box_rows);
    __builtin_memcpy(map, &encoded, sizeof encoded);
}

void begin_bulk_copy(void* to, void const* from, int bytes, std::uint64_t* barrier) {
    if (bytes <= 0 || bytes % 16 || misaligned(to, 16) || misaligned(from, 16)) {
        fail("bulk copy of %d bytes from %p to %p: expected multiples of 16", bytes, from, to);
    }
    counters.global_bytes_read += bytes;
    begin({to, bytes, barrier, from, {}, 0, 0});
}

void begin_tensor_copy(void* to, TensorMap const& map, int column, int row, std::uint64_t* barrier) {
    if (map.magic != tensor_map_magic) fail("tensor copy: the tensor map was not encoded");
    if (map.address % 16 || map.stride * 2 % 16 || map.box_rows > 256) {
        fail("tensor copy: address and stride must be multiples of 16 bytes, and a box has at most 256 rows");
    }
    if (misaligned(to, 1024)) fail("tensor copy to %p: expected an address aligned to 1024 bytes", to);
    int const bytes = static_cast<int>(map.box_rows) * 128;
    counters.global_bytes_read += bytes;
    begin({to, bytes, barrier, nullptr, map, column, row});
}

bool complete_bulk_copy() {
    if (!copy_count) return false;
    complete(int(random_bits() % copy_count));
    return true;
}

void maybe_complete_bulk_copy() {
    if (copy_count && arrives_now()) complete_bulk_copy();
}

int bulk_copies_in_flight() { return copy_count; }

void reset_bulk_copies() { copy_count = 0; }

}  // namespace w4ax_emulate
