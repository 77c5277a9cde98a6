// The tile shape and shared memory of a prefill kernel.
#pragma once

#include "common/device.cuh"
#include "common/kernel.cuh"
#include "common/layout.cuh"
#include "gemm/epilogue.cuh"
#include "gemm/outputs.cuh"

namespace w4ax {

using namespace cute;

template <int kBits_, int kGroup_, bool kFused_, int kNT_, int kMT_, int kWarpsM_, int kStages_>
struct PrefillConfig : KernelConfig {
    static constexpr Role kRole = Role::Gemm;
    static constexpr w4axk_family kFamily = W4AXK_PREFILL;
    static constexpr int kBits = kBits_;                           // activation width: 4 (and 2), 8, 16
    static constexpr bool kTwoLevel = kGroup_ == kTwoLevelGroups;  // the weights have group steps
    static constexpr int kGroup = kTwoLevel ? 0 : kGroup_;         // of scales; 0: one scale per channel
    static constexpr bool kFused = kFused_;                        // x is BF16 and quantized here
    static constexpr w4axk_mode kMode = kFused ? W4AXK_FUSED : W4AXK_PACKED;
    static constexpr int kNT = kNT_;          // weight tiles of 16 channels per warp
    static constexpr int kMT = kMT_;          // activation tiles of 8 tokens per warp
    static constexpr int kWarpsM = kWarpsM_;  // warps along the tokens
    static constexpr int kWarpsN = 4;         // warps along the channels
    static constexpr int kStages = kStages_;  // depth of the cp.async ring

    static constexpr bool kQuantized = kBits != 16;
    static constexpr bool kQuantizes = kQuantized && kFused;      // a stage of x is BF16, and quantized here
    static constexpr bool kPacked = kQuantized && !kFused;        // a stage of x is codes, quantized ahead
    static constexpr bool kWholeRow = kQuantized && kGroup == 0;  // integer sums of all of K
    // k whose products share an accumulator; BF16 whole rows use segments as in decode_config.cuh.
    static constexpr int kSegmentK = kGroup ? kGroup : 128;

    static constexpr int kStageK = 128;                         // k of a stage
    static constexpr int kStageTiles = kStageK / kTileK;        // k-tiles of a stage
    static constexpr int kStageSegments = kStageK / kSegmentK;  // segments of a stage
    static constexpr int kThreads = 32 * kWarpsN * kWarpsM, kLaunchThreads = kThreads;
    static constexpr int kTilesN = kWarpsN * kNT, kTilesM = kWarpsM * kMT;            // tiles of a block
    static constexpr int kRows = kTileN * kTilesN;                                    // output channels of a block
    static constexpr int kTokens = kTileM * kTilesM;                                  // tokens of a block
    static constexpr int kCodeBytes = activation_tile_bytes(kQuantized ? kBits : 0);  // of an activation tile

    // BF16 activations of a stage: rows of 128 bytes. The swizzle of their 16-byte units puts the rows that ldmatrix
    // and the quantizer read together on different banks.
    using LayoutX = decltype(tile_to_shape(composition(Swizzle<3, 3, 3>{}, Layout<Shape<_8, _64>, Stride<_64, _1>>{}),
                                           Shape<Int<kTokens>, Int<kStageK>>{}));  // (token,k)

    // A stage, as byte offsets.
    static constexpr int kParamGroups = kGroup ? kTilesN * kStageSegments : 0;  // groups of 16 channels' parameters
    static constexpr int kWeights = 0;                                          // [kTilesN][kStageTiles] tiles
    static constexpr int kX = kWeights +
                              kStageTiles * kTilesN * kWeightTileBytes;  // codes [kTilesM][kStageTiles], or LayoutX
    static constexpr int kXBytes = kPacked ? kStageTiles * kTilesM * kCodeBytes : kTokens * kStageK * 2;
    static constexpr int kScales = kX + kXBytes;                       // [kTilesN][segments][16], 4 bytes each
    static constexpr int kSums = kScales + kParamGroups * kTileN * 4;  // likewise, 2 bytes each
    static constexpr int kZeros = kSums + (kQuantized ? kParamGroups * kTileN * 2 : 0);  // likewise, 1 byte each
    static constexpr int kTokenParams = kZeros + kParamGroups * kTileN;  // [kTilesM][segments][8] TokenParams
    static constexpr int kTokenParamsBytes = kPacked && kGroup
                                                 ? kTilesM * kStageSegments * kTileM * int(sizeof(TokenParams))
                                                 : 0;
    static constexpr int kSteps = kTokenParams + kTokenParamsBytes;  // [kTilesN][groups of steps][16] StepWords
    static constexpr int kTileStepBytes = kTwoLevel ? kStageTiles * kTileStepGroups * kGroupStepBytes : 0;
    static constexpr int kStageBytes = ceil_div(kSteps + kTilesN * kTileStepBytes, 128) * 128;

    // After the stages, if x is quantized here: the codes of one stage [kTilesM][kStageTiles] and their parameters.
    static constexpr int kCodes = kStages * kStageBytes;
    static constexpr int kCodeParams = kCodes + (kQuantizes ? kStageTiles * kTilesM * kCodeBytes : 0);
    // Groups: [kTilesM][segments][8] TokenParams. Whole rows: a Quantizer [kTokens] and a sum [kTokens].
    static constexpr int kCodeParamsBytes = !kQuantizes ? 0
                                            : kGroup    ? kTokens * kStageSegments * int(sizeof(TokenParams))
                                                        : kTokens * 16;
    static constexpr int kLoopBytes = kCodeParams + kCodeParamsBytes;

    // The outputs reuse the memory of the stages.
    static constexpr int kShared = kLoopBytes > out_bytes(kRows, kTokens) ? kLoopBytes : out_bytes(kRows, kTokens);
    static constexpr int shared_bytes(int) { return kShared; }
};

}  // namespace w4ax
