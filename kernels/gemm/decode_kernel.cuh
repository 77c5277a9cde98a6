// Decode family, kernels: prologue, rounds (mainloop) and epilogue over the steps of decode.cuh.
//
// Grid, shared memory and preconditions: see decode.cuh.
#pragma once

#include "gemm/decode.cuh"

namespace w4ax {

// Prologue: loads the weights of the first round.
template <class C>
W4AX_DEVICE auto load_first_weights(Decode<C> const& d) {
    Tensor rW = make_tensor<uint32_t>(Shape<_4, Int<C::kNT>, Int<C::kTiles>>{});  // (4,NT,tiles)
    clear(rW);
    CUTE_UNROLL
    for (int i = 0; i < C::kTiles; ++i) d.load_weights(0, i, rW(_, _, i));
    return rW;
}

// Groups of 32, 64 and 128, and BF16 whole rows in segments of 128.
template <class C, class TensorW>
W4AX_DEVICE void decode_segments(Decode<C> const& d, TensorW& rW) {  // (4,NT,tiles)
    GemmParams const& p = d.p;
    using Engine = typename Decode<C>::Engine;
    using Accumulator = typename Engine::Accumulator;

    Tensor rC = make_tensor<Accumulator>(Shape<_4, Int<C::kNT>, Int<C::kMT>>{});  // (4,NT,MT)
    RawGroupParams rParams[Decode<C>::kParamsPerLane];
    float acc[C::kOutputs] = {};
    GroupParamsSource const source = d.group_params_source();
    d.load_group_params(0, source, rParams);
    uint4 steps = {};
    if constexpr (C::kTwoLevel) d.load_steps(0, steps);

    // The code above reads weights only. Until the wait, x and y belong to the previous launch.
    ptx::wait_on_dependent_grids();
    ptx::launch_dependent_grids();

    // Activations that were quantized ahead are prefetched. The others pass through shared memory, or are BF16.
    constexpr bool kPacked = C::kQuantized && !C::kFused;
    typename Decode<C>::Words rX;
    TokenParams rToken = {};
    if constexpr (kPacked) {
        d.load_activations(0, rX);
        rToken = d.load_packed_token(0);
    }

    // Mainloop.
    int const rounds = ceil_div(p.k_tiles, C::kWarps * C::kTiles);
    for (int round = 0; round < rounds; ++round) {
        int const buffer = round % 2;
        if constexpr (C::kQuantized && C::kFused) d.quantize_groups(round, buffer);
        if constexpr (!kPacked) d.load_activations(round, rX);
        if constexpr (C::kTwoLevel) d.exchange_steps(round, steps);
        d.multiply(
            round, rW, rX, rC, [&](int i) { d.refill(round + 1, i, rW, rX); },
            [&](int) { fill(rC, Accumulator(Engine::kStart)); },
            // Segments beyond K have a slot as well, which is not read.
            [&](int segment) { d.store_segment(buffer * C::kSegments + d.warp * C::kSegmentsPerWarp + segment, rC); });
        // The parameters of tokens and rows are loaded a round ahead, as the weights are: the stores do not wait.
        if constexpr (kPacked) {
            d.store_packed_token(buffer, rToken);
            rToken = d.load_packed_token(round + 1);
        }
        d.store_group_params(buffer, source, rParams);
        d.load_group_params(round + 1, source, rParams);
        // The round's sums and parameters are complete. One barrier per round is enough: the next round writes the
        // other buffer, and a thread writes this buffer again only after the next barrier, when all reads below have
        // ended.
        __syncthreads();
        // BF16 weights already include their zero points.
        if (C::kQuantized && p.zeros)
            d.template add_segments<true>(round, buffer, acc);
        else
            d.template add_segments<false>(round, buffer, acc);
    }

    // Epilogue.
    d.for_outputs([&](int i, int token, int row) {
        d.write(token, row, [&](int channel, float bias) {
            if constexpr (!C::kQuantized && C::kGroup == 0)
                return bf16_row_output<C>(p, acc[i], channel_scale(p, channel), bias);
            return add_bias(p, acc[i], bias);
        });
    });
}

// Combines the ranges that the warps have found of a whole row.
template <class C>
W4AX_DEVICE Extremes row_extremes(Decode<C> const& d, Extremes const* sExtremes, int token) {
    Extremes e = 0;
    for (int warp = 0; warp < C::kWarps; ++warp) e = merge(e, sExtremes[warp * d.p.m + token]);
    return e;
}

template <class C>
W4AX_DEVICE void scan_rows(Decode<C> const& d, Extremes* sExtremes) {
    for (int token = 0; token < d.p.m; ++token) {
        Extremes const e = warp_extremes(scan_row(d.x_row(token), d.p.k, d.p.x_aligned, int(threadIdx.x), C::kThreads));
        if (d.lane == 0) sExtremes[d.warp * d.p.m + token] = e;
    }
}

// Quantized activations and weights with one scale per channel: integer sums of whole rows in registers.
template <class C, class TensorW>
W4AX_DEVICE void decode_whole_rows(Decode<C> const& d, TensorW& rW) {  // (4,NT,tiles)
    GemmParams const& p = d.p;
    using Engine = typename Decode<C>::Engine;
    auto* const sExtremes = reinterpret_cast<Extremes*>(d.shared + d.offsets.tokens);  // [warp][token]
    auto* const sSums = reinterpret_cast<int*>(sExtremes) + C::kWarps * p.m;           // [warp][token]

    Tensor rC = make_tensor<int32_t>(Shape<_4, Int<C::kNT>, Int<C::kMT>>{});  // (4,NT,MT)
    clear(rC);
    uint4 steps = {};
    if constexpr (C::kTwoLevel) d.load_steps(0, steps);

    // The code above reads weights only. Until the wait, x and y belong to the previous launch.
    ptx::wait_on_dependent_grids();
    ptx::launch_dependent_grids();

    int const levels = (1 << p.bits) - 1;
    if constexpr (C::kFused) {
        for (int i = threadIdx.x; i < C::kWarps * p.m; i += C::kThreads) sSums[i] = 0;
        scan_rows(d, sExtremes);
        // Every warp reads the ranges that all warps have found, and adds to the zeroed sums.
        __syncthreads();
    }
    typename Decode<C>::Words rX;
    if constexpr (!C::kFused) d.load_activations(0, rX);

    // Mainloop.
    int const rounds = ceil_div(p.k_tiles, C::kWarps * C::kTiles);
    for (int round = 0; round < rounds; ++round) {
        if constexpr (C::kFused) {
            d.for_all_octets(round, [&](int token, int, int, Octet const& x) {
                OctetCodes codes = {};
                int sum = 0;
                if (token < p.m) {
                    codes = codes_of(x, quantizer_of(row_extremes(d, sExtremes, token), levels), levels);
                    sum = sum_of(codes);
                }
                if (C::kTwoLevel || p.zeros) {
                    // A token has 8 * kTiles octets, on 8, 16 or 32 neighboring lanes.
                    constexpr int kLanes = C::kTiles * kOctetsPerTile < 32 ? C::kTiles * kOctetsPerTile : 32;
                    CUTE_UNROLL
                    for (int distance = kLanes / 2; distance > 0; distance /= 2)
                        sum += __shfl_xor_sync(kAllLanes, sum, distance);
                    if (token < p.m && d.lane % kLanes == 0) sSums[d.warp * p.m + token] += sum;
                }
                return codes;
            });
        }
        if constexpr (C::kFused) d.load_activations(round, rX);
        if constexpr (C::kTwoLevel) d.exchange_steps(round, steps);
        d.multiply(round, rW, rX, rC, [&](int i) { d.refill(round + 1, i, rW, rX); }, [](int) {}, [](int) {});
    }
    d.store_segment(d.warp, rC);
    // The slab holds the sums of all warps.
    __syncthreads();

    // Epilogue.
    auto const* sSlab = reinterpret_cast<int const*>(d.shared + d.offsets.slab);  // [warp][token][kSlabToken]
    d.for_outputs([&](int, int token, int row) {
        uint32_t acc = 0;  // sums may wrap
        for (int warp = 0; warp < C::kWarps; ++warp) acc += uint32_t(sSlab[(warp * p.m + token) * C::kSlabToken + row]);
        TokenParams t;
        if constexpr (C::kFused) {
            Quantizer const q = quantizer_of(row_extremes(d, sExtremes, token), levels);
            int sum = 0;
            for (int warp = 0; warp < C::kWarps; ++warp) sum += sSums[warp * p.m + token];
            t = TokenParams{q.scale, zero_and_sum(q.zero, sum)};
        } else {
            t = p.tokens[token];  // [ceil(M/8)][1][8]
        }
        d.write(token, row, [&](int channel, float bias) {
            return row_output<C>(p, Engine::row_dot(int32_t(acc), sum_of(t)), channel_params(p, channel), t, bias);
        });
    });
}

// Computes the block's outputs; rW holds the first round's weights.
template <class C, class TensorW>
W4AX_DEVICE void decode(Decode<C> const& d, TensorW& rW) {  // (4,NT,tiles)
    if constexpr (C::kWholeRow)
        decode_whole_rows<C>(d, rW);
    else
        decode_segments<C>(d, rW);
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 2) decode_kernel(W4AX_GRID_CONSTANT GemmParams const p) {
    W4AX_DYNAMIC_SHARED(shared, 128);
    Decode<C> const d(p, shared);
    Tensor rW = load_first_weights(d);  // (4,NT,tiles)
    decode(d, rW);
}

}  // namespace w4ax
