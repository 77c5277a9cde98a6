// Warp collectives: the lanes of a mask meet, and the last one to arrive computes for all of them.
#pragma once

#include <cstdint>

namespace w4ax_emulate {

constexpr std::uint32_t full_mask = 0xFFFFFFFFu;

/// Inputs and results of a collective, by lane.
struct WarpExchange {
    static constexpr int words_in = 16;
    static constexpr int words_out = 8;
    std::uint32_t in[32][words_in];
    std::uint32_t out[32][words_out];
};
using WarpFunction = void (*)(WarpExchange& lanes, std::uint32_t mask);

/// Waits until every lane of `mask` has called this with the same function and mask. A lane that calls with a
/// different one, or exits, ends the launch with an error that names both lanes. Returns the caller's words of `out`.
///
/// `orders_memory`: true for __syncwarp. Shuffles, votes, ldmatrix and mma do not order memory, so TSan reports
/// accesses that rely on them.
std::uint32_t const* meet(char const* name, WarpFunction function, std::uint32_t mask, std::uint32_t const* in,
                          int words, bool orders_memory = false);

// The functions, in warp_functions.cpp. Word 0 is the value, word 1 the source lane or a flag.
void exchange_nothing(WarpExchange&, std::uint32_t);
void exchange_shuffle(WarpExchange&, std::uint32_t);
void exchange_ballot(WarpExchange&, std::uint32_t);
void exchange_match_any(WarpExchange&, std::uint32_t);
void exchange_reduce_add(WarpExchange&, std::uint32_t);
void exchange_reduce_min(WarpExchange&, std::uint32_t);
void exchange_reduce_max(WarpExchange&, std::uint32_t);
void exchange_reduce_umin(WarpExchange&, std::uint32_t);
void exchange_reduce_umax(WarpExchange&, std::uint32_t);
void exchange_reduce_and(WarpExchange&, std::uint32_t);
void exchange_reduce_or(WarpExchange&, std::uint32_t);
void exchange_reduce_xor(WarpExchange&, std::uint32_t);

}  // namespace w4ax_emulate
