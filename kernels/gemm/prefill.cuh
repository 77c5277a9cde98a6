// The prefill family: any number of tokens. A block owns channels x tokens of y; stages of 128 k of raw weight tiles and of
// activations come by cp.async, weights are unpacked in registers, mma.sync multiplies.
//
// Four warps lie along the channels, one or two along the tokens; a warp owns kNT weight tiles x kMT activation tiles. It
// takes a group's weights once, then goes through its activation tiles: each gives sums that are scaled into the f32
// accumulators right away, so only a few integer accumulators live at a time.
#pragma once

#include "common/device.cuh"
#include "gemm/epilogue.cuh"
#include "mma/mma.cuh"
#include "gemm/outputs.cuh"
#include "common/params.cuh"
#include "gemm/prefill_load.cuh"
#include "common/ptx.cuh"
#include "common/quantize.cuh"

namespace w4ax {

// The steps of the kernel, one function each.
template <class C>
struct Prefill {
    using Config = C;
    using Engine = w4ax::Engine<C::kBits, C::kGroup>;
    using Accumulator = typename Engine::Accumulator;
    static constexpr int kWords = Engine::kWords;
    static constexpr int kSteps = Engine::kSteps;
    static constexpr int kRunTiles = C::kRun > kTileK ? C::kRun / kTileK : 1;  // k-tiles that a run touches
    static constexpr int kRunSteps = C::kRun >= kTileK ? kSteps : kSteps * C::kRun / kTileK;  // mma in each

    GemmParams const& p;
    unsigned char* const shared;
    int const thread, lane, warp_n, warp_m;
    int tile_n, tile_m;  // the block's first
    ScaleWord const scale_word;  // of the lane's rows g and g + 8

    W4AX_DEVICE Prefill(GemmParams const& p, unsigned char* shared)
        : p(p), shared(shared), thread(int(threadIdx.x)), lane(lane_index()), warp_n(warp_index() % C::kWarpsN),
          warp_m(warp_index() / C::kWarpsN), scale_word(lane / 4, p.scale_type) {
        // Blocks that run together share weights: the tokens of x are what L2 keeps anyway.
        int const blocks_m = ceil_div(p.m, C::kTokens);
        tile_n = int(blockIdx.x) / blocks_m * C::kTilesN;
        tile_m = int(blockIdx.x) % blocks_m * C::kTilesM;
    }

    // ---- a stage at shared address `s`: k from k_block * 128 on

    W4AX_DEVICE unsigned char* stage(int number) const { return shared + number * C::kStageBytes; }

    // ---- quantization of a stage: items are octets, 16 of a token's 128 k on neighboring lanes

    template <class Each>
    W4AX_DEVICE void for_octets(unsigned char* s, int k_block, Each each) const {
        constexpr int kOctets = C::kStageTiles * kOctetsPerTile;
        Tensor sX = shared_x<C>(s);  // (token,k)
        for (int item = thread; item < C::kTokens * kOctets; item += C::kThreads) {
            int const token = item / kOctets, tile = item / kOctetsPerTile % C::kStageTiles, octet = item % kOctetsPerTile;
            int const k = tile * kTileK + octet_k(octet);
            Octet x;
            CUTE_UNROLL
            for (int i = 0; i < 4; ++i) x.pair[i] = *reinterpret_cast<uint32_t const*>(&sX(token, k + 8 * i));
            x.valid = p.k - k_block * C::kStageK - k;
            Codes const codes = each(token, k, octet, x);
            auto* const sCodes = shared + C::kCodes + (token / kTileM * C::kStageTiles + tile) * C::kCodeBytes;
            int const at = token % kTileM * kOctetsPerTile + octet;
            if constexpr (C::kBits == 8)
                reinterpret_cast<uint2*>(sCodes)[at] = make_uint2(codes.quad[0], codes.quad[1]);
            else
                reinterpret_cast<uint32_t*>(sCodes)[at] = nibbles_of(codes);
        }
    }

    W4AX_DEVICE void quantize_groups(unsigned char* s, int k_block) const {
        int const levels = (1 << p.bits) - 1;
        auto* const sGroups = reinterpret_cast<TokenGroup*>(shared + C::kCodeGroups);  // [tile][run][8 tokens]
        for_octets(s, k_block, [&](int token, int k, int octet, Octet const& x) {
            Quantizer const q = quantizer_of(group_extremes<C::kGroup>(extremes_of(x)), levels);
            Codes const codes = codes_of(x, q, levels);
            int const sum = p.zeros ? group_sum<C::kGroup>(sum_of(codes)) : 0;
            if (octet / 2 == 0 && k % C::kRun == 0)
                sGroups[(token / kTileM * C::kStageRuns + k / C::kRun) * kTileM + token % kTileM] =
                    TokenGroup{q.scale, zero_and_sum(q.zero, sum)};
            return codes;
        });
    }

    // Whole rows: the range first, of all tokens of the block.
    W4AX_DEVICE Quantizer* shared_quantizers() const { return reinterpret_cast<Quantizer*>(shared + C::kCodeGroups); }
    W4AX_DEVICE int* shared_code_sums() const { return reinterpret_cast<int*>(shared_quantizers() + C::kTokens); }

    W4AX_DEVICE void scan_rows() const {
        for (int token = warp_index(); token < C::kTokens; token += C::kThreads / 32) {
            Extremes e = 0;
            if (tile_m * kTileM + token < p.m)
                e = scan_row(static_cast<uint16_t const*>(p.x) + (tile_m * kTileM + token) * p.x_stride, p.k, p.x_vectors, lane, 32);
            e = warp_extremes(e);
            if (lane == 0) {
                shared_quantizers()[token] = quantizer_of(e, (1 << p.bits) - 1);
                shared_code_sums()[token] = 0;
            }
        }
        // Every thread quantizes with what the warps found.
        __syncthreads();
    }

    W4AX_DEVICE void quantize_rows(unsigned char* s, int k_block) const {
        int const levels = (1 << p.bits) - 1;
        for_octets(s, k_block, [&](int token, int, int, Octet const& x) {
            Codes const codes = codes_of(x, shared_quantizers()[token], levels);
            if (p.zeros) {
                // The 16 octets of a token, over 16 lanes; the same lane adds in every stage.
                int const sum = group_sum<128>(sum_of(codes));
                if (lane % 16 == 0) shared_code_sums()[token] += sum;
            }
            return codes;
        });
    }

    // ---- fragments

    // Calls `with(bits)` with the bits of a code as they lie in shared memory, as a constant: activations of 2 bits come packed,
    // and a choice in front of each load would cost those of 4 bits as much as the loads.
    template <class With>
    W4AX_DEVICE void with_code_bits(With with) const {
        if (C::kPacked && C::kBits == 4 && p.bits == 2)
            with(Int<2>{});
        else
            with(Int<C::kBits>{});
    }

    // Lane's 16 bytes of a weight tile.
    W4AX_DEVICE auto load_raw_weights(unsigned char const* s, int tile, int n) const {
        Tensor rW = make_tensor<uint32_t>(Shape<_4>{});  // (4)
        uint4 const v = reinterpret_cast<uint4 const*>(
            s + C::kWeights + ((warp_n * C::kNT + n) * C::kStageTiles + tile) * kWeightTileBytes)[lane];
        rW(0) = v.x;
        rW(1) = v.y;
        rW(2) = v.z;
        rW(3) = v.w;
        return rW;
    }

    template <int kCodeBits>
    W4AX_DEVICE void load_words(unsigned char* s, int tile, int m, uint32_t (&words)[kWords]) const {
        int const tile_of_block = warp_m * C::kMT + m;
        if constexpr (!C::kQuantized) {
            auto const* const sX = reinterpret_cast<uint16_t const*>(s + C::kX);
            // The swizzle stays inside 8 tokens x 64 k: the tile's offset is a constant, the lane's the same in every tile.
            typename C::LayoutX const layout;
            CUTE_UNROLL
            for (int half = 0; half < 2; ++half) {
                // Four matrices of 8 tokens x 8 k: 32 k in natural order, two mma's B.
                int const at = layout(tile_of_block * kTileM, tile * kTileK) + layout(lane % 8, half * 32 + lane / 8 * 8);
                SM75_U32x4_LDSM_N::copy(*reinterpret_cast<uint128_t const*>(sX + at), words[4 * half], words[4 * half + 1],
                                        words[4 * half + 2], words[4 * half + 3]);
            }
        } else {
            auto const* const sTile = (C::kFused ? shared + C::kCodes : s + C::kX) +
                                      (tile_of_block * C::kStageTiles + tile) * C::kCodeBytes;
            if constexpr (C::kBits == 8) {
                uint4 const v = reinterpret_cast<uint4 const*>(sTile)[lane];
                words[0] = v.x;
                words[1] = v.y;
                words[2] = v.z;
                words[3] = v.w;
            } else if constexpr (kCodeBits == 4) {
                uint2 const v = reinterpret_cast<uint2 const*>(sTile)[lane];
                words[0] = v.x;
                words[1] = v.y;
            } else {
                expand_2bit(reinterpret_cast<uint32_t const*>(sTile)[lane], words);
            }
        }
    }

    // What stands beside the lane's rows g and g + 8 of a weight tile, for a run of the stage.
    W4AX_DEVICE RowGroup load_row(unsigned char const* s, int run, int n, int i) const {
        int const group = (warp_n * C::kNT + n) * C::kStageRuns, row = run * kTileN + lane / 4 + 8 * i;
        RowGroup r;
        auto const* const sScale =
            s + C::kScales + group * kTileN * 4 + scale_word.at + (run * kTileN + 8 * i) * scale_bytes(p.scale_type);
        r.scale = scale_word.convert(*reinterpret_cast<uint32_t const*>(sScale), p.scale_type);
        if constexpr (C::kQuantized) {
            r.sum = exact_float(reinterpret_cast<int16_t const*>(s + C::kSums)[group * kTileN + row]);
            r.zero = p.zeros ? exact_float(reinterpret_cast<int8_t const*>(s + C::kZeros)[group * kTileN + row]) : 0.0f;
        } else {
            r.sum = r.zero = 0.0f;
        }
        return r;
    }

    W4AX_DEVICE int load_zero(unsigned char const* s, int run, int n, int i) const {
        if (!p.zeros) return 0;
        if constexpr (C::kGroup != 0) {
            int const group = (warp_n * C::kNT + n) * C::kStageRuns + run;
            return reinterpret_cast<int8_t const*>(s + C::kZeros)[group * kTileN + lane / 4 + 8 * i];
        } else {
            int const tile = tile_n + warp_n * C::kNT + n;
            return tile < p.n_tiles ? p.zeros[row_group_index(tile, 0, 1, lane / 4 + 8 * i)] : 0;
        }
    }

    // The factors of the lane's tokens 2t and 2t + 1 of an activation tile.
    W4AX_DEVICE void load_tokens(unsigned char const* s, int run, int m, TokenFactors (&factors)[2]) const {
        int const group = (warp_m * C::kMT + m) * C::kStageRuns + run;
        auto const* const sGroups = C::kFused ? shared + C::kCodeGroups : s + C::kTokenGroups;
        uint4 const v = reinterpret_cast<uint4 const*>(sGroups)[group * (kTileM / 2) + lane % 4];
        factors[0] = token_factors(TokenGroup{__uint_as_float(v.x), v.y});
        factors[1] = token_factors(TokenGroup{__uint_as_float(v.z), v.w});
    }

    // ---- products

    // The A fragments of a run: (A,step,NT) for each of its k-tiles.
    template <class TensorA>
    W4AX_DEVICE void load_run_weights(unsigned char const* s, int run, TensorA& rA) const {
        CUTE_UNROLL
        for (int n = 0; n < C::kNT; ++n) {
            uint32_t offset[2] = {};
            if constexpr (!C::kQuantized) {
                CUTE_UNROLL
                for (int i = 0; i < 2; ++i) offset[i] = bf16_offset(load_zero(s, run, n, i));
            }
            CUTE_UNROLL
            for (int i = 0; i < kRunTiles; ++i)
                Engine::unpack(load_raw_weights(s, run * C::kRun / kTileK + i, n), offset, rA(_, _, i, n));
        }
    }

    // rC(_, n) += the products of a run and an activation tile.
    template <int kCodeBits, class TensorA, class TensorC>
    W4AX_DEVICE void multiply_run(unsigned char* s, int run, int m, TensorA const& rA, TensorC&& rC) const {  // (A,step,tile,NT) (4,NT)
        // A group of 32 takes half of its tile's steps.
        int const first = C::kRun >= kTileK ? 0 : run % 2 * kRunSteps;
        CUTE_UNROLL
        for (int i = 0; i < kRunTiles; ++i) {
            uint32_t words[kWords];
            load_words<kCodeBits>(s, run * C::kRun / kTileK + i, m, words);
            Tensor rB = make_tensor<uint32_t>(Shape<Int<Engine::kRegistersB>, Int<kSteps>>{});  // (B,step)
            Engine::expand(words, rB);
            CUTE_UNROLL
            for (int s = 0; s < kRunSteps; ++s) {
                CUTE_UNROLL
                for (int n = 0; n < C::kNT; ++n) {
                    auto rD = rC(_, n);  // (4)
                    Engine::multiply(rD, rA(_, first + s, i, n), rB(_, first + s));
                }
            }
        }
    }

    template <bool kAsymmetric, int kCodeBits, class TensorAcc>
    W4AX_DEVICE void add_stage(unsigned char* s, int k_block, TensorAcc& acc) const {  // (4,NT,MT) f32
        CUTE_UNROLL
        for (int run = 0; run < C::kStageRuns; ++run) {
            if (C::kGroup && k_block * C::kStageRuns + run >= p.groups) break;
            Tensor rA = make_tensor<uint32_t>(
                Shape<Int<Engine::kRegistersA>, Int<kSteps>, Int<kRunTiles>, Int<C::kNT>>{});  // (A,step,tile,NT)
            load_run_weights(s, run, rA);
            RowGroup rows[C::kNT][2];
            if constexpr (C::kGroup != 0) {
                CUTE_UNROLL
                for (int n = 0; n < C::kNT; ++n) {
                    CUTE_UNROLL
                    for (int i = 0; i < 2; ++i) rows[n][i] = load_row(s, run, n, i);
                }
            }
            CUTE_UNROLL
            for (int m = 0; m < C::kMT; ++m) {
                Tensor rC = make_tensor<Accumulator>(Shape<_4, Int<C::kNT>>{});  // (4,NT)
                fill(rC, Accumulator(Engine::kStart));
                multiply_run<kCodeBits>(s, run, m, rA, rC);
                TokenFactors tokens[2];
                if constexpr (C::kQuantized) load_tokens(s, run, m, tokens);
                CUTE_UNROLL
                for (int n = 0; n < C::kNT; ++n) {
                    CUTE_UNROLL
                    for (int i = 0; i < 4; ++i) {
                        // Accumulator i: row g + 8 * (i / 2), token 2t + i % 2.
                        float const dot = Engine::sum(rC(i, n));
                        if constexpr (C::kQuantized)
                            acc(i, n, m) = add_group<kAsymmetric>(acc(i, n, m), dot, rows[n][i / 2], tokens[i % 2]);
                        else if constexpr (C::kGroup != 0)
                            acc(i, n, m) = __fmaf_rn(dot, rows[n][i / 2].scale, acc(i, n, m));
                        else
                            acc(i, n, m) = __fadd_rn(acc(i, n, m), dot);
                    }
                }
            }
        }
    }

    template <int kCodeBits, class TensorC>
    W4AX_DEVICE void multiply_stage(unsigned char* s, TensorC& rC) const {  // (4,NT,MT) s32
        CUTE_UNROLL
        for (int run = 0; run < C::kStageRuns; ++run) {
            Tensor rA = make_tensor<uint32_t>(
                Shape<Int<Engine::kRegistersA>, Int<kSteps>, Int<kRunTiles>, Int<C::kNT>>{});  // (A,step,tile,NT)
            load_run_weights(s, run, rA);
            CUTE_UNROLL
            for (int m = 0; m < C::kMT; ++m) multiply_run<kCodeBits>(s, run, m, rA, rC(_, _, m));
        }
    }
};

}  // namespace w4ax
