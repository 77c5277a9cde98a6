// What kernels/mma/sm90.cuh has of sm_90a: barriers that count bytes, bulk and tensor copies, mma of a warpgroup.
//
// A copy lands at once, at random points or as late as it can (when no thread could go on without it), as a cp.async by the seed;
// until then its bytes are garbage and poisoned. The products of an mma are made when its batch is committed or as late as at
// the wait, by the seed; until the wait the accumulators that the kernel sees are garbage. A warp of the warpgroup has 16 of the
// 64 rows and needs nothing of the other three, so the four need not meet here.
#pragma once

#include <cstdint>

#include "emulate/engine/engine.h"

namespace w4ax_emulate {

void barrier_init(std::uint64_t* barrier, int arrivals);
void barrier_publish();
/// `bytes`: that this arrival announces.
void barrier_arrive(std::uint64_t* barrier, int bytes);
void barrier_wait(std::uint64_t* barrier, int parity);

/// A BF16 matrix as box copies see it, in the place of a CUtensorMap.
struct RowMap {
  std::uint64_t magic, address, rows, columns, stride, box_rows;
};
/// Into 128 bytes.
void encode_row_map(void* map, void const* x, int rows, int columns, std::int64_t stride, int box_rows);

void begin_bulk_copy(void* to, void const* from, int bytes, std::uint64_t* barrier);
void begin_box_copy(void* to, RowMap const& map, int column, int row, std::uint64_t* barrier);

inline void bulk_copy(void* to, void const* from, int bytes, std::uint64_t* barrier) {
  // Here, so that the sanitizers see it: what may not be read, and who reads it.
  for (int i = 0; i < bytes; ++i) (void)static_cast<char const volatile*>(from)[i];
  begin_bulk_copy(to, from, bytes, barrier);
}

inline void box_copy(void* to, void const* map_bytes, int column, int row, std::uint64_t* barrier) {
  RowMap const& map = *static_cast<RowMap const*>(map_bytes);
  for (std::uint64_t r = row; r < row + map.box_rows && r < map.rows; ++r) {
    auto const* from = reinterpret_cast<std::uint16_t const volatile*>(map.address) + r * map.stride;
    for (std::uint64_t c = column; c < std::uint64_t(column) + 64 && c < map.columns; ++c) (void)from[c];
  }
  begin_box_copy(to, map, column, row, barrier);
}

/// As the hardware's descriptor has it: offsets from the start of the dynamic shared memory in units of 16 bytes.
std::uint64_t describe_matrix(void const* b, int k_stride, int token_stride, bool swizzled);

/// c[tokens / 2] += a[4] * b; both pointers stay valid until the wait. s8 by u8, or BF16.
void warpgroup_mma(std::uint32_t const* a, void* c, std::uint64_t b, int tokens, bool bf16);
void warpgroup_begin();
void warpgroup_commit();
void warpgroup_wait();

// For the rest of the emulator.
void add_constant(void const* at, std::uint64_t bytes);
void clear_constants();
/// Nobody can go on: lands a copy. False if none is under way.
bool land_a_copy();
void start_async_proxy();
/// What a thread, or with the last one the block, must not leave behind.
void check_async_proxy(bool last);

}  // namespace w4ax_emulate
