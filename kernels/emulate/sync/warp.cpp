#include "emulate/sync/warp.h"

#include "emulate/engine/block.h"
#include "emulate/engine/sanitizers.h"

namespace w4ax_emulate {

std::uint32_t const* meet(char const* name, WarpFunction function, std::uint32_t mask, std::uint32_t const* in,
                          int words, bool orders_memory) {
    CudaThread& me = self();
    WarpExchange& lanes = block.on->exchange[me.warp];
    if (!(mask >> me.lane & 1)) fail("%s: lane %d is not in its own mask %08x", name, me.lane, mask);
    for (int word = 0; word < words; ++word) lanes.in[me.lane][word] = in[word];
    me.collective = name;
    me.function = function;
    me.mask = mask;
    me.arrived = true;
    if (orders_memory) release(&block.on->warp_clock[me.warp]);

    bool all = true;
    for (int lane = 0; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        CudaThread& other = block.thread(32 * me.warp + lane);
        if (other.state == State::exited) {
            fail("%s: lane %d of warp %d is in mask %08x but has exited", name, lane, me.warp, mask);
        }
        if (!other.arrived) {
            all = false;
            continue;
        }
        if (other.function != function || other.mask != mask) {
            fail_with(&other,
                      "divergent warp collective in warp %d: lane %d is in %s (mask %08x), lane %d in %s (mask %08x)",
                      me.warp, me.lane, name, mask, lane, other.collective, other.mask);
        }
    }
    if (all) {
        ++counters.warp_collectives;
        function(lanes, mask);
        for (int lane = 0; lane < 32; ++lane) {
            if (!(mask >> lane & 1)) continue;
            CudaThread& other = block.thread(32 * me.warp + lane);
            other.arrived = false;
            if (&other != &me) make_ready(other);
        }
        maybe_yield();
    } else {
        wait_in(State::in_collective);
    }
    if (orders_memory) acquire(&block.on->warp_clock[me.warp]);
    return lanes.out[me.lane];
}

}  // namespace w4ax_emulate
