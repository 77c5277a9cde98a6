// wgmma family (sm_90a), mainloop steps: y = x * W^T + bias for any number of tokens, by TMA and wgmma.
//
// Grid: ceil(N / kRows) * ceil(M / kTokens) blocks, tokens fastest; each owns 128 * kNT channels x kTokens tokens. One
// producer warpgroup copies stages of 128 k of weights and activations; two consumer warpgroups, 64 * kNT channels
// each, unpack the weights in registers (A) and multiply them by the activations in shared memory (B). The 64 rows of a
// wgmma are one weight tile of each warp, so a warp's kNT tiles are neighbors.
// Shared memory: WgmmaConfig: a ring of kStages stages with a full and an empty barrier each. The outputs reuse it.
// Preconditions: M, N, K > 0; the weights and their parameters aligned to 16 bytes; x is a TensorMap (BF16), or core
// matrices (quantized).
//
// The consumer warpgroups are ordered by the stages alone: while one scales the sums of a group, the other multiplies.
// Barriers: PTX ISA, section mbarrier. Fragments and matrix layouts: section "Asynchronous Warpgroup Level Matrix
// Instructions":
// https://docs.nvidia.com/cuda/parallel-thread-execution/#asynchronous-warpgroup-level-matrix-instructions
#pragma once

#include "common/device.cuh"
#include "common/params.cuh"
#include "common/ptx.cuh"
#include "gemm/epilogue.cuh"
#include "gemm/outputs.cuh"
#include "gemm/wgmma_config.cuh"
#include "mma/mma.cuh"
#include "mma/sm90.cuh"

namespace w4ax {

template <class C>
struct Wgmma {
    using Config = C;
    using Engine = w4ax::Engine<C>;
    // CuTe declares integer accumulators as unsigned.
    using Accumulator = conditional_t<C::kQuantized, uint32_t, float>;
    static constexpr int kSteps = Engine::kSteps;  // mma of a tile of 64 k
    static constexpr sm90::Operands kOperands = !C::kQuantized ? sm90::Operands::Bf16
                                                : C::kTwoLevel ? sm90::Operands::U8U8
                                                               : sm90::Operands::S8U8;

    GemmParams const& p;
    TensorMap const& x;
    unsigned char* const shared;
    int const thread, lane, warp_n, warp_m = 0;
    int tile_n, tile_m;          // the block's first
    ScaleWord const scale_word;  // of the lane's rows g and g + 8

    W4AX_DEVICE Wgmma(GemmParams const& p, TensorMap const& x, unsigned char* shared)
        : p(p),
          x(x),
          shared(shared),
          thread(int(threadIdx.x)),
          lane(lane_index()),
          warp_n(warp_index()),
          scale_word(lane / 4, p.scale_type) {
        // Neighboring blocks share weights; x is small enough to stay in L2.
        int const blocks_m = ceil_div(p.m, C::kTokens);
        tile_n = int(blockIdx.x) / blocks_m * C::kTilesN;
        tile_m = int(blockIdx.x) % blocks_m * C::kTilesM;
    }

    W4AX_DEVICE int k_blocks() const { return ceil_div(p.k_tiles, C::kStageTiles); }
    W4AX_DEVICE int tiles_of(int k_block) const {
        return at_most(C::kStageTiles, p.k_tiles - k_block * C::kStageTiles);
    }
    W4AX_DEVICE int segments_of(int k_block) const {
        return at_most(C::kStageSegments, p.groups - k_block * C::kStageSegments);
    }
    // Groups of steps in the stage of k_block.
    W4AX_DEVICE int step_groups_of(int k_block) const {
        int const groups = C::kStageK >> p.step_shift;
        return at_most(groups, p.step_groups - k_block * groups);
    }
    static W4AX_DEVICE int at_most(int most, int v) { return v < most ? v : most; }

    W4AX_DEVICE unsigned char* stage(int k_block) const { return shared + k_block % C::kStages * C::kStageBytes; }
    W4AX_DEVICE uint64_t* full(int k_block) const {
        return reinterpret_cast<uint64_t*>(shared + C::kBarriers) + k_block % C::kStages;
    }
    W4AX_DEVICE uint64_t* empty(int k_block) const { return full(k_block) + C::kStages; }
    // The parity of the phase in which the stage is filled, and emptied, for this block of k.
    static W4AX_DEVICE int parity(int k_block) { return k_block / C::kStages % 2; }

    W4AX_DEVICE void init_barriers() const {
        if (thread != 0) return;
        for (int i = 0; i < C::kStages; ++i) {
            sm90::initialize_barrier(full(i), C::kProducerWarps);  // one arrival per producer warp
            sm90::initialize_barrier(empty(i), C::kWarpsN);        // one arrival per consumer warp
        }
        sm90::fence_barrier_init();
    }

    // ---- producer warps. A copy takes its operands from uniform registers, so a warp issues the copies of its lanes
    // one after the other, about ten instructions each. The four warps share them: lane l of producer c copies tile 4l
    // + c of the block's channels, and k-tile or group 4l + c of its activations. Tiles beyond N and M, and groups and
    // k beyond K, are not copied: their contents are never used.
    static_assert(C::kTilesN <= 32 * C::kProducerWarps, "a lane copies one tile");
    W4AX_DEVICE int producer() const { return warp_n - C::kWarpsN; }
    W4AX_DEVICE int tile_of_lane() const { return lane * C::kProducerWarps + producer(); }

    // Calls copy(offset in the stage, from, bytes) for each part of the lane's weights.
    template <class Copy>
    W4AX_DEVICE void for_weight_copies(int k_block, Copy copy) const {
        int const n = tile_of_lane();
        if (n >= at_most(C::kTilesN, p.n_tiles - tile_n)) return;
        int64_t const tile = int64_t(tile_n + n) * p.k_tiles + k_block * C::kStageTiles;
        copy(C::kWeights + n * C::kStageTiles * kWeightTileBytes,
             static_cast<unsigned char const*>(p.tiles) + tile * kWeightTileBytes,
             tiles_of(k_block) * kWeightTileBytes);
        if constexpr (C::kGroup != 0) {
            int64_t const at = group_params_index(tile_n + n, k_block * C::kStageSegments, p.groups, 0);
            int const rows = segments_of(k_block) * kTileN, slot = n * C::kStageSegments * kTileN;
            int const bytes = scale_bytes(p.scale_type);
            copy(C::kScales + slot * 4, static_cast<unsigned char const*>(p.scales) + at * bytes, rows * bytes);
            if constexpr (C::kQuantized) copy(C::kSums + slot * 2, static_cast<int16_t const*>(p.sums) + at, rows * 2);
            if (p.zeros) copy(C::kZeros + slot, p.zeros + at, rows);
        }
        if constexpr (C::kTwoLevel) {
            int const first = k_block * (C::kStageK >> p.step_shift);
            copy(C::kSteps + n * C::kTileStepBytes, p.steps + group_params_index(tile_n + n, first, p.step_groups, 0),
                 step_groups_of(k_block) * kGroupStepBytes);
        }
    }

    // Likewise for quantized activations. A k-tile's codes of all tokens of the block are contiguous, as are a group's
    // factors.
    template <class Copy>
    W4AX_DEVICE void for_code_copies(int k_block, Copy copy) const {
        constexpr int kBytes = activation_tile_bytes(8);
        int const m_tiles = ceil_div(p.m, kTileM), tiles_m = at_most(C::kTilesM, m_tiles - tile_m);
        int const tile = tile_of_lane(), segment = tile - C::kStageTiles;
        if (tile < tiles_of(k_block)) {
            int64_t const at = int64_t(k_block * C::kStageTiles + tile) * m_tiles + tile_m;
            copy(C::kX + tile * C::kTilesM * kBytes, static_cast<unsigned char const*>(p.x) + at * kBytes,
                 tiles_m * kBytes);
        } else if (C::kGroup != 0 && segment >= 0 && segment < segments_of(k_block)) {
            int64_t const at = int64_t(k_block * C::kStageSegments + segment) * m_tiles + tile_m;
            copy(C::kFactors + segment * C::kTilesM * kFactorBytes,
                 reinterpret_cast<unsigned char const*>(p.tokens) + at * kFactorBytes, tiles_m * kFactorBytes);
        }
    }

    // BF16 activations are copied as boxes of 64 k. Returns whether this warp copies one.
    W4AX_DEVICE bool has_box(int k_block) const { return !C::kQuantized && producer() < tiles_of(k_block); }

    // Sets the bytes that the full barrier expects from this warp, before the first copy is issued.
    W4AX_DEVICE void expect_bytes(int k_block) const {
        int bytes = 0;
        auto const count = [&](int, void const*, int more) { bytes += more; };
        for_weight_copies(k_block, count);
        if constexpr (C::kQuantized) for_code_copies(k_block, count);
        bytes = __reduce_add_sync(kAllLanes, bytes);
        if (has_box(k_block)) bytes += C::kBox;
        if (lane == 0) sm90::arrive_and_expect_tx(full(k_block), bytes);
        // No lane's copy can complete before the barrier expects it.
        __syncwarp();
    }

    W4AX_DEVICE void copy_weights(int k_block) const {
        for_weight_copies(k_block, [&](int to, void const* gFrom, int bytes) {
            sm90::bulk_copy(stage(k_block) + to, gFrom, bytes, full(k_block));
        });
    }

    W4AX_DEVICE void copy_x(int k_block) const {
        if constexpr (C::kQuantized) {
            for_code_copies(k_block, [&](int to, void const* gFrom, int bytes) {
                sm90::bulk_copy(stage(k_block) + to, gFrom, bytes, full(k_block));
            });
        } else if (lane == 0 && has_box(k_block)) {
            int const k = (k_block * C::kStageTiles + producer()) * kTileK;
            sm90::tma_load_2d(stage(k_block) + C::kX + producer() * C::kBox, x, k, tile_m * kTileM, full(k_block));
        }
    }

    W4AX_DEVICE void produce() const {
        int const first = at_most(C::kStages, k_blocks());
        int next_x = 0;
        for (int k_block = 0; k_block < k_blocks(); ++k_block) {
            // Every consumer warp has released the stage's previous contents.
            if (k_block >= C::kStages) sm90::wait(empty(k_block), parity(k_block - C::kStages));
            expect_bytes(k_block);
            copy_weights(k_block);
            if (k_block + 1 < first) continue;
            // Prologue: the weights of the first stages are in flight. Until the wait, x and y belong to the previous
            // launch.
            if (k_block + 1 == first) {
                ptx::wait_on_dependent_grids();
                ptx::launch_dependent_grids();
            }
            for (; next_x <= k_block; ++next_x) copy_x(next_x);
        }
    }

    // ---- consumer warps

    // Waits for a stage's copies. Returns its shared address.
    W4AX_DEVICE unsigned char const* wait_for_stage(int k_block) const {
        sm90::wait(full(k_block), parity(k_block));
        return stage(k_block);
    }

    // Lets the producer fill a stage again, once all lanes have read it and waited for the mma that read it.
    W4AX_DEVICE void release(int k_block) const {
        __syncwarp();
        if (lane == 0) sm90::arrive(empty(k_block));
    }

    // Loads the group steps of the lane's rows in a k-tile of the stage.
    W4AX_DEVICE TileSteps load_steps(unsigned char const* s, int k_block, int tile, int n) const {
        auto const* const sSteps =
            reinterpret_cast<StepWord const*>(s + C::kSteps + (warp_n * C::kNT + n) * C::kTileStepBytes);
        return load_tile_steps(sSteps, lane, tile * kTileK, p.step_shift, step_groups_of(k_block) - 1);
    }

    // Loads the A fragments of a k-tile of the warp's weight tile n: the lane's registers for each mma.
    template <class TensorA>
    W4AX_DEVICE void load_weights(unsigned char const* s, int k_block, int tile, int n, uint32_t const (&offset)[2],
                                  TensorA&& rA) const {  // (4,step)
        auto const* const sTile = s + C::kWeights + ((warp_n * C::kNT + n) * C::kStageTiles + tile) * kWeightTileBytes;
        Tensor rW = make_tensor<uint32_t>(Shape<_4>{});  // (4)
        set_words(rW, reinterpret_cast<uint4 const*>(sTile)[lane]);
        if constexpr (C::kTwoLevel)
            Engine::unpack(rW, load_steps(s, k_block, tile, n), rA);
        else
            Engine::unpack(rW, offset, rA);
    }

    // Adds mma `first` to `first + count` of a k-tile to rC, asynchronously. The caller commits them.
    template <class TensorA, class TensorC>
    W4AX_DEVICE void multiply(unsigned char const* s, int tile, int first, int count, TensorA&& rA,
                              TensorC& rC) const {  // (4,step) (4,MT)
        uint64_t const b = C::kQuantized ? sm90::make_descriptor(s + C::kX, 128, activation_tile_bytes(8),
                                                                 sm90::Order::CoreMatrices)
                                         : sm90::make_descriptor(s + C::kX, 16, 1024, sm90::Order::Swizzled);
        // Ordinary instructions have written the fragments and the initial accumulators.
        sm90::warpgroup_arrive(rC, rA);
        CUTE_UNROLL
        for (int i = 0; i < kSteps; ++i) {
            if (i < first || i >= first + count) continue;
            // 32 bytes of k: two core matrices, or two 16-byte units of a swizzled row.
            int const at = C::kQuantized ? tile * C::kTilesM * activation_tile_bytes(8) + i * 256
                                         : tile * C::kBox + i * 32;
            sm90::multiply<kOperands, C::kTokens>(rC, rA(_, i), sm90::advance(b, at));
        }
    }

    // The parameters of the lane's channel g + 8i, for a segment of the stage.
    W4AX_DEVICE float load_scale(unsigned char const* s, int segment, int i) const {
        auto const* const sScale = s + C::kScales + warp_n * C::kStageSegments * kTileN * 4 + scale_word.at +
                                   (segment * kTileN + 8 * i) * scale_bytes(p.scale_type);
        return scale_word.convert(*reinterpret_cast<uint32_t const*>(sScale), p.scale_type);
    }
    W4AX_DEVICE int params_at(int segment, int i) const {
        return (warp_n * C::kStageSegments + segment) * kTileN + lane / 4 + 8 * i;
    }
    W4AX_DEVICE float load_sum(unsigned char const* s, int segment, int i) const {
        return float(reinterpret_cast<int16_t const*>(s + C::kSums)[params_at(segment, i)]);
    }
    W4AX_DEVICE int load_zero(unsigned char const* s, int segment, int i) const {
        return reinterpret_cast<int8_t const*>(s + C::kZeros)[params_at(segment, i)];
    }

    // Loads a factor of the lane's tokens 2t and 2t + 1 of tile m. `which`: 0 scale, 1 minus zero, 2 minus sum.
    W4AX_DEVICE float2 load_factor(unsigned char const* s, int segment, int m, int which) const {
        auto const* const sFactors = s + C::kFactors + (segment * C::kTilesM + m) * kFactorBytes;
        return reinterpret_cast<float2 const*>(sFactors)[which * (kTileM / 2) + lane % 4];
    }

    // Sets the initial accumulators of a segment. Without weight zero points, the group sum is
    // d = sum qa*qw - za * sum qw. The second term is known beforehand, so it becomes the initial value.
    // |16 za sum qw| <= 16 * 255 * 128 * 8 < 2^22: added to kRound it is exact, and the bits of the f32 are kRoundBits
    // + 16 times the term. |16 d| has the same bound; intermediate sums may wrap.
    template <bool kAsymmetric, class TensorC>
    W4AX_DEVICE void start_segment(unsigned char const* s, int segment, TensorC& rC) const {  // (4,MT)
        if constexpr (!C::kQuantized || kAsymmetric) {
            fill(rC, Accumulator(Engine::kStart));
        } else {
            constexpr float kScale = float(1 << Engine::kShift);
            float const sum[2] = {kScale * load_sum(s, segment, 0), kScale * load_sum(s, segment, 1)};
            CUTE_UNROLL
            for (int m = 0; m < C::kMT; ++m) {
                float2 const minus_zero = load_factor(s, segment, m, 1);
                CUTE_UNROLL
                for (int i = 0; i < 4; ++i)
                    rC(i, m) = __float_as_uint(__fmaf_rn(i % 2 ? minus_zero.y : minus_zero.x, sum[i / 2], kRound));
            }
        }
    }

    // Adds the scaled sums of a segment to acc.
    template <bool kAsymmetric, class TensorC, class TensorAcc>
    W4AX_DEVICE void add_segment(unsigned char const* s, int segment, TensorC const& rC,
                                 TensorAcc& acc) const {  // (4,MT) (4,1,MT) f32
        GroupParams groups[2] = {};
        CUTE_UNROLL
        for (int i = 0; i < 2; ++i) {
            if constexpr (C::kGroup != 0) groups[i].scale = load_scale(s, segment, i);
            if constexpr (C::kQuantized && kAsymmetric) {
                groups[i].sum = load_sum(s, segment, i);
                groups[i].zero = float(load_zero(s, segment, i));
            }
        }
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m) {
            TokenFactors tokens[2] = {};
            if constexpr (C::kQuantized) {
                float2 const none = {}, scale = load_factor(s, segment, m, 0);
                float2 const minus_zero = kAsymmetric ? load_factor(s, segment, m, 1) : none;
                float2 const minus_sum = kAsymmetric ? load_factor(s, segment, m, 2) : none;
                tokens[0] = {scale.x, minus_zero.x, minus_sum.x};
                tokens[1] = {scale.y, minus_zero.y, minus_sum.y};
            }
            CUTE_UNROLL
            for (int i = 0; i < 4; ++i) {
                // Accumulator i: channel g + 8 * (i / 2), token 2t + i % 2.
                float& to = acc(i, 0, m);
                float const scale = groups[i / 2].scale;
                if constexpr (C::kQuantized && kAsymmetric)
                    to = add_group<true>(to, Engine::sum(int32_t(rC(i, m))), groups[i / 2], tokens[i % 2]);
                else if constexpr (C::kQuantized)
                    to = __fmaf_rn(Engine::sum(int32_t(rC(i, m))), __fmul_rn(tokens[i % 2].scale, scale), to);
                else if constexpr (C::kGroup != 0)
                    to = __fmaf_rn(Engine::sum(rC(i, m)), scale, to);
                else
                    to = __fadd_rn(to, Engine::sum(rC(i, m)));
            }
        }
    }

    // Multiplies a stage segment by segment, and adds the scaled sums to acc.
    template <bool kAsymmetric, class TensorAcc>
    W4AX_DEVICE void add_stage(unsigned char const* s, int k_block, uint32_t const (&channel_offset)[2],
                               TensorAcc& acc) const {                                     // (4,1,MT) f32
        Tensor rC = make_tensor<Accumulator>(Shape<_4, Int<C::kMT>>{});                    // (4,MT)
        Tensor rA = make_tensor<uint32_t>(Shape<_4, Int<kSteps>, Int<C::kStageTiles>>{});  // (4,step,tile)
        constexpr int kTileSegments = C::kSegmentK < kTileK ? kTileK / C::kSegmentK : 1;  // segments that end in a tile
        CUTE_UNROLL
        for (int tile = 0; tile < C::kStageTiles; ++tile) {
            if (tile > 0 && tile >= tiles_of(k_block)) break;
            CUTE_UNROLL
            for (int part = 0; part < kTileSegments; ++part) {
                int const segment = (tile * kTileK + part * (kTileK / kTileSegments)) / C::kSegmentK;
                if (C::kGroup != 0 && segment > 0 && segment >= segments_of(k_block)) break;
                if (part == 0 || !C::kQuantized) {
                    uint32_t offset[2] = {channel_offset[0], channel_offset[1]};
                    if (!C::kQuantized && C::kGroup != 0 && p.zeros) {
                        CUTE_UNROLL
                        for (int i = 0; i < 2; ++i) offset[i] = bf16_offset(load_zero(s, segment, i));
                    }
                    // The mma of the previous tile are still in flight.
                    load_weights(s, k_block, tile, 0, offset, rA(_, _, tile));
                }
                if (C::kSegmentK <= kTileK || tile == 0) start_segment<kAsymmetric>(s, segment, rC);
                multiply(s, tile, part * (kSteps / kTileSegments), kSteps / kTileSegments, rA(_, _, tile), rC);
                sm90::warpgroup_commit_batch();
                if constexpr (C::kSegmentK <= kTileK) {
                    sm90::warpgroup_wait<0>(rC);
                    add_segment<kAsymmetric>(s, segment, rC, acc);
                }
            }
        }
        if constexpr (C::kSegmentK > kTileK) {
            sm90::warpgroup_wait<0>(rC);
            add_segment<kAsymmetric>(s, 0, rC, acc);
        }
    }

    // The A fragments of whole rows: each of a stage's k-tiles has registers of its own, which stay in use while its
    // mma are in flight.
    static W4AX_DEVICE auto whole_row_fragments() {
        return make_tensor<uint32_t>(Shape<_4, Int<kSteps>, Int<C::kNT>, Int<C::kStageTiles>>{});  // (4,step,NT,tile)
    }

    // Adds the products of a stage's first kTiles k-tiles to the integer sums of whole rows. The mma of the last of
    // them stay in flight, while the weights of the next stage are unpacked.
    template <int kTiles, class TensorA, class TensorC>
    W4AX_DEVICE void multiply_stage(int k_block, TensorA& rA, TensorC& rC) const {  // (4,step,NT,tile) (4,MT,NT)
        unsigned char const* const s = wait_for_stage(k_block);
        uint32_t const none[2] = {};
        CUTE_UNROLL
        for (int tile = 0; tile < kTiles; ++tile) {
            // The tile's fragments are free once all batches but the last have ended, of which there is one per k-tile.
            sm90::warpgroup_wait<C::kStageTiles - 1>(rC);
            // Then all mma of the previous stage have ended too.
            if (tile == C::kStageTiles - 1 && k_block > 0) release(k_block - 1);
            CUTE_UNROLL
            for (int n = 0; n < C::kNT; ++n) load_weights(s, k_block, tile, n, none, rA(_, _, n, tile));
            CUTE_UNROLL
            for (int n = 0; n < C::kNT; ++n) {
                auto rD = rC(_, _, n);  // (4,MT)
                multiply(s, tile, 0, kSteps, rA(_, _, n, tile), rD);
            }
            sm90::warpgroup_commit_batch();
        }
    }
};

}  // namespace w4ax
