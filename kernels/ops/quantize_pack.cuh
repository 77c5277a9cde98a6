// Quantizes activations ahead of the GEMMs that read them: BF16 [M, K] -> codes and their parameters (layout.cuh).
//
// Grid: groups: (ceil(M/8), ceil(K/256)) blocks, one warp per token and 256 k. Whole rows: one block per token,
// including the tokens between M and the next multiple of 8, whose codes and parameters are 0.
// Shared memory: groups: none. Whole rows: a PackRowShared.
// Preconditions: rows of x aligned to 2 bytes (to 4 if x_aligned); codes aligned to 128 bytes.
#pragma once

#include "common/device.cuh"
#include "common/kernel.cuh"
#include "common/params.cuh"
#include "common/ptx.cuh"
#include "common/quantize.cuh"
#include "gemm/epilogue.cuh"
#include "ops/latch.cuh"

namespace w4ax {

constexpr int kPackThreads = 256;              // of a block
constexpr int kPackWarps = kPackThreads / 32;  // of a block
constexpr int kPackTiles = 4;                  // k-tiles of a warp's step: one octet per lane
static_assert(kPackTiles * kTileK == kQuantizeBlockK, "the grid assumes this block");
static_assert(kPackWarps == kTileM, "a block has one warp per token of a tile");

template <int kGroup_>
struct QuantizeGroupsConfig : KernelConfig {
    static constexpr Role kRole = Role::QuantizePack;
    static constexpr int kGroup = kGroup_;
    static constexpr int kTokens = kTileM, kLaunchThreads = kPackThreads;
};

// The shared memory of pack_row: what each warp has found.
struct PackRowShared {
    Extremes extremes[kPackWarps];  // the ranges of its k
    int sums[kPackWarps];           // the sums of its codes
};

struct QuantizeRowsConfig : KernelConfig {
    static constexpr Role kRole = Role::QuantizePack;
    static constexpr int kTokens = 1, kLaunchThreads = kPackThreads;
    static constexpr int shared_bytes(int) { return int(sizeof(PackRowShared)); }
};

// Stores one octet's codes. All lanes of a warp call it: a 2-bit word combines the octets of two neighboring lanes.
W4AX_DEVICE void store_codes(QuantizeParams const& p, int token, int tile_k, int octet, OctetCodes const& codes) {
    uint32_t const word = nibbles_of(codes);
    // Octets 2t and 2t + 1 share the 2-bit word of fragment lane t.
    uint32_t const other = __shfl_xor_sync(kAllLanes, word, 1);
    if (tile_k >= p.k_tiles) return;
    auto* const gCodes = static_cast<unsigned char*>(p.codes);
    if (p.core_matrices) {
        int64_t const tile = int64_t(tile_k) * ceil_div(p.m, kTileM) + token / kTileM;
        // Word t of row `token` in core matrix 2h + odd.
        int const at = (octet % 2 * 2 * kTileM + token % kTileM) * 4 + octet / 2;
        auto* const gWords = reinterpret_cast<uint32_t*>(gCodes + tile * activation_tile_bytes(8)) + at;
        gWords[0] = codes.quad[0];
        gWords[kTileM * 4] = codes.quad[1];
        return;
    }
    auto* const gTile = gCodes + (int64_t(token / kTileM) * p.k_tiles + tile_k) * activation_tile_bytes(p.bits);
    int const at = (token % kTileM) * kOctetsPerTile + octet;
    if (p.bits == 8)
        store_octet<8>(gTile, at, codes);
    else if (p.bits == 4)
        store_octet<4>(gTile, at, codes);
    else if (octet % 2 == 0)
        reinterpret_cast<uint32_t*>(gTile)[at / 2] = word | other << 2;
}

// Returns the k of the first value of a lane's octet in the 4 k-tiles from `tile_k` on.
W4AX_DEVICE int lane_k(int tile_k) {
    return (tile_k + lane_index() / kOctetsPerTile) * kTileK + octet_k(lane_index() % kOctetsPerTile);
}

// Loads octet number `lane` of the 4 k-tiles from `tile_k` on; 0 beyond M and K.
W4AX_DEVICE Octet load_lane_octet(QuantizeParams const& p, int token, int tile_k) {
    Octet x = {};
    int const k = lane_k(tile_k);
    if (token < p.m && k < p.k)
        x = load_octet(static_cast<uint16_t const*>(p.x) + token * p.x_stride, k, p.k, p.x_aligned);
    return x;
}

// Applies the latched width. Returns false if the activations stay BF16, so that there is nothing to quantize. The
// caller has waited for the previous grids, which include the latch.
W4AX_DEVICE bool resolve_latched(QuantizeParams& p) {
    if (!p.latched) return p.bits != 16;
    p.bits = latched_bits(p.latched);
    // Core matrices take as many bytes at every width.
    if (p.core_matrices) return p.bits != 16;
    uint64_t const m_tiles = uint64_t(ceil_div(p.m, kTileM));
    p.tokens = reinterpret_cast<TokenParams*>(static_cast<unsigned char*>(p.codes) +
                                              token_params_offset(m_tiles, uint64_t(p.k_tiles), uint64_t(p.bits)));
    return p.bits != 16;
}

// Quantizes the 256 k of a token from k-tile `tile_k` on, of which each lane of the warp holds an octet: groups of 32,
// 64 and 128.
template <int kGroup>
W4AX_DEVICE void pack_groups(QuantizeParams const& p, int token, int tile_k, Octet const& x) {
    int const lane = lane_index(), tile_m = token / kTileM, row = token % kTileM;
    auto const [codes, q] = quantize_group<kGroup>(x, (1 << p.bits) - 1);
    int const sum = group_sum<kGroup>(sum_of(codes));
    store_codes(p, token, tile_k + lane / kOctetsPerTile, lane % kOctetsPerTile, codes);

    // One lane of each group stores its parameters: that of the group's first k.
    int const k = lane_k(tile_k), group = k / kGroup;
    if (k % kGroup != 0 || group >= p.groups) return;
    TokenParams const t = {q.scale, zero_and_sum(q.zero, sum)};
    if (p.core_matrices) {
        int64_t const tile = int64_t(group) * ceil_div(p.m, kTileM) + tile_m;
        auto* const gFactors = reinterpret_cast<float*>(p.tokens) + tile * (3 * kTileM);
        TokenFactors const factors = token_factors(t);
        gFactors[row] = factors.scale;
        gFactors[kTileM + row] = factors.minus_zero;
        gFactors[2 * kTileM + row] = factors.minus_sum;
    } else {
        p.tokens[(int64_t(tile_m) * p.groups + group) * kTileM + row] = t;
    }
}

// Quantizes a row, for weights with one scale per channel. All threads of the block call it. `octet(tile_k)` returns
// the lane's octet of the 4 k-tiles from `tile_k` on, and is called twice for each.
template <class LaneOctet>
W4AX_DEVICE void pack_row(QuantizeParams const& p, int token, PackRowShared& shared, LaneOctet octet) {
    constexpr int kStep = kPackWarps * kPackTiles;
    int const warp = warp_index(), lane = lane_index(), levels = (1 << p.bits) - 1;
    Extremes e = 0;
    for (int tile_k = warp * kPackTiles; tile_k < p.k_tiles; tile_k += kStep) e = merge(e, extremes_of(octet(tile_k)));
    e = warp_extremes(e);
    if (lane == 0) shared.extremes[warp] = e;
    // Every warp reads the ranges that all warps have found.
    __syncthreads();
    for (int i = 0; i < kPackWarps; ++i) e = merge(e, shared.extremes[i]);
    Quantizer const q = quantizer_of(e, levels);

    int sum = 0;
    for (int tile_k = warp * kPackTiles; tile_k < p.k_tiles; tile_k += kStep) {
        OctetCodes const codes = codes_of(octet(tile_k), q, levels);
        sum += sum_of(codes);
        store_codes(p, token, tile_k + lane / kOctetsPerTile, lane % kOctetsPerTile, codes);
    }
    CUTE_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(kAllLanes, sum, distance);
    if (lane == 0) shared.sums[warp] = sum;
    // Thread 0 reads the sums of all warps.
    __syncthreads();
    if (threadIdx.x == 0) {
        sum = 0;
        for (int i = 0; i < kPackWarps; ++i) sum += shared.sums[i];
        p.tokens[token] = TokenParams{q.scale, zero_and_sum(q.zero, sum)};
    }
}

// Groups of 32, 64 and 128.
template <class C>
__global__ void __launch_bounds__(kPackThreads) quantize_pack_groups(W4AX_GRID_CONSTANT QuantizeParams const params) {
    // The previous launch may write x, and may read the codes: this wait comes before both accesses.
    ptx::wait_on_dependent_grids();
    ptx::launch_dependent_grids();
    QuantizeParams p = params;
    if (!resolve_latched(p)) return;
    int const token = int(blockIdx.x) * kTileM + warp_index(), tile_k = int(blockIdx.y) * kPackTiles;
    pack_groups<C::kGroup>(p, token, tile_k, load_lane_octet(p, token, tile_k));
}

// Whole rows, for weights with one scale per channel.
template <class C>
__global__ void __launch_bounds__(kPackThreads) quantize_pack_rows(W4AX_GRID_CONSTANT QuantizeParams const params) {
    W4AX_DYNAMIC_SHARED(shared, 128);
    ptx::wait_on_dependent_grids();
    ptx::launch_dependent_grids();
    QuantizeParams p = params;
    // The whole grid exits here, before any barrier.
    if (!resolve_latched(p)) return;
    int const token = int(blockIdx.x);
    pack_row(p, token, *reinterpret_cast<PackRowShared*>(shared),
             [&](int tile_k) { return load_lane_octet(p, token, tile_k); });
}

}  // namespace w4ax
