#include "emulate/sync/warp.h"

#include "emulate/engine/block.h"
#include "emulate/engine/sanitizers.h"

namespace w4ax_emulate {

namespace {

/// Fails, with the first lane of `mask` that has exited, or that waits in another collective than the running thread.
[[noreturn]] void fail_with_lane_of(std::uint32_t mask) {
    CudaThread& me = self();
    WarpArrivals const& arrivals = block.on->arrivals[me.warp];
    for (int lane = 0; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        CudaThread& other = block.thread(32 * me.warp + lane);
        if (other.state == State::exited) {
            fail("%s: lane %d of warp %d is in mask %08x but has exited", me.collective, lane, me.warp, mask);
        }
        if (!(arrivals.arrived >> lane & 1)) continue;
        if (other.function != me.function || other.mask != mask) {
            fail_with(&other,
                      "divergent warp collective in warp %d: lane %d is in %s (mask %08x), lane %d in %s (mask %08x)",
                      me.warp, me.lane, me.collective, mask, lane, other.collective, other.mask);
        }
    }
    fail("%s: the arrivals in warp %d are inconsistent", me.collective, me.warp);
}

/// Enters the running thread, whose function and mask are set. Returns whether it is the last lane of its mask.
bool arrive() {
    CudaThread& me = self();
    WarpArrivals& arrivals = block.on->arrivals[me.warp];
    std::uint32_t const peers = arrivals.arrived & me.mask;
    int first = me.lane;
    if (peers) {
        first = arrivals.first[__builtin_ctz(peers)];
        CudaThread const& other = block.thread(32 * me.warp + first);
        // All peers must be of one group, the caller's.
        if (other.function != me.function || other.mask != me.mask || arrivals.group[first] != peers) {
            fail_with_lane_of(me.mask);
        }
    }
    if (arrivals.exited & me.mask) fail_with_lane_of(me.mask);
    std::uint32_t const bit = 1u << me.lane;
    arrivals.first[me.lane] = static_cast<std::uint8_t>(first);
    arrivals.group[first] = peers | bit;
    arrivals.arrived |= bit;
    return (peers | bit) == me.mask;
}

}  // namespace

std::uint32_t const* meet(char const* name, WarpFunction function, std::uint32_t mask, std::uint32_t const* in,
                          int words, bool orders_memory) {
    CudaThread& me = self();
    WarpExchange& lanes = block.on->exchange[me.warp];
    if (!(mask >> me.lane & 1)) fail("%s: lane %d is not in its own mask %08x", name, me.lane, mask);
    for (int word = 0; word < words; ++word) lanes.in[me.lane][word] = in[word];
    me.collective = name;
    me.function = function;
    me.mask = mask;
    if (orders_memory) release(&block.on->warp_clock[me.warp]);

    if (arrive()) {
        ++counters.warp_collectives;
        function(lanes, mask);
        block.on->arrivals[me.warp].arrived &= ~mask;
        for (int lane = 0; lane < 32; ++lane) {
            if (!(mask >> lane & 1) || lane == me.lane) continue;
            make_ready(block.thread(32 * me.warp + lane));
        }
        maybe_yield();
    } else {
        wait_in(State::in_collective);
    }
    if (orders_memory) acquire(&block.on->warp_clock[me.warp]);
    return lanes.out[me.lane];
}

}  // namespace w4ax_emulate
