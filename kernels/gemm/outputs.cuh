// The output epilogue of the prefill and wgmma families: transposes a block's outputs in shared memory and writes y.
//
// Accumulators are ordered channel by channel, y token by token. `Block` is the mainloop of a family (Prefill, Wgmma):
// its Config and Engine, parameters p, shared memory, thread and lane, its first tiles tile_n and tile_m, and the
// warp's position warp_n, warp_m among the block's tiles. A warp owns kNT x kMT tiles.
#pragma once

#include "common/device.cuh"
#include "common/layout.cuh"
#include "common/params.cuh"
#include "gemm/epilogue.cuh"

namespace w4ax {

using namespace cute;

// The stride of a token's outputs in shared memory, in elements. The padding puts the lane columns of a fragment
// (tokens 2t) on different banks.
constexpr int out_row(int rows) { return rows + 8; }
constexpr int out_bytes(int rows, int tokens) { return tokens * out_row(rows) * 2; }

// Writes the warp's outputs to shared memory [kTokens][out_row(kRows)], rounded. `params_of(channel)`
// returns the parameters of a channel; `output(params, bias, i, n, m)` returns the lane's outputs with the bias.
template <class Block, class ParamsOf, class Output>
W4AX_DEVICE void transpose_outputs(Block const& b, ParamsOf params_of, Output output) {
    using C = typename Block::Config;
    GemmParams const& p = b.p;
    auto* const sY = reinterpret_cast<uint16_t*>(b.shared);  // (token,channel)
    Tensor cC = Block::Engine::coordinates();                // (4) -> (channel,token)
    // The parameters of the lane's channels g and g + 8 of each weight tile.
    decltype(params_of(0)) params[C::kNT][2];
    float bias[C::kNT][2];
    CUTE_UNROLL
    for (int n = 0; n < C::kNT; ++n) {
        CUTE_UNROLL
        for (int i = 0; i < 2; ++i) {
            int const channel = (b.tile_n + b.warp_n * C::kNT + n) * kTileN + b.lane / 4 + 8 * i;
            // Channels beyond N have no parameters, and their outputs are not written.
            params[n][i] = channel < p.n ? params_of(channel) : decltype(params_of(0)){};
            bias[n][i] = channel < p.n ? load_bias(p, channel) : 0.0f;
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
                sY[token * out_row(C::kRows) + row] = round_to_bf16(output(params[n][i / 2], bias[n][i / 2], i, n, m));
            }
        }
    }
}

// Calls `write(params_of, output)`, as transpose_outputs takes them, for f32 accumulators. The segments of a BF16 whole
// row are scaled here; groups have been scaled already.
template <class C, class TensorAcc, class Write>
W4AX_DEVICE void scale_accumulators(GemmParams const& p, TensorAcc const& acc, Write write) {  // (4,NT,MT)
    constexpr bool kScales = !C::kQuantized && C::kGroup == 0;
    write([&](int channel) { return kScales ? channel_scale(p, channel) : 0.0f; },
          [&](float scale, float bias, int i, int n, int m) {
              if constexpr (kScales) return bf16_row_output<C>(p, acc(i, n, m), scale, bias);
              return add_bias(p, acc(i, n, m), bias);
          });
}

// Writes the block's outputs from shared memory to y, by all its threads, in units of 8 channels of one token.
template <class Block>
W4AX_DEVICE void store_outputs(Block const& b) {
    using C = typename Block::Config;
    GemmParams const& p = b.p;
    auto const* const sY = reinterpret_cast<uint16_t const*>(b.shared);  // (token,channel)
    constexpr int kUnits = C::kRows / 8;
    for (int i = b.thread; i < C::kTokens * kUnits; i += C::kThreads) {
        int const token = b.tile_m * kTileM + i / kUnits, channel = b.tile_n * kTileN + i % kUnits * 8;
        if (token >= p.m || channel >= p.n) continue;
        uint16_t const* const sFrom = sY + i / kUnits * out_row(C::kRows) + i % kUnits * 8;
        uint16_t* const gTo = p.y + token * p.y_stride + channel;
        if (p.y_aligned && channel + 8 <= p.n) {
            *reinterpret_cast<uint4*>(gTo) = *reinterpret_cast<uint4 const*>(sFrom);
        } else {
            for (int e = 0; e < 8 && channel + e < p.n; ++e) gTo[e] = sFrom[e];
        }
    }
}

}  // namespace w4ax
