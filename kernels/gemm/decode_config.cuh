// The tile shape and shared memory of a decode kernel.
#pragma once

#include "common/device.cuh"
#include "common/kernel.cuh"
#include "common/layout.cuh"
#include "common/quantize.cuh"
#include "gemm/epilogue.cuh"

namespace w4ax {

template <int kBits_, int kGroup_, bool kFused_, int kNT_, int kMT_>
struct DecodeConfig : KernelConfig {
    static constexpr Role kRole = Role::Gemm;
    static constexpr w4axk_family kFamily = W4AXK_DECODE;
    static constexpr int kBits = kBits_;                           // activation width: 4 (and 2), 8, 16
    static constexpr bool kTwoLevel = kGroup_ == kTwoLevelGroups;  // the weights have group steps
    static constexpr int kGroup = kTwoLevel ? 0 : kGroup_;         // of scales; 0: one scale per channel
    static constexpr bool kFused = kFused_;                        // x is BF16 and quantized here
    static constexpr w4axk_mode kMode = kFused ? W4AXK_FUSED : W4AXK_PACKED;
    static constexpr int kNT = kNT_;  // weight tiles of 16 channels per block
    static constexpr int kMT = kMT_;  // activation tiles of 8 tokens per block

    static constexpr bool kQuantized = kBits != 16;
    // Integer sums of a whole row stay in the accumulators; their order is arbitrary.
    static constexpr bool kWholeRow = kQuantized && kGroup == 0;
    // k whose products share an accumulator. BF16 sums of a whole row are divided into segments, so that the split of K
    // among warps does not change the result.
    static constexpr int kSegmentK = kGroup ? kGroup : 128;

    static constexpr int kRows = kTileN * kNT;    // output channels of a block
    static constexpr int kTokens = kTileM * kMT;  // tokens of a block
    // The segments of a round, and so shared memory, limit tiles and warps.
    static constexpr int kWarps = kSegmentK == 32 && kMT == 2 ? 4 : 8;
    static constexpr int kThreads = 32 * kWarps, kLaunchThreads = kThreads;
    // k-tiles of a warp per round
    static constexpr int kTiles = kMT * kNT == 1     ? (kSegmentK == 32 ? 2 : 4)
                                  : kMT == 1         ? kSegmentK / 32
                                  : kSegmentK == 128 ? 2
                                                     : 1;
    static constexpr int kSegmentsPerWarp = kTiles * kTileK / kSegmentK;  // per round
    static constexpr int kSegments = kWarps * kSegmentsPerWarp;           // of a block per round
    static constexpr int kOutputs = kRows * kTokens / kThreads > 0 ? kRows* kTokens / kThreads
                                                                   : 1;  // per thread, at most

    // The stride of a token in the slab: the lane columns of a fragment (tokens 2t) fall on different banks.
    static constexpr int kSlabToken = kRows + 4;
    // The group steps of a warp's tiles in a round: [kNT][kTiles * kTileStepGroups][16 channels].
    static constexpr int kStepGroups = kTiles * kTileStepGroups;
    static constexpr int kWarpStepBytes = kTwoLevel ? kNT * kStepGroups * kGroupStepBytes : 0;
    static_assert(!kTwoLevel || kTiles * kTileK >= 128, "a round ends inside a group");

    static constexpr int kOctetBytes = kBits;                                   // 8 codes of kBits bits
    static constexpr int kGroupParamsBytes = kRows * int(sizeof(GroupParams));  // of a segment

    // Shared memory for m tokens, as byte offsets.
    struct Shared {
        int slab;          // accumulators [2][segments][m][kSlabToken]; whole rows: [warps][m][kSlabToken]
        int group_params;  // [2][segments]: scales and sums [kRows], zeros [kRows]
        int tokens;        // [2][segments][m] TokenFactors; whole rows: Extremes and sums of codes, [warps][m] each
        int codes;         // fused: [warps][tiles][m][8] octets
        int steps;         // two-level: [warps][kWarpStepBytes]
        int total;

        W4AX_HOST_DEVICE constexpr explicit Shared(int m)
            : slab(0), group_params(0), tokens(0), codes(0), steps(0), total(0) {
            int const slab_bytes = (kWholeRow ? kWarps : 2 * kSegments) * m * kSlabToken * 4;
            int const params_bytes = kWholeRow ? 0 : 2 * kSegments * kGroupParamsBytes;
            int const factors_bytes = 2 * kSegments * m * int(sizeof(TokenFactors));
            int const tokens_bytes = !kQuantized ? 0 : kWholeRow ? kWarps * m * 8 : factors_bytes;
            int const octets = kQuantized && kFused ? kWarps * kTiles * m * kOctetsPerTile : 0;
            codes = steps + kWarps * kWarpStepBytes;
            group_params = codes + (octets * kOctetBytes + 15) / 16 * 16;
            tokens = group_params + params_bytes;
            slab = tokens + tokens_bytes;
            total = slab + slab_bytes;
        }
    };
    static constexpr int shared_bytes(int m) { return Shared(m).total; }
};

}  // namespace w4ax
