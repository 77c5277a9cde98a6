// What a block of the decode family works on, and its shared memory.
#pragma once

#include "common/device.cuh"
#include "gemm/epilogue.cuh"
#include "common/layout.cuh"
#include "common/quantize.cuh"

namespace w4ax {

template <int kBits_, int kGroup_, bool kFused_, int kNT_, int kMT_>
struct DecodeConfig {
    static constexpr int kBits = kBits_;    // 4 (and 2), 8, 16
    static constexpr int kGroup = kGroup_;  // 0: per channel
    static constexpr bool kFused = kFused_;
    static constexpr int kNT = kNT_;        // weight tiles of 16 channels
    static constexpr int kMT = kMT_;        // activation tiles of 8 tokens

    static constexpr bool kQuantized = kBits != 16;
    // Integer sums of a whole row stay in the accumulators; their order is free.
    static constexpr bool kWholeRow = kQuantized && kGroup == 0;
    // k whose products share an accumulator. BF16 sums of a whole row are cut into runs: a split of K among warps must not
    // show in the bits.
    static constexpr int kRun = kGroup ? kGroup : 128;

    static constexpr int kRows = kTileN * kNT;
    static constexpr int kTokens = kTileM * kMT;
    // Runs a round, so shared memory, are what bounds tiles and warps.
    static constexpr int kWarps = kRun == 32 && kMT == 2 ? 4 : 8;
    static constexpr int kThreads = 32 * kWarps;
    static constexpr int kTiles = kMT * kNT == 1 ? (kRun == 32 ? 2 : 4) : kMT == 1 ? kRun / 32 : kRun == 128 ? 2 : 1;
    static constexpr int kRunsPerWarp = kTiles * kTileK / kRun;
    static constexpr int kRuns = kWarps * kRunsPerWarp;
    static constexpr int kOutputs = kRows * kTokens / kThreads > 0 ? kRows * kTokens / kThreads : 1;  // of a thread, at most

    // Distance of two tokens in the slab: the four lane columns of a fragment (tokens 2t) fall on different banks.
    static constexpr int kSlabToken = kRows + 4;
    static constexpr int kOctetBytes = kBits;  // 8 codes of kBits bits
    static constexpr int kRowsBytes = kRows * int(sizeof(RowGroup));  // of a run

    // Shared memory, in bytes from its start, for m tokens.
    struct Shared {
        int slab, rows, tokens, codes, total;
        W4AX_HOST_DEVICE constexpr explicit Shared(int m)
            : slab(0), rows(0), tokens(0), codes(0), total(0) {
            int const slab_bytes = (kWholeRow ? kWarps : 2 * kRuns) * m * kSlabToken * 4;
            int const rows_bytes = kWholeRow ? 0 : 2 * kRuns * kRowsBytes;
            // Whole rows: extremes, then sums of codes, of each warp and token.
            int const tokens_bytes = !kQuantized ? 0 : kWholeRow ? kWarps * m * 8 : 2 * kRuns * m * int(sizeof(TokenFactors));
            int const codes_bytes = kQuantized && kFused ? kWarps * kTiles * m * kOctetsPerTile * kOctetBytes : 0;
            codes = slab;
            rows = codes + (codes_bytes + 15) / 16 * 16;
            tokens = rows + rows_bytes;
            slab = tokens + tokens_bytes;
            total = slab + slab_bytes;
        }
    };
};

}  // namespace w4ax
