// Barriers that count threads and bytes, and the copies that complete on them.
#include "emulate/engine/block.h"
#include "emulate/memory/cp_async.h"
#include "emulate/engine/sanitizers.h"
#include "emulate/sm90.h"
#include "emulate/mma/wgmma.h"

namespace w4ax_emulate {

namespace {

struct CountingBarrier {
  std::uint64_t* at;
  int arrivals;  // of a phase
  int pending;   // of the running phase
  std::int64_t bytes;      // announced and not landed yet
  std::int64_t unstarted;  // announced, and no copy brings them yet
  std::uint64_t phase;
  bool published;
  char clock[2];
};

struct BulkCopy {
  void* to;
  int bytes;
  std::uint64_t* barrier;
  void const* from;  // null: a box
  RowMap map;
  int column, row;
};

// Fixed arrays: TSan takes memory that one fiber frees and another one allocates for a race.
CountingBarrier barriers[64];
int barrier_count = 0;
BulkCopy copies[1024];
int copy_count = 0;
struct Range {
  char const* at;
  std::uint64_t bytes;
};
Range constants[16];
int constant_count = 0;
constexpr std::uint64_t row_map_magic = 0x57344158'524F5753ull;

CountingBarrier& find(std::uint64_t* at, char const* what) {
  for (int i = 0; i < barrier_count; ++i) {
    if (barriers[i].at == at) return barriers[i];
  }
  fail("%s: there is no barrier at %p", what, static_cast<void*>(at));
}

void end_phase_if_complete(CountingBarrier& barrier) {
  if (barrier.pending || barrier.bytes) return;
  ++barrier.phase;
  barrier.pending = barrier.arrivals;
  for (int i = 0; i < block.threads; ++i) {
    CudaThread& thread = block.thread(i);
    if (thread.state == State::at_counting_barrier && thread.counting_barrier == barrier.at) make_ready(thread);
  }
}

std::uint16_t element(RowMap const& map, std::uint64_t row, std::uint64_t column) {
  if (row >= map.rows || column >= map.columns) return 0;
  return reinterpret_cast<std::uint16_t const volatile*>(map.address)[row * map.stride + column];
}

void land(int number) {
  BulkCopy const copy = copies[number];
  copies[number] = copies[--copy_count];
  unpoison(copy.to, copy.bytes);
  set_flight(copy.to, copy.bytes, Flight::none);
  auto volatile* const to = static_cast<char volatile*>(copy.to);
  if (copy.from) {
    for (int i = 0; i < copy.bytes; ++i) to[i] = static_cast<char const volatile*>(copy.from)[i];
  } else {
    // SWIZZLE_128B: bits 4 to 6 of the address in shared memory are exchanged by bits 7 to 9.
    for (std::uint64_t row = 0; row < copy.map.box_rows; ++row) {
      for (int column = 0; column < 64; ++column) {
        std::uint16_t const value = element(copy.map, copy.row + row, copy.column + column);
        std::uint64_t const at = row * 128 + ((column / 8) ^ (row & 7)) * 16 + column % 8 * 2;
        to[at] = static_cast<char>(value);
        to[at + 1] = static_cast<char>(value >> 8);
      }
    }
  }
  CountingBarrier& barrier = find(copy.barrier, "a copy that lands");
  barrier.bytes -= copy.bytes;
  end_phase_if_complete(barrier);
}

bool is_constant(void const* from, int bytes) {
  for (int i = 0; i < constant_count; ++i) {
    auto const before = static_cast<std::uint64_t>(static_cast<char const*>(from) - constants[i].at);
    if (before <= constants[i].bytes && static_cast<std::uint64_t>(bytes) <= constants[i].bytes - before) return true;
  }
  return false;
}

void maybe_land() {
  if (copy_count && arrives_now()) land(int(random_bits() % copy_count));
}

void begin(BulkCopy const& copy) {
  CountingBarrier& barrier = find(copy.barrier, "a copy");
  if (!barrier.published) fail("a copy: its barrier was not published (fence.mbarrier_init) after its init");
  if (barrier.unstarted < copy.bytes) {
    fail("a copy of %d bytes: its barrier expects %lld more", copy.bytes, static_cast<long long>(barrier.unstarted));
  }
  barrier.unstarted -= copy.bytes;
  // A box is of activations, which are never constant.
  if (constant_count && overlaps_previous_grid() && !(copy.from && is_constant(copy.from, copy.bytes))) {
    fail("a copy before griddepcontrol.wait: the previous grid may still write its %d bytes", copy.bytes);
  }
  SharedRegion* const region = block.on->shared.find(copy.to, copy.bytes);
  if (!region) fail("a copy: its %d bytes at %p are not in the block's shared memory", copy.bytes, copy.to);
  check_not_in_flight(copy.to, copy.bytes, "a copy");
  check_not_multiplied(copy.to, copy.bytes);
  set_flight(copy.to, copy.bytes, Flight::under_way);
  ++counters.async_copies;
  for (int i = 0; i < copy.bytes; ++i) static_cast<char volatile*>(copy.to)[i] = static_cast<char>(0xCB);
  mark_uninitialized(copy.to, copy.bytes);
  poison(copy.to, copy.bytes);
  if (copy_count == 1024) fail("more than 1024 copies under way");
  copies[copy_count++] = copy;
  if (arrives_now()) land(copy_count - 1);
}

}  // namespace

void add_constant(void const* at, std::uint64_t bytes) {
  if (constant_count == 16)
    report("more than 16 ranges of constant memory");
  else
    constants[constant_count++] = {static_cast<char const*>(at), bytes};
}

void clear_constants() { constant_count = 0; }

void barrier_init(std::uint64_t* at, int arrivals) {
  if (reinterpret_cast<std::uintptr_t>(at) % 8 || !block.on->shared.find(at, 8)) {
    fail("barrier init: %p is not 8 bytes of the block's shared memory", static_cast<void*>(at));
  }
  for (int i = 0; i < barrier_count; ++i) {
    if (barriers[i].at == at) fail("barrier init: there is one at %p", static_cast<void*>(at));
  }
  if (arrivals < 1) fail("barrier init: %d arrivals", arrivals);
  if (barrier_count == 64) fail("barrier init: a block has more than 64");
  CountingBarrier& barrier = barriers[barrier_count++];
  barrier = {};
  barrier.at = at;
  barrier.arrivals = barrier.pending = arrivals;
}

void barrier_publish() {
  for (int i = 0; i < barrier_count; ++i) barriers[i].published = true;
}

void barrier_arrive(std::uint64_t* at, int bytes) {
  CountingBarrier& barrier = find(at, "arrive");
  ++counters.barriers;
  release(&barrier.clock[barrier.phase & 1]);
  barrier.bytes += bytes;
  barrier.unstarted += bytes;
  --barrier.pending;
  end_phase_if_complete(barrier);
  maybe_land();
}

void barrier_wait(std::uint64_t* at, int parity) {
  CountingBarrier& barrier = find(at, "wait");
  if (parity != 0 && parity != 1) fail("wait: parity %d", parity);
  CudaThread& me = self();
  maybe_land();
  while ((barrier.phase & 1) == std::uint64_t(parity)) {
    me.counting_barrier = at;
    wait_in(State::at_counting_barrier);
  }
  acquire(&barrier.clock[parity]);
}

void encode_row_map(void* map, void const* x, int rows, int columns, std::int64_t stride, int box_rows) {
  RowMap const encoded = {row_map_magic,          reinterpret_cast<std::uint64_t>(x), std::uint64_t(rows),
                          std::uint64_t(columns), std::uint64_t(stride),              std::uint64_t(box_rows)};
  __builtin_memcpy(map, &encoded, sizeof encoded);
}

void begin_bulk_copy(void* to, void const* from, int bytes, std::uint64_t* barrier) {
  auto const misaligned = [](void const* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 != 0; };
  if (bytes <= 0 || bytes % 16 || misaligned(to) || misaligned(from)) {
    fail("a bulk copy of %d bytes from %p to %p: all three must be multiples of 16", bytes, from, to);
  }
  counters.global_bytes_read += bytes;
  begin({to, bytes, barrier, from, {}, 0, 0});
}

void begin_box_copy(void* to, RowMap const& map, int column, int row, std::uint64_t* barrier) {
  if (map.magic != row_map_magic) fail("a tensor copy: this is no tensor map");
  if (map.address % 16 || map.stride * 2 % 16 || map.box_rows > 256) fail("a tensor copy: its map is not one that hardware takes");
  if (reinterpret_cast<std::uintptr_t>(to) % 1024) fail("a swizzled tensor copy to %p, which is no multiple of 1024", to);
  int const bytes = static_cast<int>(map.box_rows) * 128;
  counters.global_bytes_read += bytes;
  begin({to, bytes, barrier, nullptr, map, column, row});
}

bool land_a_copy() {
  if (!copy_count) return false;
  land(int(random_bits() % copy_count));
  return true;
}

void start_async_proxy() {
  barrier_count = copy_count = 0;
  forget_mma();
}

void check_async_proxy(bool last) {
  if (last && copy_count) fail("the block exits with %d copies under way", copy_count);
  check_no_mma();
}

}  // namespace w4ax_emulate
