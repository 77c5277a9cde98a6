// What a block of the prefill family works on, and its shared memory.
#pragma once

#include "common/device.cuh"
#include "gemm/epilogue.cuh"
#include "common/layout.cuh"
#include "gemm/outputs.cuh"

namespace w4ax {

using namespace cute;

template <int kBits_, int kGroup_, bool kFused_, int kNT_, int kMT_, int kWarpsM_, int kStages_>
struct PrefillConfig {
    static constexpr int kBits = kBits_;    // 4 (and 2), 8, 16
    static constexpr int kGroup = kGroup_;  // 0: per channel
    static constexpr bool kFused = kFused_;
    static constexpr int kNT = kNT_, kMT = kMT_, kWarpsM = kWarpsM_, kStages = kStages_;

    static constexpr bool kQuantized = kBits != 16;
    static constexpr bool kQuantizes = kQuantized && kFused;    // x arrives as BF16 and is quantized here
    static constexpr bool kPacked = kQuantized && !kFused;
    static constexpr bool kWholeRow = kQuantized && kGroup == 0;  // integer sums of all of K
    static constexpr int kRun = kGroup ? kGroup : 128;  // k whose products share an accumulator; BF16 rows as in decode.cuh

    static constexpr int kStageK = 128, kStageTiles = kStageK / kTileK, kStageRuns = kStageK / kRun;
    static constexpr int kWarpsN = 4, kThreads = 32 * kWarpsN * kWarpsM;
    static constexpr int kTilesN = kWarpsN * kNT, kTilesM = kWarpsM * kMT;  // of a block
    static constexpr int kRows = kTileN * kTilesN, kTokens = kTileM * kTilesM;
    static constexpr int kCodeBytes = activation_tile_bytes(kQuantized ? kBits : 0);  // of an activation tile

    // BF16 activations of a stage: rows of 128 bytes, 16-byte units swizzled so that ldmatrix and the quantizer find their
    // rows on different banks.
    using LayoutX = decltype(tile_to_shape(composition(Swizzle<3, 3, 3>{}, Layout<Shape<_8, _64>, Stride<_64, _1>>{}),
                                           Shape<Int<kTokens>, Int<kStageK>>{}));

    // A stage, in bytes from its start. Beside each weight tile: kStageRuns groups of 16 rows.
    static constexpr int kBeside = kGroup ? kTilesN * kStageRuns : 0;
    static constexpr int kWeights = 0;
    static constexpr int kX = kWeights + kStageTiles * kTilesN * kWeightTileBytes;
    static constexpr int kScales = kX + (kPacked ? kStageTiles * kTilesM * kCodeBytes : kTokens * kStageK * 2);
    static constexpr int kSums = kScales + kBeside * kTileN * 4;
    static constexpr int kZeros = kSums + (kQuantized ? kBeside * kTileN * 2 : 0);
    static constexpr int kTokenGroups = kZeros + kBeside * kTileN;
    static constexpr int kStageBytes =
        ceil_div(kTokenGroups + (kPacked && kGroup ? kTilesM * kStageRuns * kTileM * int(sizeof(TokenGroup)) : 0), 128) * 128;

    // Behind the stages, where x is quantized here: one stage's codes and what goes with them.
    static constexpr int kCodes = kStages * kStageBytes;
    static constexpr int kCodeGroups = kCodes + (kQuantizes ? kStageTiles * kTilesM * kCodeBytes : 0);
    // Groups: TokenGroups; whole rows: a Quantizer and a sum for each token.
    static constexpr int kLoopBytes =
        kCodeGroups + (!kQuantizes ? 0 : kGroup ? kTokens * kStageRuns * int(sizeof(TokenGroup)) : kTokens * 16);

    // Outputs go over the stages.
    static constexpr int kShared = kLoopBytes > out_bytes(kRows, kTokens) ? kLoopBytes : out_bytes(kRows, kTokens);
};

}  // namespace w4ax
