// Quantizes and packs activations once, for all GEMMs that read them.
#pragma once

#include "common/device.cuh"
#include "gemm/epilogue.cuh"
#include "ops/latch.cuh"
#include "common/params.cuh"
#include "common/ptx.cuh"
#include "common/quantize.cuh"

namespace w4ax {

constexpr int kPackThreads = 256;
constexpr int kPackTiles = 4;  // k-tiles of a warp's step: an octet a lane

// One octet's codes to where they belong. All lanes call it: 2-bit words are made of two neighbors' octets.
W4AX_DEVICE void store_codes(QuantizeParams const& p, int token, int tile_k, int octet, Codes const& codes) {
    uint32_t const word = nibbles_of(codes);
    // Octets 2t and 2t + 1 share the 2-bit word of lane t.
    uint32_t const other = __shfl_xor_sync(kAllLanes, word, 1);
    if (tile_k >= p.k_tiles) return;
    auto* const gCodes = static_cast<unsigned char*>(p.codes);
    if (p.cores) {
        auto* const gTile = gCodes + (int64_t(tile_k) * ceil_div(p.m, kTileM) + token / kTileM) * activation_tile_bytes(8);
        // Matrix 2h + odd, row `token`, word t.
        auto* const gWords = reinterpret_cast<uint32_t*>(gTile) + (octet % 2 * 2 * kTileM + token % kTileM) * 4 + octet / 2;
        gWords[0] = codes.quad[0];
        gWords[kTileM * 4] = codes.quad[1];
        return;
    }
    auto* const gTile = gCodes + (int64_t(token / kTileM) * p.k_tiles + tile_k) * activation_tile_bytes(p.bits);
    int const at = (token % kTileM) * kOctetsPerTile + octet;
    if (p.bits == 8)
        reinterpret_cast<uint2*>(gTile)[at] = make_uint2(codes.quad[0], codes.quad[1]);
    else if (p.bits == 4)
        reinterpret_cast<uint32_t*>(gTile)[at] = word;
    else if (octet % 2 == 0)
        reinterpret_cast<uint32_t*>(gTile)[at / 2] = word | other << 2;
}

// Octet `lane` of the 4 tiles from `tile_k` on; 0 beyond M and K.
W4AX_DEVICE Octet load_lane_octet(QuantizeParams const& p, int token, int tile_k) {
    Octet x = {};
    int const k = (tile_k + lane_index() / kOctetsPerTile) * kTileK + octet_k(lane_index() % kOctetsPerTile);
    if (token < p.m && k < p.k)
        x = load_octet(static_cast<uint16_t const*>(p.x) + token * p.x_stride, k, p.k, p.x_vectors);
    return x;
}

// False if there is nothing to do: the latched width leaves the activations as they are. Wait for the previous grid first.
W4AX_DEVICE bool take_latched(QuantizeParams& p) {
    if (!p.latched) return true;
    p.bits = latched_bits(p.latched);
    p.tokens = reinterpret_cast<TokenGroup*>(
        static_cast<unsigned char*>(p.codes) +
        packed_token_groups(uint64_t(ceil_div(p.m, kTileM)), uint64_t(p.k_tiles), uint64_t(p.bits)));
    return p.bits != 16;
}

// Groups of 32, 64 and 128: a warp takes one token's 256 k. Grid: (ceil(M/8), ceil(K/256)), a warp a token.
template <int kGroup>
__global__ void __launch_bounds__(kPackThreads) quantize_pack_groups(W4AX_GRID_CONSTANT QuantizeParams const params) {
    // x is the launch before's, and so may be what it reads of ours: wait before both.
    ptx::wait_for_previous_grid();
    ptx::let_next_grid_start();
    QuantizeParams p = params;
    if (!take_latched(p)) return;
    int const token = int(blockIdx.x) * kTileM + warp_index(), tile_k = int(blockIdx.y) * kPackTiles, lane = lane_index();
    int const levels = (1 << p.bits) - 1;

    Octet const x = load_lane_octet(p, token, tile_k);
    Quantizer const q = quantizer_of(group_extremes<kGroup>(extremes_of(x)), levels);
    Codes const codes = codes_of(x, q, levels);
    int const sum = group_sum<kGroup>(sum_of(codes));
    store_codes(p, token, tile_k + lane / kOctetsPerTile, lane % kOctetsPerTile, codes);

    // One lane of each group: the octet where it begins (t = 0).
    int const k = (tile_k + lane / kOctetsPerTile) * kTileK + octet_k(lane % kOctetsPerTile), group = k / kGroup;
    if (k % kGroup != 0 || group >= p.groups) return;
    TokenGroup const t = {q.scale, zero_and_sum(q.zero, sum)};
    if (p.cores) {
        auto* const gFactors = reinterpret_cast<float*>(p.tokens) + (int64_t(group) * gridDim.x + blockIdx.x) * (3 * kTileM);
        TokenFactors const factors = token_factors(t);
        gFactors[warp_index()] = factors.scale;
        gFactors[kTileM + warp_index()] = factors.minus_zero;
        gFactors[2 * kTileM + warp_index()] = factors.minus_sum;
    } else {
        p.tokens[(int64_t(blockIdx.x) * p.groups + group) * kTileM + warp_index()] = t;
    }
}

// Per token: a block a token, also for those between M and the next multiple of 8.
__global__ void __launch_bounds__(kPackThreads) quantize_pack_rows(W4AX_GRID_CONSTANT QuantizeParams const params) {
    W4AX_DYNAMIC_SHARED(shared, 128);
    constexpr int kWarps = kPackThreads / 32;
    auto* const sExtremes = reinterpret_cast<Extremes*>(shared);          // [warp]
    auto* const sSums = reinterpret_cast<int*>(sExtremes + kWarps);       // [warp]
    ptx::wait_for_previous_grid();
    ptx::let_next_grid_start();
    QuantizeParams p = params;
    // The whole grid leaves, before any barrier.
    if (!take_latched(p)) return;
    int const token = int(blockIdx.x), warp = warp_index(), lane = lane_index(), levels = (1 << p.bits) - 1;

    Extremes e = 0;
    for (int tile_k = warp * kPackTiles; tile_k < p.k_tiles; tile_k += kWarps * kPackTiles)
        e = merge(e, extremes_of(load_lane_octet(p, token, tile_k)));
    e = warp_extremes(e);
    if (lane == 0) sExtremes[warp] = e;
    // Every warp needs what all found.
    __syncthreads();
    for (int i = 0; i < kWarps; ++i) e = merge(e, sExtremes[i]);
    Quantizer const q = quantizer_of(e, levels);

    int sum = 0;
    for (int tile_k = warp * kPackTiles; tile_k < p.k_tiles; tile_k += kWarps * kPackTiles) {
        Codes const codes = codes_of(load_lane_octet(p, token, tile_k), q, levels);
        sum += sum_of(codes);
        store_codes(p, token, tile_k + lane / kOctetsPerTile, lane % kOctetsPerTile, codes);
    }
    CUTE_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(kAllLanes, sum, distance);
    if (lane == 0) sSums[warp] = sum;
    // All sums are there.
    __syncthreads();
    if (threadIdx.x == 0) {
        sum = 0;
        for (int i = 0; i < kWarps; ++i) sum += sSums[i];
        p.tokens[token] = TokenGroup{q.scale, zero_and_sum(q.zero, sum)};
    }
}

}  // namespace w4ax
