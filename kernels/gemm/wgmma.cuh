// The wgmma family, sm_90a: any number of tokens. A block owns 128 channels x kTokens tokens of y. The four warps of one warpgroup copy
// stages of 128 k of packed weights and of activations to shared memory by TMA; two other warpgroups, 64 channels each, unpack the
// weights in registers (A) and multiply them by the activations where they lie (B).
//
// While one warpgroup scales the sums of a group on the ALUs the other one multiplies: nothing but the stages orders them.
#pragma once

#include "common/device.cuh"
#include "gemm/epilogue.cuh"
#include "mma/mma.cuh"
#include "gemm/outputs.cuh"
#include "common/params.cuh"
#include "common/ptx.cuh"
#include "mma/sm90.cuh"

namespace w4ax {

template <int kBits_, int kGroup_, int kTokens_>
struct WgmmaConfig {
    static constexpr int kBits = kBits_;    // 8 (and 4, 2: a byte a code), 16
    static constexpr int kGroup = kGroup_;  // 0: per channel
    static constexpr int kTokens = kTokens_;

    static constexpr bool kQuantized = kBits != 16;
    static constexpr bool kWholeRow = kQuantized && kGroup == 0;  // integer sums of all of K
    static constexpr int kRun = kGroup ? kGroup : 128;            // k whose products share an accumulator, as in prefill.cuh
    static constexpr int kStageK = 128, kStageTiles = kStageK / kTileK, kStageRuns = kStageK / kRun, kStages = 4;
    static constexpr int kWarpsN = 8, kThreads = 32 * kWarpsN;  // that multiply
    static constexpr int kCopiers = 4;  // warps that copy: a warpgroup, for registers are dealt out by warpgroups
    static constexpr int kLaunched = kThreads + 32 * kCopiers;
    static constexpr int kNT = 1, kMT = kTokens / kTileM;  // tiles of a warp
    static constexpr int kTilesN = kWarpsN, kTilesM = kMT;  // of a block
    static constexpr int kRows = kTileN * kTilesN;

    // A stage, in bytes from its start. Activations first: a swizzled box starts at a multiple of 1024.
    // Codes: [tile of k][tile of tokens], as they are packed. BF16: [tile of k] boxes of kTokens rows of 128 bytes.
    static constexpr int kXBytes = kTokens * kStageK * (kQuantized ? 1 : 2);
    static constexpr int kBox = kTokens * 128;
    static constexpr int kX = 0;
    static constexpr int kWeights = kX + kXBytes;  // [tile of channels][tile of k]
    // Beside each weight tile: kStageRuns groups of 16 rows, in slots of 4, 2 and 1 bytes a row.
    static constexpr int kBeside = kGroup ? kTilesN * kStageRuns * kTileN : 0;
    static constexpr int kScales = kWeights + kTilesN * kStageTiles * kWeightTileBytes;
    static constexpr int kSums = kScales + kBeside * 4;
    static constexpr int kZeros = kSums + (kQuantized ? kBeside * 2 : 0);
    static constexpr int kFactors = kZeros + kBeside;  // [run][tile of tokens], kFactorBytes each
    static constexpr int kFactorStage = kQuantized && kGroup ? kTilesM * kStageRuns * kFactorBytes : 0;
    static constexpr int kStageBytes = ceil_div(kFactors + kFactorStage, 1024) * 1024;
    static_assert(kBox % 1024 == 0 && kX % 1024 == 0, "a swizzle's pattern repeats every 1024 bytes");

    // Two barriers a stage: it is full, it is empty again.
    static constexpr int kBarriers = kStages * kStageBytes;
    static constexpr int kShared = kBarriers + 2 * kStages * int(sizeof(uint64_t));
    static_assert(out_bytes(kRows, kTokens) <= kBarriers, "outputs go over the stages");
};

// The steps of the kernel, one function each.
template <class C>
struct Wgmma {
    using Config = C;
    using Engine = w4ax::Engine<C::kBits, C::kGroup>;
    // CuTe has no signed accumulators.
    using Accumulator = conditional_t<C::kQuantized, uint32_t, float>;
    static constexpr int kSteps = Engine::kSteps;  // mma of a tile of 64 k

    GemmParams const& p;
    TensorMap const& x;
    unsigned char* const shared;
    int const thread, lane, warp_n, warp_m = 0;
    int tile_n, tile_m;  // the block's first
    ScaleWord const scale_word;  // of the lane's rows g and g + 8

    W4AX_DEVICE Wgmma(WgmmaParams const& params, unsigned char* shared)
        : p(params.gemm), x(params.x), shared(shared), thread(int(threadIdx.x)), lane(lane_index()), warp_n(warp_index()),
          scale_word(lane / 4, p.scale_type) {
        // Blocks that run together share weights: the tokens of x are what L2 keeps anyway.
        int const blocks_m = ceil_div(p.m, C::kTokens);
        tile_n = int(blockIdx.x) / blocks_m * C::kTilesN;
        tile_m = int(blockIdx.x) % blocks_m * C::kTilesM;
    }

    W4AX_DEVICE int k_blocks() const { return ceil_div(p.k_tiles, C::kStageTiles); }
    W4AX_DEVICE int tiles_of(int k_block) const { return at_most(C::kStageTiles, p.k_tiles - k_block * C::kStageTiles); }
    W4AX_DEVICE int runs_of(int k_block) const { return at_most(C::kStageRuns, p.groups - k_block * C::kStageRuns); }
    static W4AX_DEVICE int at_most(int most, int v) { return v < most ? v : most; }

    W4AX_DEVICE unsigned char* stage(int k_block) const { return shared + k_block % C::kStages * C::kStageBytes; }
    W4AX_DEVICE uint64_t* full(int k_block) const {
        return reinterpret_cast<uint64_t*>(shared + C::kBarriers) + k_block % C::kStages;
    }
    W4AX_DEVICE uint64_t* empty(int k_block) const { return full(k_block) + C::kStages; }
    // Of the phase in which a stage is filled, and emptied, for this block of k.
    static W4AX_DEVICE int parity(int k_block) { return k_block / C::kStages % 2; }

    W4AX_DEVICE void make_barriers() const {
        if (thread != 0) return;
        for (int i = 0; i < C::kStages; ++i) {
            sm90::init_barrier(full(i), C::kCopiers);  // each warp that copies, and the bytes that it announces
            sm90::init_barrier(empty(i), C::kWarpsN);  // each warp that multiplies
        }
        sm90::publish_barriers();
    }

    // ---- the copying warps. A copy takes its operands from uniform registers: a warp issues those of its lanes one after the other,
    // some ten instructions each, so there are few, and the four share them. Lane l of copier c sees to tile 4l + c of the block's
    // channels, and to tile 4l + c of k or a group of its activations. Tiles beyond N and M, and groups and k beyond K, are left out:
    // what lies there is never used.
    static_assert(C::kTilesN <= 32 * C::kCopiers, "a lane has one tile");
    W4AX_DEVICE int copier() const { return warp_n - C::kWarpsN; }
    W4AX_DEVICE int tile_of_lane() const { return lane * C::kCopiers + copier(); }

    // copy(place in the stage, from, bytes) for each part of the lane's weights.
    template <class Copy>
    W4AX_DEVICE void each_of_weights(int k_block, Copy copy) const {
        int const n = tile_of_lane();
        if (n >= at_most(C::kTilesN, p.n_tiles - tile_n)) return;
        int64_t const tile = int64_t(tile_n + n) * p.k_tiles + k_block * C::kStageTiles;
        copy(C::kWeights + n * C::kStageTiles * kWeightTileBytes,
             static_cast<unsigned char const*>(p.tiles) + tile * kWeightTileBytes, tiles_of(k_block) * kWeightTileBytes);
        if constexpr (C::kGroup != 0) {
            int64_t const at = row_group_index(tile_n + n, k_block * C::kStageRuns, p.groups, 0);
            int const rows = runs_of(k_block) * kTileN, slot = n * C::kStageRuns * kTileN;
            copy(C::kScales + slot * 4, static_cast<unsigned char const*>(p.scales) + at * scale_bytes(p.scale_type), rows * scale_bytes(p.scale_type));
            if constexpr (C::kQuantized) copy(C::kSums + slot * 2, static_cast<int16_t const*>(p.sums) + at, rows * 2);
            if (p.zeros) copy(C::kZeros + slot, p.zeros + at, rows);
        }
    }

    // Likewise of quantized activations: what a tile of k, or a group, has of all the block's tokens lies in one piece.
    template <class Copy>
    W4AX_DEVICE void each_of_codes(int k_block, Copy copy) const {
        constexpr int kBytes = activation_tile_bytes(8);
        int const m_tiles = ceil_div(p.m, kTileM), tiles_m = at_most(C::kTilesM, m_tiles - tile_m);
        int const tile = tile_of_lane(), run = tile - C::kStageTiles;
        if (tile < tiles_of(k_block)) {
            int64_t const at = int64_t(k_block * C::kStageTiles + tile) * m_tiles + tile_m;
            copy(C::kX + tile * C::kTilesM * kBytes, static_cast<unsigned char const*>(p.x) + at * kBytes, tiles_m * kBytes);
        } else if (C::kGroup != 0 && run >= 0 && run < runs_of(k_block)) {
            int64_t const at = int64_t(k_block * C::kStageRuns + run) * m_tiles + tile_m;
            copy(C::kFactors + run * C::kTilesM * kFactorBytes, reinterpret_cast<unsigned char const*>(p.tokens) + at * kFactorBytes,
                 tiles_m * kFactorBytes);
        }
    }

    // BF16 activations come in boxes of 64 k: the warp's.
    W4AX_DEVICE bool has_box(int k_block) const { return !C::kQuantized && copier() < tiles_of(k_block); }

    // Says how many bytes the warp will bring, before the first of them is on its way.
    W4AX_DEVICE void announce(int k_block) const {
        int bytes = 0;
        auto const count = [&](int, void const*, int more) { bytes += more; };
        each_of_weights(k_block, count);
        if constexpr (C::kQuantized) each_of_codes(k_block, count);
        bytes = __reduce_add_sync(kAllLanes, bytes);
        if (has_box(k_block)) bytes += C::kBox;
        if (lane == 0) sm90::arrive_and_expect(full(k_block), bytes);
        // No copy of another lane ends before the barrier expects it.
        __syncwarp();
    }

    W4AX_DEVICE void copy_weights(int k_block) const {
        each_of_weights(k_block, [&](int to, void const* gFrom, int bytes) {
            sm90::copy_bulk(stage(k_block) + to, gFrom, bytes, full(k_block));
        });
    }

    W4AX_DEVICE void copy_x(int k_block) const {
        if constexpr (C::kQuantized) {
            each_of_codes(k_block, [&](int to, void const* gFrom, int bytes) {
                sm90::copy_bulk(stage(k_block) + to, gFrom, bytes, full(k_block));
            });
        } else if (lane == 0 && has_box(k_block)) {
            sm90::copy_box(stage(k_block) + C::kX + copier() * C::kBox, x, (k_block * C::kStageTiles + copier()) * kTileK,
                           tile_m * kTileM, full(k_block));
        }
    }

    W4AX_DEVICE void copy_all() const {
        int const first = at_most(C::kStages, k_blocks());
        int next_x = 0;
        for (int k_block = 0; k_block < k_blocks(); ++k_block) {
            // Every warp has multiplied with what the stage held before.
            if (k_block >= C::kStages) sm90::wait(empty(k_block), parity(k_block - C::kStages));
            announce(k_block);
            copy_weights(k_block);
            if (k_block + 1 < first) continue;
            // The first stages' weights are on their way: until the wait, x and y belong to the launch before.
            if (k_block + 1 == first) {
                ptx::wait_for_previous_grid();
                ptx::let_next_grid_start();
            }
            for (; next_x <= k_block; ++next_x) copy_x(next_x);
        }
    }

    // ---- the multiplying warps

    // Takes the stages in turn: `use(s, k_block)` with the stage at shared address s.
    template <class Use>
    W4AX_DEVICE void for_stages(Use use) const {
        ptx::wait_for_previous_grid();  // y may be what the launch before reads
        for (int k_block = 0; k_block < k_blocks(); ++k_block) {
            sm90::wait(full(k_block), parity(k_block));
            use(stage(k_block), k_block);
            // All lanes have read what they need, and `use` has waited for its mma: the stage may be filled again.
            __syncwarp();
            if (lane == 0) sm90::arrive(empty(k_block));
        }
    }

    // A of a tile of 64 k: the lane's registers for each mma.
    template <class TensorA>
    W4AX_DEVICE void load_weights(unsigned char const* s, int tile, uint32_t const (&offset)[2], TensorA&& rA) const {  // (4,step)
        Tensor rW = make_tensor<uint32_t>(Shape<_4>{});  // (4)
        uint4 const v = reinterpret_cast<uint4 const*>(
            s + C::kWeights + (warp_n * C::kStageTiles + tile) * kWeightTileBytes)[lane];
        rW(0) = v.x;
        rW(1) = v.y;
        rW(2) = v.z;
        rW(3) = v.w;
        Engine::unpack(rW, offset, rA);
    }

    // rC += mma `first` to `first + count` of a tile, as one batch that runs on.
    template <class TensorA, class TensorC>
    W4AX_DEVICE void multiply(unsigned char const* s, int tile, int first, int count, TensorA&& rA, TensorC& rC) const {  // (4,step) (4,MT)
        uint64_t const b = C::kQuantized
                               ? sm90::describe(s + C::kX, 128, activation_tile_bytes(8), sm90::Order::Cores)
                               : sm90::describe(s + C::kX, 16, 1024, sm90::Order::Swizzled);
        // The fragments and the accumulators' start were written by ordinary instructions.
        sm90::begin_mma(rC, rA);
        CUTE_UNROLL
        for (int i = 0; i < kSteps; ++i) {
            if (i < first || i >= first + count) continue;
            // 32 bytes of k: two core matrices, or two units of a swizzled row.
            int const at = C::kQuantized ? tile * C::kTilesM * activation_tile_bytes(8) + i * 256 : tile * C::kBox + i * 32;
            sm90::multiply<C::kQuantized, C::kTokens>(rC, rA(_, i), sm90::advance(b, at));
        }
        sm90::commit_mma();
    }

    // What stands beside the lane's row g + 8i, for a run of the stage.
    W4AX_DEVICE float load_scale(unsigned char const* s, int run, int i) const {
        auto const* const sScale = s + C::kScales + warp_n * C::kStageRuns * kTileN * 4 + scale_word.at +
                                   (run * kTileN + 8 * i) * scale_bytes(p.scale_type);
        return scale_word.convert(*reinterpret_cast<uint32_t const*>(sScale), p.scale_type);
    }
    W4AX_DEVICE float load_sum(unsigned char const* s, int run, int i) const {
        return float(reinterpret_cast<int16_t const*>(s + C::kSums)[(warp_n * C::kStageRuns + run) * kTileN + lane / 4 + 8 * i]);
    }
    W4AX_DEVICE int load_zero(unsigned char const* s, int run, int i) const {
        return reinterpret_cast<int8_t const*>(s + C::kZeros)[(warp_n * C::kStageRuns + run) * kTileN + lane / 4 + 8 * i];
    }

    // One of the factors of the lane's tokens 2t and 2t + 1 of tile m: 0 scale, 1 minus zero, 2 minus sum.
    W4AX_DEVICE float2 load_factor(unsigned char const* s, int run, int m, int which) const {
        return reinterpret_cast<float2 const*>(s + C::kFactors + (run * C::kTilesM + m) * kFactorBytes)[which * (kTileM / 2) + lane % 4];
    }

    // What a run's sums start from. Without zero points in the weights a sum is d = sum qa*qw - za * sum qw once the second term,
    // known beforehand, is its start. |16 za sum qw| <= 16 * 255 * 128 * 8 < 2^22: added to kRound it is exact, and the f32's
    // bits are kRoundBits + 16 times it. |16 d| has the same bound; what it passes through in between may wrap.
    template <bool kAsymmetric, class TensorC>
    W4AX_DEVICE void start_run(unsigned char const* s, int run, TensorC& rC) const {  // (4,MT)
        if constexpr (!C::kQuantized || kAsymmetric) {
            fill(rC, Accumulator(Engine::kStart));
        } else {
            constexpr float kScale = float(1 << Engine::kShift);
            float const sum[2] = {kScale * load_sum(s, run, 0), kScale * load_sum(s, run, 1)};
            CUTE_UNROLL
            for (int m = 0; m < C::kMT; ++m) {
                float2 const minus_zero = load_factor(s, run, m, 1);
                CUTE_UNROLL
                for (int i = 0; i < 4; ++i)
                    rC(i, m) = __float_as_uint(__fmaf_rn(i % 2 ? minus_zero.y : minus_zero.x, sum[i / 2], kRound));
            }
        }
    }

    // acc += the scaled sums of a run.
    template <bool kAsymmetric, class TensorC, class TensorAcc>
    W4AX_DEVICE void add_run(unsigned char const* s, int run, TensorC const& rC, TensorAcc& acc) const {  // (4,MT) (4,1,MT) f32
        RowGroup rows[2] = {};
        CUTE_UNROLL
        for (int i = 0; i < 2; ++i) {
            if constexpr (C::kGroup != 0) rows[i].scale = load_scale(s, run, i);
            if constexpr (C::kQuantized && kAsymmetric) {
                rows[i].sum = load_sum(s, run, i);
                rows[i].zero = float(load_zero(s, run, i));
            }
        }
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m) {
            TokenFactors tokens[2] = {};
            if constexpr (C::kQuantized) {
                float2 const none = {}, scale = load_factor(s, run, m, 0);
                float2 const minus_zero = kAsymmetric ? load_factor(s, run, m, 1) : none;
                float2 const minus_sum = kAsymmetric ? load_factor(s, run, m, 2) : none;
                tokens[0] = {scale.x, minus_zero.x, minus_sum.x};
                tokens[1] = {scale.y, minus_zero.y, minus_sum.y};
            }
            CUTE_UNROLL
            for (int i = 0; i < 4; ++i) {
                // Accumulator i: row g + 8 * (i / 2), token 2t + i % 2.
                float& to = acc(i, 0, m);
                float const scale = rows[i / 2].scale;
                if constexpr (C::kQuantized && kAsymmetric)
                    to = add_group<true>(to, Engine::sum(int32_t(rC(i, m))), rows[i / 2], tokens[i % 2]);
                else if constexpr (C::kQuantized)
                    to = __fmaf_rn(Engine::sum(int32_t(rC(i, m))), __fmul_rn(tokens[i % 2].scale, scale), to);
                else if constexpr (C::kGroup != 0)
                    to = __fmaf_rn(Engine::sum(rC(i, m)), scale, to);
                else
                    to = __fadd_rn(to, Engine::sum(rC(i, m)));
            }
        }
    }

    // A stage in runs: each one's sums start anew, and are scaled into acc.
    template <bool kAsymmetric, class TensorAcc>
    W4AX_DEVICE void add_stage(unsigned char const* s, int k_block, uint32_t const (&channel_offset)[2], TensorAcc& acc) const {
        Tensor rC = make_tensor<Accumulator>(Shape<_4, Int<C::kMT>>{});                       // (4,MT)
        Tensor rA = make_tensor<uint32_t>(Shape<_4, Int<kSteps>, Int<C::kStageTiles>>{});     // (4,step,tile)
        constexpr int kTileRuns = C::kRun < kTileK ? kTileK / C::kRun : 1;                     // runs that end in a tile
        CUTE_UNROLL
        for (int tile = 0; tile < C::kStageTiles; ++tile) {
            if (tile > 0 && tile >= tiles_of(k_block)) break;
            CUTE_UNROLL
            for (int part = 0; part < kTileRuns; ++part) {
                int const run = (tile * kTileK + part * (kTileK / kTileRuns)) / C::kRun;
                if (C::kGroup != 0 && run > 0 && run >= runs_of(k_block)) break;
                if (part == 0 || !C::kQuantized) {
                    uint32_t offset[2] = {channel_offset[0], channel_offset[1]};
                    if (!C::kQuantized && C::kGroup != 0 && p.zeros) {
                        CUTE_UNROLL
                        for (int i = 0; i < 2; ++i) offset[i] = bf16_offset(load_zero(s, run, i));
                    }
                    // With the mma of the tile before on their way.
                    load_weights(s, tile, offset, rA(_, _, tile));
                }
                if (C::kRun <= kTileK || tile == 0) start_run<kAsymmetric>(s, run, rC);
                multiply(s, tile, part * (kSteps / kTileRuns), kSteps / kTileRuns, rA(_, _, tile), rC);
                if constexpr (C::kRun <= kTileK) {
                    sm90::wait_for_mma(rC);
                    add_run<kAsymmetric>(s, run, rC, acc);
                }
            }
        }
        if constexpr (C::kRun > kTileK) {
            sm90::wait_for_mma(rC);
            add_run<kAsymmetric>(s, 0, rC, acc);
        }
    }

    // A stage of whole rows: integer sums that go on.
    template <class TensorC>
    W4AX_DEVICE void multiply_stage(unsigned char const* s, int k_block, TensorC& rC) const {  // (4,MT)
        Tensor rA = make_tensor<uint32_t>(Shape<_4, Int<kSteps>, Int<C::kStageTiles>>{});  // (4,step,tile)
        uint32_t const none[2] = {};
        CUTE_UNROLL
        for (int tile = 0; tile < C::kStageTiles; ++tile) {
            if (tile > 0 && tile >= tiles_of(k_block)) break;
            load_weights(s, tile, none, rA(_, _, tile));
            multiply(s, tile, 0, kSteps, rA(_, _, tile), rC);
        }
        sm90::wait_for_mma(rC);
    }
};

}  // namespace w4ax
