// Prefill family, mainloop steps: y = x * W^T + bias for any number of tokens, by mma.sync.
//
// Grid: ceil(N / kRows) * ceil(M / kTokens) blocks, tokens fastest; each owns kRows channels x kTokens tokens. Four
// warps lie along the channels, one or two along the tokens; a warp owns kNT weight tiles x kMT activation tiles.
// Shared memory: PrefillConfig: a ring of kStages stages of 128 k (weight tiles, their parameters, activations), filled
// by cp.async; then, if x is quantized here, the codes of one stage. The outputs reuse it in the epilogue.
// Preconditions: weight tiles aligned to 128 bytes; rows of x aligned to 16 bytes if x_aligned.
//
// A warp unpacks the weights of a group in registers once, then iterates over its activation tiles. Each gives sums
// that are scaled into the f32 accumulators at once, so only a few integer accumulators are live at a time.
#pragma once

#include "common/device.cuh"
#include "common/params.cuh"
#include "common/ptx.cuh"
#include "common/quantize.cuh"
#include "gemm/epilogue.cuh"
#include "gemm/outputs.cuh"
#include "gemm/prefill_load.cuh"
#include "mma/mma.cuh"

namespace w4ax {

template <class C>
struct Prefill {
    using Config = C;
    // s4 tensor cores take the weights as they are stored. There the steps of two-level weights multiply sums of
    // groups.
    static constexpr bool kStepsScaleSums = C::kTwoLevel && C::kBits == 4 && kHasS4;
    using Engine = conditional_t<kStepsScaleSums, EngineS4<0>, w4ax::Engine<C>>;
    using Accumulator = typename Engine::Accumulator;
    static constexpr int kWords = Engine::kWords;  // words per lane of an activation tile
    static constexpr int kSteps = Engine::kSteps;  // mma per k-tile
    static constexpr int kSegmentTiles = C::kSegmentK > kTileK ? C::kSegmentK / kTileK : 1;  // k-tiles of a segment
    static constexpr int kSegmentSteps = C::kSegmentK >= kTileK ? kSteps
                                                                : kSteps * C::kSegmentK / kTileK;  // mma in each

    GemmParams const& p;
    unsigned char* const shared;
    int const thread, lane, warp_n, warp_m;
    int tile_n, tile_m;          // the block's first
    ScaleWord const scale_word;  // of the lane's rows g and g + 8

    W4AX_DEVICE Prefill(GemmParams const& p, unsigned char* shared)
        : p(p),
          shared(shared),
          thread(int(threadIdx.x)),
          lane(lane_index()),
          warp_n(warp_index() % C::kWarpsN),
          warp_m(warp_index() / C::kWarpsN),
          scale_word(lane / 4, p.scale_type) {
        // Neighboring blocks share weights; x is small enough to stay in L2.
        int const blocks_m = ceil_div(p.m, C::kTokens);
        tile_n = int(blockIdx.x) / blocks_m * C::kTilesN;
        tile_m = int(blockIdx.x) % blocks_m * C::kTilesM;
    }

    // ---- stages: `s` is the shared address of the stage of k_block, k from k_block * 128 on

    W4AX_DEVICE unsigned char* stage(int number) const { return shared + number * C::kStageBytes; }

    // ---- quantization of a stage: the 16 octets of a token's 128 k lie on neighboring lanes

    template <class Quantize>
    W4AX_DEVICE void for_octets(unsigned char* s, int k_block, Quantize quantize) const {
        constexpr int kOctets = C::kStageTiles * kOctetsPerTile;
        Tensor sX = shared_x<C>(s);  // (token,k)
        for (int item = thread; item < C::kTokens * kOctets; item += C::kThreads) {
            int const token = item / kOctets;
            int const tile = item / kOctetsPerTile % C::kStageTiles, octet = item % kOctetsPerTile;
            int const k = tile * kTileK + octet_k(octet);
            Octet x;
            CUTE_UNROLL
            for (int i = 0; i < 4; ++i) x.pair[i] = *reinterpret_cast<uint32_t const*>(&sX(token, k + 8 * i));
            x.valid = p.k - k_block * C::kStageK - k;
            OctetCodes const codes = quantize(token, k, octet, x);
            auto* const sCodes = shared + C::kCodes + (token / kTileM * C::kStageTiles + tile) * C::kCodeBytes;
            store_octet<C::kBits>(sCodes, token % kTileM * kOctetsPerTile + octet, codes);
        }
    }

    W4AX_DEVICE void quantize_groups(unsigned char* s, int k_block) const {
        int const levels = (1 << p.bits) - 1;
        auto* const sParams = reinterpret_cast<TokenParams*>(shared + C::kCodeParams);  // [tile][segment][8 tokens]
        for_octets(s, k_block, [&](int token, int k, int octet, Octet const& x) {
            auto const [codes, q] = quantize_group<C::kGroup>(x, levels);
            int const sum = p.zeros ? group_sum<C::kGroup>(sum_of(codes)) : 0;
            // One lane of each group stores its parameters: that of the group's first k.
            if (octet / 2 == 0 && k % C::kSegmentK == 0)
                sParams[(token / kTileM * C::kStageSegments + k / C::kSegmentK) * kTileM + token % kTileM] =
                    TokenParams{q.scale, zero_and_sum(q.zero, sum)};
            return codes;
        });
    }

    // Whole rows: the range of all tokens of the block comes first.
    W4AX_DEVICE Quantizer* shared_quantizers() const { return reinterpret_cast<Quantizer*>(shared + C::kCodeParams); }
    W4AX_DEVICE int* shared_code_sums() const { return reinterpret_cast<int*>(shared_quantizers() + C::kTokens); }

    W4AX_DEVICE void scan_rows() const {
        for (int token = warp_index(); token < C::kTokens; token += C::kThreads / 32) {
            Extremes e = 0;
            if (tile_m * kTileM + token < p.m)
                e = scan_row(static_cast<uint16_t const*>(p.x) + (tile_m * kTileM + token) * p.x_stride, p.k,
                             p.x_aligned, lane, 32);
            e = warp_extremes(e);
            if (lane == 0) {
                shared_quantizers()[token] = quantizer_of(e, (1 << p.bits) - 1);
                shared_code_sums()[token] = 0;
            }
        }
        // Every thread quantizes with the ranges that all warps have found.
        __syncthreads();
    }

    W4AX_DEVICE void quantize_rows(unsigned char* s, int k_block) const {
        int const levels = (1 << p.bits) - 1;
        for_octets(s, k_block, [&](int token, int, int, Octet const& x) {
            OctetCodes const codes = codes_of(x, shared_quantizers()[token], levels);
            if (C::kTwoLevel || p.zeros) {
                // A token has 16 octets on 16 lanes. The same lane adds in every stage, so there is no race.
                int const sum = group_sum<128>(sum_of(codes));
                if (lane % 16 == 0) shared_code_sums()[token] += sum;
            }
            return codes;
        });
    }

    // ---- fragments

    // Calls `with(bits)` with the width of a code in shared memory as a constant. Codes of 2 bits stay packed there; a
    // branch before each load would cost 4-bit activations as much as the loads.
    template <class With>
    W4AX_DEVICE void with_code_bits(With with) const {
        if (C::kPacked && C::kBits == 4 && p.bits == 2)
            with(Int<2>{});
        else
            with(Int<C::kBits>{});
    }

    // Loads the lane's 16 bytes of a weight tile.
    W4AX_DEVICE auto load_raw_weights(unsigned char const* s, int tile, int n) const {
        auto const* const sTile = s + C::kWeights + ((warp_n * C::kNT + n) * C::kStageTiles + tile) * kWeightTileBytes;
        Tensor rW = make_tensor<uint32_t>(Shape<_4>{});  // (4)
        set_words(rW, reinterpret_cast<uint4 const*>(sTile)[lane]);
        return rW;
    }

    // Loads the lane's words of an activation tile. kCodeBits: the width of a code in shared memory.
    template <int kCodeBits>
    W4AX_DEVICE void load_words(unsigned char* s, int tile, int m, uint32_t (&words)[kWords]) const {
        int const tile_of_block = warp_m * C::kMT + m;
        if constexpr (!C::kQuantized) {
            auto const* const sX = reinterpret_cast<uint16_t const*>(s + C::kX);
            // The swizzle repeats every 8 tokens x 64 k: the tile's offset is a constant, and the lane's offset is the
            // same in every tile.
            typename C::LayoutX const layout;
            CUTE_UNROLL
            for (int half = 0; half < 2; ++half) {
                // Four matrices of 8 tokens x 8 k: 32 k in natural order, the B fragments of two mma. PTX ISA, section
                // ldmatrix.
                int const at = layout(tile_of_block * kTileM, tile * kTileK) +
                               layout(lane % 8, half * 32 + lane / 8 * 8);
                SM75_U32x4_LDSM_N::copy(*reinterpret_cast<uint128_t const*>(sX + at), words[4 * half],
                                        words[4 * half + 1], words[4 * half + 2], words[4 * half + 3]);
            }
        } else {
            auto const* const sTile = (C::kFused ? shared + C::kCodes : s + C::kX) +
                                      (tile_of_block * C::kStageTiles + tile) * C::kCodeBytes;
            load_code_words<C::kBits, kCodeBits>(sTile, lane, words);
        }
    }

    // Loads the parameters of the lane's channel g + 8i of a weight tile, for a segment of the stage.
    W4AX_DEVICE GroupParams load_group_params(unsigned char const* s, int segment, int n, int i) const {
        int const group = (warp_n * C::kNT + n) * C::kStageSegments, row = segment * kTileN + lane / 4 + 8 * i;
        GroupParams r;
        auto const* const sScale = s + C::kScales + group * kTileN * 4 + scale_word.at +
                                   (segment * kTileN + 8 * i) * scale_bytes(p.scale_type);
        r.scale = scale_word.convert(*reinterpret_cast<uint32_t const*>(sScale), p.scale_type);
        if constexpr (C::kQuantized) {
            r.sum = exact_float(reinterpret_cast<int16_t const*>(s + C::kSums)[group * kTileN + row]);
            r.zero = p.zeros ? exact_float(reinterpret_cast<int8_t const*>(s + C::kZeros)[group * kTileN + row]) : 0.0f;
        } else {
            r.sum = r.zero = 0.0f;
        }
        return r;
    }

    W4AX_DEVICE int load_zero(unsigned char const* s, int segment, int n, int i) const {
        if (!p.zeros) return 0;
        if constexpr (C::kGroup != 0) {
            int const group = (warp_n * C::kNT + n) * C::kStageSegments + segment;
            return reinterpret_cast<int8_t const*>(s + C::kZeros)[group * kTileN + lane / 4 + 8 * i];
        } else {
            int const tile = tile_n + warp_n * C::kNT + n;
            return tile < p.n_tiles ? p.zeros[group_params_index(tile, 0, 1, lane / 4 + 8 * i)] : 0;
        }
    }

    // Loads the group steps of the lane's rows in a k-tile of the stage.
    W4AX_DEVICE TileSteps load_steps(unsigned char const* s, int tile, int n) const {
        auto const* const sSteps =
            reinterpret_cast<StepWord const*>(s + C::kSteps + (warp_n * C::kNT + n) * C::kTileStepBytes);
        return load_tile_steps(sSteps, lane, tile * kTileK, p.step_shift);
    }

    // Loads the factors of the lane's tokens 2t and 2t + 1 of an activation tile.
    W4AX_DEVICE void load_tokens(unsigned char const* s, int segment, int m, TokenFactors (&factors)[2]) const {
        int const group = (warp_m * C::kMT + m) * C::kStageSegments + segment;
        auto const* const sParams = C::kFused ? shared + C::kCodeParams : s + C::kTokenParams;
        uint4 const v = reinterpret_cast<uint4 const*>(sParams)[group * (kTileM / 2) + lane % 4];
        factors[0] = token_factors(TokenParams{__uint_as_float(v.x), v.y});
        factors[1] = token_factors(TokenParams{__uint_as_float(v.z), v.w});
    }

    // ---- products

    // Loads the A fragments of a segment.
    template <class TensorA>
    W4AX_DEVICE void load_segment_weights(unsigned char const* s, int segment, TensorA& rA) const {  // (A,step,tile,NT)
        CUTE_UNROLL
        for (int n = 0; n < C::kNT; ++n) {
            uint32_t offset[2] = {};
            if constexpr (!C::kQuantized && !C::kTwoLevel) {
                CUTE_UNROLL
                for (int i = 0; i < 2; ++i) offset[i] = bf16_offset(load_zero(s, segment, n, i));
            }
            CUTE_UNROLL
            for (int i = 0; i < kSegmentTiles; ++i) {
                int const tile = segment * C::kSegmentK / kTileK + i;
                if constexpr (C::kTwoLevel)
                    Engine::unpack(load_raw_weights(s, tile, n), load_steps(s, tile, n), rA(_, _, i, n));
                else
                    Engine::unpack(load_raw_weights(s, tile, n), offset, rA(_, _, i, n));
            }
        }
    }

    // Adds the products of a segment and an activation tile to rC.
    template <int kCodeBits, class TensorA, class TensorC>
    W4AX_DEVICE void multiply_segment(unsigned char* s, int segment, int m, TensorA const& rA,
                                      TensorC&& rC) const {  // (A,step,tile,NT) (4,NT)
        // A group of 32 takes half of the tile's steps.
        int const first = C::kSegmentK >= kTileK ? 0 : segment % 2 * kSegmentSteps;
        CUTE_UNROLL
        for (int i = 0; i < kSegmentTiles; ++i) {
            uint32_t words[kWords];
            load_words<kCodeBits>(s, segment * C::kSegmentK / kTileK + i, m, words);
            Tensor rB = make_tensor<uint32_t>(Shape<Int<Engine::kRegistersB>, Int<kSteps>>{});  // (B,step)
            Engine::expand(words, rB);
            CUTE_UNROLL
            for (int s = 0; s < kSegmentSteps; ++s) {
                CUTE_UNROLL
                for (int n = 0; n < C::kNT; ++n) {
                    auto rD = rC(_, n);  // (4)
                    Engine::multiply(rD, rA(_, first + s, i, n), rB(_, first + s));
                }
            }
        }
    }

    // Adds a stage's scaled group sums to acc.
    template <bool kAsymmetric, int kCodeBits, class TensorAcc>
    W4AX_DEVICE void add_stage(unsigned char* s, int k_block, TensorAcc& acc) const {  // (4,NT,MT) f32
        CUTE_UNROLL
        for (int segment = 0; segment < C::kStageSegments; ++segment) {
            if (C::kGroup && k_block * C::kStageSegments + segment >= p.groups) break;
            Tensor rA = make_tensor<uint32_t>(
                Shape<Int<Engine::kRegistersA>, Int<kSteps>, Int<kSegmentTiles>, Int<C::kNT>>{});  // (A,step,tile,NT)
            load_segment_weights(s, segment, rA);
            GroupParams groups[C::kNT][2];
            if constexpr (C::kGroup != 0) {
                CUTE_UNROLL
                for (int n = 0; n < C::kNT; ++n) {
                    CUTE_UNROLL
                    for (int i = 0; i < 2; ++i) groups[n][i] = load_group_params(s, segment, n, i);
                }
            }
            CUTE_UNROLL
            for (int m = 0; m < C::kMT; ++m) {
                Tensor rC = make_tensor<Accumulator>(Shape<_4, Int<C::kNT>>{});  // (4,NT)
                fill(rC, Accumulator(Engine::kStart));
                multiply_segment<kCodeBits>(s, segment, m, rA, rC);
                TokenFactors tokens[2];
                if constexpr (C::kQuantized) load_tokens(s, segment, m, tokens);
                CUTE_UNROLL
                for (int n = 0; n < C::kNT; ++n) {
                    CUTE_UNROLL
                    for (int i = 0; i < 4; ++i) {
                        // Accumulator i: channel g + 8 * (i / 2), token 2t + i % 2.
                        float const dot = Engine::sum(rC(i, n));
                        if constexpr (C::kQuantized)
                            acc(i, n, m) = add_group<kAsymmetric>(acc(i, n, m), dot, groups[n][i / 2], tokens[i % 2]);
                        else if constexpr (C::kGroup != 0)
                            acc(i, n, m) = __fmaf_rn(dot, groups[n][i / 2].scale, acc(i, n, m));
                        else
                            acc(i, n, m) = __fadd_rn(acc(i, n, m), dot);
                    }
                }
            }
        }
    }

    // The steps of the lane's rows g and g + 8 in a group of the stage, for each weight tile.
    struct GroupSteps {
        int step[C::kNT][2];  // sg
        int zero[C::kNT][2];  // zg * sg
        bool has_zeros;       // of any lane

        W4AX_DEVICE GroupSteps(Prefill const& b, unsigned char const* s, int group) {
            int any = 0;
            CUTE_UNROLL
            for (int n = 0; n < C::kNT; ++n) {
                auto const* const sSteps =
                    reinterpret_cast<StepWord const*>(s + C::kSteps + (b.warp_n * C::kNT + n) * C::kTileStepBytes);
                CUTE_UNROLL
                for (int i = 0; i < 2; ++i) {
                    int const word = sSteps[group * kTileN + b.lane / 4 + 8 * i];
                    step[n][i] = word & 31;
                    zero[n][i] = (word >> 7) - 8 * step[n][i];
                    any |= zero[n][i];
                }
            }
            has_zeros = __any_sync(kAllLanes, any);
        }
    };

    // Adds the sums of a group of kGroupK, times their steps, to the integer sums of whole rows:
    // sum(qa * w8) = sg * sum(qa * qw) - zg * sg * sum(qa).
    template <int kGroupK, bool kAsymmetric, int kCodeBits, class TensorC>
    W4AX_DEVICE void add_stepped_group(unsigned char* s, int group, GroupSteps const& steps,
                                       TensorC& acc) const {  // (4,NT,MT) s32
        constexpr int kTiles = kGroupK > kTileK ? kGroupK / kTileK : 1;
        int const first_tile = group * kGroupK / kTileK;
        Tensor rA = make_tensor<uint32_t>(Shape<_4, Int<kTiles>, Int<C::kNT>>{});  // (A,tile,NT)
        CUTE_UNROLL
        for (int n = 0; n < C::kNT; ++n) {
            CUTE_UNROLL
            for (int i = 0; i < kTiles; ++i) copy(load_raw_weights(s, first_tile + i, n), rA(_, i, n));
        }
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m) {
            Tensor rC = make_tensor<int32_t>(Shape<_4, Int<C::kNT>>{});  // (4,NT)
            clear(rC);
            // The sums of codes are products with weights of 1, so each row has them.
            Tensor rOnes = make_tensor<uint32_t>(Shape<_4>{});  // (A)
            Tensor rSums = make_tensor<int32_t>(Shape<_4>{});   // (4)
            fill(rOnes, 0x11111111u);
            clear(rSums);
            CUTE_UNROLL
            for (int i = 0; i < kTiles; ++i) {
                uint32_t words[kWords];
                load_words<kCodeBits>(s, first_tile + i, m, words);
                // A group of 32 is half of a tile. The other half's codes count as 0.
                if constexpr (kGroupK < kTileK) (group % 2 ? words[0] : words[1]) = 0;
                Tensor rB = make_tensor<uint32_t>(Shape<Int<Engine::kRegistersB>, Int<kSteps>>{});  // (B,step)
                Engine::expand(words, rB);
                CUTE_UNROLL
                for (int n = 0; n < C::kNT; ++n) {
                    auto rD = rC(_, n);  // (4)
                    Engine::multiply(rD, rA(_, i, n), rB(_, 0));
                }
                if constexpr (kAsymmetric) Engine::multiply(rSums, rOnes, rB(_, 0));
            }
            CUTE_UNROLL
            for (int n = 0; n < C::kNT; ++n) {
                CUTE_UNROLL
                for (int i = 0; i < 4; ++i) {
                    // Accumulator i: channel g + 8 * (i / 2), token 2t + i % 2.
                    acc(i, n, m) += steps.step[n][i / 2] * rC(i, n);
                    if constexpr (kAsymmetric) acc(i, n, m) -= steps.zero[n][i / 2] * rSums(i % 2);
                }
            }
        }
    }

    // Adds a stage's groups.
    template <int kGroupK, int kCodeBits, class TensorC>
    W4AX_DEVICE void add_stepped_groups(unsigned char* s, TensorC& acc) const {  // (4,NT,MT) s32
#pragma unroll 1
        for (int group = 0; group < C::kStageK / kGroupK; ++group) {
            GroupSteps const steps(*this, s, group);
            if (steps.has_zeros)
                add_stepped_group<kGroupK, true, kCodeBits>(s, group, steps, acc);
            else
                add_stepped_group<kGroupK, false, kCodeBits>(s, group, steps, acc);
        }
    }

    // Adds a stage's products to the integer sums of whole rows.
    template <int kCodeBits, class TensorC>
    W4AX_DEVICE void multiply_stage(unsigned char* s, TensorC& rC) const {  // (4,NT,MT) s32
        if constexpr (kStepsScaleSums) {
            switch (p.step_shift) {
                case 5: add_stepped_groups<32, kCodeBits>(s, rC); break;
                case 6: add_stepped_groups<64, kCodeBits>(s, rC); break;
                default: add_stepped_groups<128, kCodeBits>(s, rC);
            }
        } else {
            CUTE_UNROLL
            for (int segment = 0; segment < C::kStageSegments; ++segment) {
                Tensor rA = make_tensor<uint32_t>(Shape<Int<Engine::kRegistersA>, Int<kSteps>, Int<kSegmentTiles>,
                                                        Int<C::kNT>>{});  // (A,step,tile,NT)
                load_segment_weights(s, segment, rA);
                CUTE_UNROLL
                for (int m = 0; m < C::kMT; ++m) multiply_segment<kCodeBits>(s, segment, m, rA, rC(_, _, m));
            }
        }
    }
};

}  // namespace w4ax
