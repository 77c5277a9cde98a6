// Shuffles, votes, matches and reductions, computed for all lanes by the last one to arrive.
#include "emulate/engine/block.h"

namespace w4ax_emulate {

namespace {

template <class Step>
void reduce(WarpExchange& lanes, std::uint32_t mask, Step step) {
    ++counters.shuffles;
    std::uint32_t result = 0;
    bool first = true;
    for (int lane = 0; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        result = first ? lanes.in[lane][0] : step(result, lanes.in[lane][0]);
        first = false;
    }
    for (int lane = 0; lane < 32; ++lane) {
        if (mask >> lane & 1) lanes.out[lane][0] = result;
    }
}

using Word = std::uint32_t;
bool less(Word a, Word b) { return static_cast<std::int32_t>(a) < static_cast<std::int32_t>(b); }

}  // namespace

void exchange_nothing(WarpExchange&, Word) {}

void exchange_shuffle(WarpExchange& lanes, Word mask) {
    ++counters.shuffles;
    for (Word lane = 0; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        Word const source = lanes.in[lane][1];
        if (!(mask >> source & 1)) {
            fail("shuffle: lane %u reads lane %u, which is not in mask %08x", lane, source, mask);
        }
        lanes.out[lane][0] = lanes.in[source][0];
    }
}

void exchange_ballot(WarpExchange& lanes, Word mask) {
    ++counters.shuffles;
    Word votes = 0;
    for (int lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1) && lanes.in[lane][0]) votes |= 1u << lane;
    }
    for (int lane = 0; lane < 32; ++lane) {
        if (mask >> lane & 1) lanes.out[lane][0] = votes;
    }
}

void exchange_match_any(WarpExchange& lanes, Word mask) {
    ++counters.shuffles;
    for (int lane = 0; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        Word same = 0;
        for (int other = 0; other < 32; ++other) {
            if ((mask >> other & 1) && lanes.in[other][0] == lanes.in[lane][0]) same |= 1u << other;
        }
        lanes.out[lane][0] = same;
    }
}

void exchange_reduce_add(WarpExchange& l, Word m) {
    reduce(l, m, [](Word a, Word b) { return a + b; });
}
void exchange_reduce_min(WarpExchange& l, Word m) {
    reduce(l, m, [](Word a, Word b) { return less(b, a) ? b : a; });
}
void exchange_reduce_max(WarpExchange& l, Word m) {
    reduce(l, m, [](Word a, Word b) { return less(a, b) ? b : a; });
}
void exchange_reduce_umin(WarpExchange& l, Word m) {
    reduce(l, m, [](Word a, Word b) { return b < a ? b : a; });
}
void exchange_reduce_umax(WarpExchange& l, Word m) {
    reduce(l, m, [](Word a, Word b) { return a < b ? b : a; });
}
void exchange_reduce_and(WarpExchange& l, Word m) {
    reduce(l, m, [](Word a, Word b) { return a & b; });
}
void exchange_reduce_or(WarpExchange& l, Word m) {
    reduce(l, m, [](Word a, Word b) { return a | b; });
}
void exchange_reduce_xor(WarpExchange& l, Word m) {
    reduce(l, m, [](Word a, Word b) { return a ^ b; });
}

}  // namespace w4ax_emulate
