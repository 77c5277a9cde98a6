// Bulk and tensor copies of sm_90 (cp.async.bulk and cp.async.bulk.tensor) that complete on mbarriers.
//
// A copy completes at once, at a random point, or when no thread can go on without it, by the seed as for cp.async.
// Until then its destination is garbage and poisoned.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulate/engine/engine.h"

namespace w4ax_emulate {

/// A BF16 matrix for tensor copies, in place of a CUtensorMap. Boxes are `box_rows` rows of 64 columns.
struct TensorMap {
    std::uint64_t magic, address, rows, columns, stride, box_rows;
};
/// Writes a TensorMap into the 128 bytes of a CUtensorMap. `stride` is in elements.
void encode_tensor_map(void* map, void const* x, int rows, int columns, std::int64_t stride, int box_rows);

void begin_bulk_copy(void* to, void const* from, int bytes, std::uint64_t* barrier);
void begin_tensor_copy(void* to, TensorMap const& map, int column, int row, std::uint64_t* barrier);

/// cp.async.bulk from global to shared memory. The addresses and `bytes` are multiples of 16.
inline void bulk_copy(void* to, void const* from, int bytes, std::uint64_t* barrier) {
    // Read in the kernel's translation unit: the sanitizers check the access and attribute it to this thread.
    for (int i = 0; i < bytes; ++i) (void)static_cast<char const volatile*>(from)[i];
    begin_bulk_copy(to, from, bytes, barrier);
}

/// cp.async.bulk.tensor.2d with SWIZZLE_128B: the box at a column and row. Elements beyond the matrix are zeros.
inline void tensor_copy(void* to, void const* map_bytes, int column, int row, std::uint64_t* barrier) {
    TensorMap const& map = *static_cast<TensorMap const*>(map_bytes);
    for (std::uint64_t r = row; r < row + map.box_rows && r < map.rows; ++r) {
        auto const* from = reinterpret_cast<std::uint16_t const volatile*>(map.address) + r * map.stride;
        for (std::uint64_t c = column; c < std::uint64_t(column) + 64 && c < map.columns; ++c) (void)from[c];
    }
    begin_tensor_copy(to, map, column, row, barrier);
}

// For the rest of the emulator.

/// Memory that no launch writes: see w4ax_emulate_add_constant.
void add_constant(void const* at, std::uint64_t bytes);
void clear_constants();
/// Completes a random copy. False if none is in flight.
bool complete_bulk_copy();
/// Completes a random copy or none, by the options.
void maybe_complete_bulk_copy();
int bulk_copies_in_flight();
/// At a block's start: nothing is in flight.
void reset_bulk_copies();

}  // namespace w4ax_emulate
