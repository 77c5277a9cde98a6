// The tile shape and shared memory of a wgmma kernel.
#pragma once

#include "common/device.cuh"
#include "common/kernel.cuh"
#include "common/layout.cuh"
#include "gemm/epilogue.cuh"
#include "gemm/outputs.cuh"

namespace w4ax {

template <int kBits_, int kGroup_, int kTokens_, int kNT_>
struct WgmmaConfig : KernelConfig {
    static constexpr Role kRole = Role::Gemm;
    static constexpr w4axk_family kFamily = W4AXK_WGMMA;
    static constexpr int kBits = kBits_;  // activation width: 8 (and 4 and 2, one byte per code), 16
    static constexpr bool kTwoLevel = kGroup_ == kTwoLevelGroups;  // the weights have group steps
    static constexpr int kGroup = kTwoLevel ? 0 : kGroup_;         // of scales; 0: one scale per channel
    static constexpr int kTokens = kTokens_;                       // tokens of a block

    static constexpr bool kQuantized = kBits != 16;
    static constexpr w4axk_mode kMode = kQuantized ? W4AXK_PACKED : W4AXK_FUSED;
    static constexpr bool kWholeRow = kQuantized && kGroup == 0;  // integer sums of all of K
    // k whose products share an accumulator; BF16 whole rows use segments as in decode_config.cuh.
    static constexpr int kSegmentK = kGroup ? kGroup : 128;
    static constexpr int kStages = 4;                           // depth of the TMA ring
    static constexpr int kStageK = 128;                         // k of a stage
    static constexpr int kStageTiles = kStageK / kTileK;        // k-tiles of a stage
    static constexpr int kStageSegments = kStageK / kSegmentK;  // segments of a stage
    static constexpr int kWarpsN = 8;                           // consumer warps: two warpgroups
    static constexpr int kThreads = 32 * kWarpsN;               // consumer threads
    static constexpr int kProducerWarps = 4;                    // one warpgroup: registers are allocated per warpgroup
    static constexpr int kLaunchThreads = kThreads + 32 * kProducerWarps;
    static constexpr int kNT = kNT_, kMT = kTokens / kTileM;      // tiles of a warp
    static constexpr int kTilesN = kWarpsN * kNT, kTilesM = kMT;  // tiles of a block
    // Two sets of accumulators leave no registers for the scaled sums of groups.
    static_assert(kNT == 1 || kWholeRow, "a warp has two weight tiles only where sums cover whole rows");
    static constexpr int kRows = kTileN * kTilesN;  // output channels of a block

    // A stage, as byte offsets. Activations are first: a swizzled box starts at a multiple of 1024.
    static constexpr int kBox = kTokens * 128;  // a box of BF16 activations: kTokens rows of 128 bytes
    static constexpr int kX = 0;                // codes [k-tile][kTilesM] as core matrices, or boxes [k-tile]
    static constexpr int kXBytes = kTokens * kStageK * (kQuantized ? 1 : 2);
    static constexpr int kWeights = kX + kXBytes;                                      // [kTilesN][kStageTiles] tiles
    static constexpr int kParamRows = kGroup ? kTilesN * kStageSegments * kTileN : 0;  // channels' group parameters
    static constexpr int kWeightBytes = kTilesN * kStageTiles * kWeightTileBytes;
    static constexpr int kScales = kWeights + kWeightBytes;                   // [kTilesN][segments][16] x 4
    static constexpr int kSums = kScales + kParamRows * 4;                    // likewise, 2 bytes each
    static constexpr int kZeros = kSums + (kQuantized ? kParamRows * 2 : 0);  // likewise, 1 byte each
    static constexpr int kFactors = kZeros + kParamRows;  // [segment][kTilesM][scale, minus zero, minus sum][8]
    static constexpr int kFactorStage = kQuantized && kGroup ? kTilesM * kStageSegments * kFactorBytes : 0;
    static constexpr int kSteps = kFactors + kFactorStage;  // [kTilesN][groups of steps][16] StepWords
    static constexpr int kTileStepBytes = kTwoLevel ? kStageTiles * kTileStepGroups * kGroupStepBytes : 0;
    static constexpr int kStageBytes = ceil_div(kSteps + kTilesN * kTileStepBytes, 1024) * 1024;
    static_assert(kBox % 1024 == 0 && kX % 1024 == 0, "a swizzle's pattern repeats every 1024 bytes");

    // After the stages: full barriers [kStages], then empty barriers [kStages].
    static constexpr int kBarriers = kStages * kStageBytes;
    static constexpr int kShared = kBarriers + 2 * kStages * int(sizeof(uint64_t));
    static_assert(out_bytes(kRows, kTokens) <= kBarriers, "the outputs reuse the memory of the stages");
    static constexpr int shared_bytes(int) { return kShared; }
};

}  // namespace w4ax
