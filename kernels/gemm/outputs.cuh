// A block's outputs on their way to y, turned through shared memory: accumulators lie channel by channel, y token by token.
//
// `Block` is what a family's kernel is made of: its Config and Engine, the parameters p, shared memory, thread and lane, its
// first tiles tile_n and tile_m, and warp_n and warp_m, which of the block's tiles the warp owns (kNT x kMT of them).
#pragma once

#include "common/device.cuh"
#include "gemm/epilogue.cuh"
#include "common/layout.cuh"
#include "common/params.cuh"

namespace w4ax {

using namespace cute;

// Of a token's outputs in shared memory, in elements; the pad puts the lane columns of a fragment (tokens 2t) on other banks.
constexpr int out_row(int rows) { return rows + 8; }
constexpr int out_bytes(int rows, int tokens) { return tokens * out_row(rows) * 2; }

// The warp's outputs to shared memory, with bias and rounding. `beside(channel)` is what stands beside a channel,
// `output(that, i, n, m)` then gives the lane's outputs before the bias.
template <class Block, class Beside, class Output>
W4AX_DEVICE void turn_outputs(Block const& b, Beside beside, Output output) {
    using C = typename Block::Config;
    GemmParams const& p = b.p;
    auto* const sY = reinterpret_cast<uint16_t*>(b.shared);
    Tensor cC = Block::Engine::coordinates();  // (4) -> (row,token)
    // What goes with the lane's rows g and g + 8 of each weight tile.
    decltype(beside(0)) rows[C::kNT][2];
    float bias[C::kNT][2];
    CUTE_UNROLL
    for (int n = 0; n < C::kNT; ++n) {
        CUTE_UNROLL
        for (int i = 0; i < 2; ++i) {
            int const channel = (b.tile_n + b.warp_n * C::kNT + n) * kTileN + b.lane / 4 + 8 * i;
            // Channels beyond N are not written, and have nothing that could be read.
            rows[n][i] = channel < p.n ? beside(channel) : decltype(beside(0)){};
            bias[n][i] = p.bias && channel < p.n ? p.bias[channel] : 0.0f;
        }
    }
    CUTE_UNROLL
    for (int n = 0; n < C::kNT; ++n) {
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m) {
            CUTE_UNROLL
            for (int i = 0; i < 4; ++i) {
                int const row = (b.warp_n * C::kNT + n) * kTileN + int(get<0>(cC(i)));
                int const token = (b.warp_m * C::kMT + m) * kTileM + int(get<1>(cC(i)));
                float const acc = output(rows[n][i / 2], i, n, m);
                sY[token * out_row(C::kRows) + row] = round_to_bf16(p.bias ? __fadd_rn(acc, bias[n][i / 2]) : acc);
            }
        }
    }
}

// The block's outputs from shared memory to y, by all its threads.
template <class Block>
W4AX_DEVICE void store_outputs(Block const& b) {
    using C = typename Block::Config;
    GemmParams const& p = b.p;
    auto const* const sY = reinterpret_cast<uint16_t const*>(b.shared);
    constexpr int kUnits = C::kRows / 8;
    for (int i = b.thread; i < C::kTokens * kUnits; i += C::kThreads) {
        int const token = b.tile_m * kTileM + i / kUnits, channel = b.tile_n * kTileN + i % kUnits * 8;
        if (token >= p.m || channel >= p.n) continue;
        uint16_t const* const sFrom = sY + i / kUnits * out_row(C::kRows) + i % kUnits * 8;
        uint16_t* const gTo = p.y + token * p.y_stride + channel;
        if (p.y_vectors && channel + 8 <= p.n) {
            *reinterpret_cast<uint4*>(gTo) = *reinterpret_cast<uint4 const*>(sFrom);
        } else {
            for (int e = 0; e < 8 && channel + e < p.n; ++e) gTo[e] = sFrom[e];
        }
    }
}

}  // namespace w4ax
