// The kernels of the decode family, over the steps of decode.cuh.
#pragma once

#include "gemm/decode.cuh"

namespace w4ax {

// The weights of the first round, on their way.
template <class C>
W4AX_DEVICE auto first_weights(Decode<C> const& d) {
    Tensor rW = make_tensor<uint32_t>(Shape<_4, Int<C::kNT>, Int<C::kTiles>>{});  // (4,NT,tiles)
    clear(rW);
    CUTE_UNROLL
    for (int i = 0; i < C::kTiles; ++i) d.load_weights(0, i, rW(_, _, i));
    return rW;
}

// Groups of 32, 64 and 128, and BF16 whole rows in runs of 128.
template <class C, class TensorW>
W4AX_DEVICE void decode_runs(Decode<C> const& d, TensorW& rW) {  // (4,NT,tiles)
    GemmParams const& p = d.p;
    using Engine = typename Decode<C>::Engine;
    using Accumulator = typename Engine::Accumulator;

    Tensor rC = make_tensor<Accumulator>(Shape<_4, Int<C::kNT>, Int<C::kMT>>{});  // (4,NT,MT)
    RawRowGroup rRows[Decode<C>::kRowItems];
    float acc[C::kOutputs] = {};
    RowPlace const place = d.row_place();
    d.load_rows(0, place, rRows);

    // All above reads weights only; x and y belong to the launch before until here.
    ptx::wait_for_previous_grid();
    ptx::let_next_grid_start();

    int const rounds = ceil_div(p.k_tiles, C::kWarps * C::kTiles);
    for (int round = 0; round < rounds; ++round) {
        int const buffer = round % 2;
        typename Decode<C>::Words rX;
        if constexpr (C::kQuantized && C::kFused) d.quantize_groups(round, buffer);
        d.load_activations(round, rX);
        TokenGroup rToken = {};
        if constexpr (C::kQuantized && !C::kFused) rToken = d.load_packed_token(round);
        d.multiply(
            round, rW, rX, rC,
            [&](int i) { d.load_weights(round + 1, i, rW(_, _, i)); },
            [&](int) { fill(rC, Accumulator(Engine::kStart)); },
            // Runs beyond K have a place as well, and nobody reads it.
            [&](int run) { d.store_run(buffer * C::kRuns + d.warp * C::kRunsPerWarp + run, rC); });
        if constexpr (C::kQuantized && !C::kFused) d.store_packed_token(buffer, rToken);
        d.store_rows(buffer, place, rRows);
        d.load_rows(round + 1, place, rRows);
        // The round's sums and scales are complete. One barrier a round is enough: the next round writes the other buffer,
        // and whoever writes this one again has passed the next barrier, behind everybody's reads of now.
        __syncthreads();
        // BF16 weights have their zero points in them.
        if (C::kQuantized && p.zeros)
            d.template add_runs<true>(round, buffer, acc);
        else
            d.template add_runs<false>(round, buffer, acc);
    }

    d.for_outputs([&](int i, int token, int row) {
        if constexpr (!C::kQuantized && C::kGroup == 0) {
            int const tile = d.first_tile_n + row / kTileN;
            if (tile < p.n_tiles)
                acc[i] = __fmaf_rn(acc[i], channel_scale(p, d.first_tile_n * kTileN + row), 0.0f);
        }
        d.write(token, row, acc[i]);
    });
}

// The extremes of whole rows, taken by all warps together.
template <class C>
W4AX_DEVICE Extremes row_extremes(Decode<C> const& d, Extremes const* sExtremes, int token) {
    Extremes e = 0;
    for (int warp = 0; warp < C::kWarps; ++warp) e = merge(e, sExtremes[warp * d.p.m + token]);
    return e;
}

template <class C>
W4AX_DEVICE void scan_rows(Decode<C> const& d, Extremes* sExtremes) {
    for (int token = 0; token < d.p.m; ++token) {
        Extremes const e =
            warp_extremes(scan_row(d.x_row(token), d.p.k, d.p.x_vectors, int(threadIdx.x), C::kThreads));
        if (d.lane == 0) sExtremes[d.warp * d.p.m + token] = e;
    }
}

// Quantized activations and weights with one scale a channel: integer sums of whole rows in registers.
template <class C, class TensorW>
W4AX_DEVICE void decode_whole_rows(Decode<C> const& d, TensorW& rW) {  // (4,NT,tiles)
    GemmParams const& p = d.p;
    using Engine = typename Decode<C>::Engine;
    auto* const sExtremes = reinterpret_cast<Extremes*>(d.shared + d.offsets.tokens);  // [warp][token]
    auto* const sSums = reinterpret_cast<int*>(sExtremes) + C::kWarps * p.m;           // [warp][token]

    Tensor rC = make_tensor<int32_t>(Shape<_4, Int<C::kNT>, Int<C::kMT>>{});  // (4,NT,MT)
    clear(rC);

    // All above reads weights only; x and y belong to the launch before until here.
    ptx::wait_for_previous_grid();
    ptx::let_next_grid_start();

    int const levels = (1 << p.bits) - 1;
    if constexpr (C::kFused) {
        for (int i = threadIdx.x; i < C::kWarps * p.m; i += C::kThreads) sSums[i] = 0;
        scan_rows(d, sExtremes);
        // Every warp needs the extremes that all found, and adds to the sums.
        __syncthreads();
    }

    int const rounds = ceil_div(p.k_tiles, C::kWarps * C::kTiles);
    for (int round = 0; round < rounds; ++round) {
        if constexpr (C::kFused) {
            d.for_all_octets(round, [&](int token, int, int, Octet const& x) {
                Codes codes = {};
                int sum = 0;
                if (token < p.m) {
                    codes = codes_of(x, quantizer_of(row_extremes(d, sExtremes, token), levels), levels);
                    sum = sum_of(codes);
                }
                if (p.zeros) {
                    // A token has 8 * kTiles octets, 8, 16 or 32 neighboring lanes.
                    constexpr int kLanes = C::kTiles * kOctetsPerTile < 32 ? C::kTiles * kOctetsPerTile : 32;
                    CUTE_UNROLL
                    for (int distance = kLanes / 2; distance > 0; distance /= 2)
                        sum += __shfl_xor_sync(kAllLanes, sum, distance);
                    if (token < p.m && d.lane % kLanes == 0) sSums[d.warp * p.m + token] += sum;
                }
                return codes;
            });
        }
        typename Decode<C>::Words rX;
        d.load_activations(round, rX);
        d.multiply(
            round, rW, rX, rC,
            [&](int i) { d.load_weights(round + 1, i, rW(_, _, i)); },
            [](int) {}, [](int) {});
    }
    d.store_run(d.warp, rC);
    // All warps' sums are in the slab.
    __syncthreads();

    auto const* sSlab = reinterpret_cast<int const*>(d.shared + d.offsets.slab);
    d.for_outputs([&](int, int token, int row) {
        int const tile = d.first_tile_n + row / kTileN;
        if (tile >= p.n_tiles) return;
        int dot = 0;
        for (int warp = 0; warp < C::kWarps; ++warp) dot += sSlab[(warp * p.m + token) * C::kSlabToken + row];
        TokenGroup t;
        if constexpr (C::kFused) {
            Quantizer const q = quantizer_of(row_extremes(d, sExtremes, token), levels);
            int sum = 0;
            for (int warp = 0; warp < C::kWarps; ++warp) sum += sSums[warp * p.m + token];
            t = TokenGroup{q.scale, zero_and_sum(q.zero, sum)};
        } else {
            t = p.tokens[token];  // [tile of 8 tokens][one group][8]
        }
        d.write(token, row, channel_product(dot >> Engine::kShift, channel_factors(p, d.first_tile_n * kTileN + row), t));
    });
}

// From the first round's weights to y.
template <class C, class TensorW>
W4AX_DEVICE void decode(Decode<C> const& d, TensorW& rW) {  // (4,NT,tiles)
    if constexpr (C::kWholeRow)
        decode_whole_rows<C>(d, rW);
    else
        decode_runs<C>(d, rW);
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 2) decode_kernel(W4AX_GRID_CONSTANT GemmParams const p) {
    W4AX_DYNAMIC_SHARED(shared, 128);
    Decode<C> const d(p, shared);
    Tensor rW = first_weights(d);  // (4,NT,tiles)
    decode(d, rW);
}

}  // namespace w4ax
