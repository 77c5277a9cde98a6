// The decode family: few tokens, so time is the weights' bytes. They go from global memory straight to registers, each once.
//
// A block owns 16 * kNT channels and all of K. Its warps split K in rounds: in each round a warp takes kTiles consecutive
// k-tiles, one 16-byte load a lane and tile, and asks for those of the next round as it uses them up. The exact sums of
// each run of k (a group) go to a slab in shared memory; after the round's barrier they are added in ascending order, one
// thread an output. So no result depends on how K is split, and nothing is added atomically.
#pragma once

#include "gemm/decode_config.cuh"
#include "mma/mma.cuh"
#include "common/params.cuh"
#include "common/ptx.cuh"
#include "common/quantize.cuh"

namespace w4ax {

// The steps of the kernel, one function each.
template <class C>
struct Decode {
    using Engine = w4ax::Engine<C::kBits, C::kGroup>;
    using Accumulator = typename Engine::Accumulator;
    static constexpr int kWords = Engine::kWords;
    static constexpr int kRowItems = ceil_div(C::kRunsPerWarp * C::kRows, 32);  // RowGroups that a lane fetches a round

    using Words = uint32_t[C::kTiles][C::kMT][kWords];

    GemmParams const& p;
    typename C::Shared const offsets;
    unsigned char* const shared;
    int const warp, lane, first_tile_n;
    uint64_t const policy;
    uint4 const* gW[C::kNT];  // the lane's 16 bytes of the warp's first k-tile

    W4AX_DEVICE Decode(GemmParams const& p, unsigned char* shared)
        : p(p),
          offsets(p.m),
          shared(shared),
          warp(warp_index()),
          lane(lane_index()),
          first_tile_n(int(blockIdx.x) * C::kNT),
          policy(ptx::read_once_policy()) {
        CUTE_UNROLL
        for (int n = 0; n < C::kNT; ++n)
            gW[n] = static_cast<uint4 const*>(p.tiles) + (int64_t(tile_n(n)) * p.k_tiles + first_tile_k(0)) * 32 + lane;
    }

    // Beyond N the last weight tile stands in: what it gives is not written.
    W4AX_DEVICE int tile_n(int n) const { return first_tile_n + n < p.n_tiles ? first_tile_n + n : p.n_tiles - 1; }
    W4AX_DEVICE int first_tile_k(int round) const { return (round * C::kWarps + warp) * C::kTiles; }
    W4AX_DEVICE int first_run(int round) const { return (round * C::kWarps + warp) * C::kRunsPerWarp; }
    // Groups that have scales: runs of BF16 whole rows have none of their own.
    W4AX_DEVICE int run_count() const { return C::kGroup ? p.groups : ceil_div(p.k, C::kRun); }
    // Tokens that a lane has nothing to write of have the place of one that is there.
    W4AX_DEVICE int present(int token) const { return token < p.m ? token : p.m - 1; }

    // ---- weights

    // The warp's k-tile i of a round.
    template <class TensorW>
    W4AX_DEVICE void load_weights(int round, int i, TensorW&& rW) const {  // (4,NT)
        // Beyond K the registers stay as they are: they meet activations of zero.
        bool const there = first_tile_k(round) + i < p.k_tiles;
        CUTE_UNROLL
        for (int n = 0; n < C::kNT; ++n) {
            uint4 v = make_uint4(rW(0, n), rW(1, n), rW(2, n), rW(3, n));
            ptx::load_once_if(there, gW[n] + int64_t(round) * (C::kWarps * C::kTiles * 32) + i * 32, policy, v);
            rW(0, n) = v.x;
            rW(1, n) = v.y;
            rW(2, n) = v.z;
            rW(3, n) = v.w;
        }
    }

    // The warp's RowGroups of a round are spread over its lanes: lane l fetches number l + 32 * i, run by run. So a lane's
    // are of one row.
    static_assert(32 % C::kRows == 0, "a lane would need the places of several rows");
    static constexpr int kLaneRuns = 32 / C::kRows;  // runs between two of a lane

    W4AX_DEVICE RowPlace row_place() const {
        int const row = lane % C::kRows;
        return RowPlace(p, row_group_index(tile_n(row / kTileN), 0, p.groups, row % kTileN));
    }

    W4AX_DEVICE void load_rows(int round, RowPlace const& place, RawRowGroup (&rRows)[kRowItems]) const {
        CUTE_UNROLL
        for (int i = 0; i < kRowItems; ++i) {
            int const group = first_run(round) + lane / C::kRows + i * kLaneRuns;
            rRows[i] = place.load(p, group < p.groups ? group : p.groups - 1);
        }
    }

    // The scale and sum of each row of a run, one access, and the zeros behind those of all rows.
    W4AX_DEVICE float2* shared_rows(int buffer, int run) const {
        return reinterpret_cast<float2*>(shared + offsets.rows + (buffer * C::kRuns + run) * C::kRowsBytes);
    }
    W4AX_DEVICE float* shared_row_zeros(int buffer, int run) const {
        return reinterpret_cast<float*>(shared_rows(buffer, run) + C::kRows);
    }

    W4AX_DEVICE void store_rows(int buffer, RowPlace const& place, RawRowGroup const (&rRows)[kRowItems]) const {
        int const first = warp * C::kRunsPerWarp + lane / C::kRows, row = lane % C::kRows;
        CUTE_UNROLL
        for (int i = 0; i < kRowItems; ++i) {
            if (lane + 32 * i >= C::kRunsPerWarp * C::kRows) continue;
            RowGroup const r = place.convert(p, rRows[i]);
            shared_rows(buffer, first + i * kLaneRuns)[row] = make_float2(r.scale, r.sum);
            if (p.zeros) shared_row_zeros(buffer, first + i * kLaneRuns)[row] = r.zero;
        }
    }

    // bf16_offset of the lane's rows in a run, for each weight tile.
    W4AX_DEVICE void load_offsets(int run, uint32_t (&offset)[C::kNT][2]) const {
        CUTE_UNROLL
        for (int n = 0; n < C::kNT; ++n) {
            CUTE_UNROLL
            for (int i = 0; i < 2; ++i) {
                int const group = C::kGroup ? run : 0;
                bool const there = p.zeros && group < p.groups && first_tile_n + n < p.n_tiles;
                offset[n][i] = bf16_offset(
                    there ? p.zeros[row_group_index(first_tile_n + n, group, p.groups, lane / 4 + 8 * i)] : 0);
            }
        }
    }

    // ---- activations

    W4AX_DEVICE uint16_t const* x_row(int token) const {
        return static_cast<uint16_t const*>(p.x) + token * p.x_stride;
    }

    // The scale and minus_zero of each token of a run, one access; behind all runs' the minus_sums.
    W4AX_DEVICE float2* shared_tokens(int buffer, int run) const {
        return reinterpret_cast<float2*>(shared + offsets.tokens) + (buffer * C::kRuns + run) * p.m;
    }
    W4AX_DEVICE float* shared_token_sums(int buffer, int run) const {
        return reinterpret_cast<float*>(shared + offsets.tokens + 2 * C::kRuns * p.m * int(sizeof(float2))) +
               (buffer * C::kRuns + run) * p.m;
    }

    W4AX_DEVICE void store_token(int buffer, int run, int token, TokenFactors const& t) const {
        shared_tokens(buffer, warp * C::kRunsPerWarp + run)[token] = make_float2(t.scale, t.minus_zero);
        if (p.zeros) shared_token_sums(buffer, warp * C::kRunsPerWarp + run)[token] = t.minus_sum;
    }

    // The codes of the warp's tiles, [tile][token][octet].
    W4AX_DEVICE unsigned char* shared_codes(int tile, int token, int octet) const {
        return shared + offsets.codes +
               (((warp * C::kTiles + tile) * p.m + token) * kOctetsPerTile + octet) * C::kOctetBytes;
    }

    // All of the warp's k of a round is inside K, and rows are aligned to 4 bytes: nobody need look where K ends.
    W4AX_DEVICE bool inside(int round) const {
        return p.x_vectors && (first_tile_k(round) + C::kTiles) * kTileK <= p.k;
    }

    // BF16 of the warp's k-tile i of a round, straight to registers.
    template <bool kInside>
    W4AX_DEVICE void load_bf16(int round, int i, uint32_t (&rX)[C::kMT][kWords]) const {
        int const k = (first_tile_k(round) + i) * kTileK + 2 * (lane % 4);
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m)
            load_pairs<kWords, 8>(x_row(present(kTileM * m + lane / 4)), k, kInside ? k + kTileK : p.k, kInside || p.x_vectors,
                                  rX[m]);
    }

    // Codes that are packed already: straight to registers.
    W4AX_DEVICE void load_codes(int tile_k, uint32_t (&rX)[C::kMT][kWords]) const {
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m) {
            CUTE_UNROLL
            for (int i = 0; i < kWords; ++i) rX[m][i] = 0;
            if (tile_k >= p.k_tiles || kTileM * m >= p.m) continue;
            auto const* gX = static_cast<unsigned char const*>(p.x) +
                             (int64_t(m) * p.k_tiles + tile_k) * activation_tile_bytes(p.bits) + lane * 2 * p.bits;
            if constexpr (C::kBits == 8) {
                uint4 const v = *reinterpret_cast<uint4 const*>(gX);
                rX[m][0] = v.x;
                rX[m][1] = v.y;
                rX[m][2] = v.z;
                rX[m][3] = v.w;
            } else if (p.bits == 4) {
                uint2 const v = *reinterpret_cast<uint2 const*>(gX);
                rX[m][0] = v.x;
                rX[m][1] = v.y;
            } else {
                expand_2bit(*reinterpret_cast<uint32_t const*>(gX), rX[m]);
            }
        }
    }

    // Codes that this warp has quantized, from shared memory.
    W4AX_DEVICE void load_shared_words(int tile, uint32_t (&rX)[C::kMT][kWords]) const {
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m) {
            auto const* sX = shared_codes(tile, present(kTileM * m + lane / 4), 2 * (lane % 4));
            if constexpr (C::kBits == 8) {
                uint4 const v = *reinterpret_cast<uint4 const*>(sX);
                rX[m][0] = v.x;
                rX[m][1] = v.y;
                rX[m][2] = v.z;
                rX[m][3] = v.w;
            } else {
                uint2 const v = *reinterpret_cast<uint2 const*>(sX);
                rX[m][0] = v.x;
                rX[m][1] = v.y;
            }
        }
    }

    // What stands beside packed activations, of one run and token of the warp's in each lane.
    static_assert(C::kRunsPerWarp * C::kTokens <= 32, "a lane would have several");

    W4AX_DEVICE TokenGroup load_packed_token(int round) const {
        int const token = lane % C::kTokens, group = first_run(round) + lane / C::kTokens;
        if (token >= p.m || group >= p.groups) return {};
        return p.tokens[(int64_t(token / kTileM) * p.groups + group) * kTileM + token % kTileM];
    }

    W4AX_DEVICE void store_packed_token(int buffer, TokenGroup const& t) const {
        int const token = lane % C::kTokens, run = lane / C::kTokens;
        if (run < C::kRunsPerWarp && token < p.m) store_token(buffer, run, token, token_factors(t));
    }

    // Codes of a quantized width have this as the largest; A8 has its own kernels, and so a constant.
    W4AX_DEVICE int levels() const { return C::kBits == 8 ? 255 : (1 << p.bits) - 1; }

    // Quantizes the warp's k of all tokens, in units of octets over the lanes: `quantize(token, tile, octet, x)` for each.
    // kInside: all of it is inside K, and rows are aligned to 4 bytes.
    template <bool kInside, class Quantize>
    W4AX_DEVICE void for_octets(int round, Quantize quantize) const {
        constexpr int kOctets = C::kTiles * kOctetsPerTile;  // of one token: a group never spans two
        static_assert(32 % kOctets == 0, "lanes have whole tokens");
        int const tile = lane % kOctets / kOctetsPerTile, octet = lane % kOctetsPerTile;
        int const k = (first_tile_k(round) + tile) * kTileK + octet_k(octet);
        for (int first = 0; first < p.m; first += 32 / kOctets) {
            int const token = first + lane / kOctets;
            Octet x = {};
            if constexpr (kInside) {
                // What lanes without a token find is not stored.
                load_pairs<4, 8>(x_row(present(token)), k, k + kTileK, true, x.pair);
                x.valid = kTileK;
            } else if (token < p.m) {
                x = load_octet(x_row(token), k, p.k, p.x_vectors);
            }
            Codes const codes = quantize(token, tile, octet, x);
            if (token < p.m) {
                auto* sX = shared_codes(tile, token, octet);
                if constexpr (C::kBits == 8)
                    *reinterpret_cast<uint2*>(sX) = make_uint2(codes.quad[0], codes.quad[1]);
                else
                    *reinterpret_cast<uint32_t*>(sX) = nibbles_of(codes);
            }
        }
    }

    template <class Quantize>
    W4AX_DEVICE void for_all_octets(int round, Quantize quantize) const {
        // Nobody may still read the codes of the round before.
        __syncwarp();
        if (inside(round))
            for_octets<true>(round, quantize);
        else
            for_octets<false>(round, quantize);
        // The lanes read each other's codes next.
        __syncwarp();
    }

    W4AX_DEVICE void quantize_groups(int round, int buffer) const {
        for_all_octets(round, [&](int token, int tile, int octet, Octet const& x) {
            Quantizer const q = quantizer_of(group_extremes<C::kGroup>(extremes_of(x)), levels());
            Codes const codes = codes_of(x, q, levels());
            int const sum = p.zeros ? group_sum<C::kGroup>(sum_of(codes)) : 0;
            // One lane of each group: the octet where it begins (a group of 32 begins at octets 0 and 1).
            int const k = tile * kTileK + octet_k(octet);
            if (token < p.m && (octet >> 1) == 0 && k % C::kGroup == 0)
                store_token(buffer, k / C::kGroup, token, {q.scale, -exact_float(q.zero), -exact_float(sum)});
            return codes;
        });
    }

    // What the warp's k-tiles of a round need.
    template <bool kInside>
    W4AX_DEVICE void load_tiles(int round, Words& rX) const {
        CUTE_UNROLL
        for (int i = 0; i < C::kTiles; ++i) {
            if constexpr (!C::kQuantized)
                load_bf16<kInside>(round, i, rX[i]);
            else if constexpr (C::kFused)
                load_shared_words(i, rX[i]);
            else
                load_codes(first_tile_k(round) + i, rX[i]);
        }
    }

    W4AX_DEVICE void load_activations(int round, Words& rX) const {
        if (C::kQuantized || inside(round))
            load_tiles<true>(round, rX);
        else
            load_tiles<false>(round, rX);
    }

    // ---- the products of a round

    template <class TensorC>
    W4AX_DEVICE void store_run(int slot, TensorC const& rC) const {  // (4,NT,MT)
        auto* sSlab = reinterpret_cast<Accumulator*>(shared + offsets.slab) + slot * p.m * C::kSlabToken;
        Tensor cC = Engine::coordinates();  // (4) -> (row,token)
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m) {
            CUTE_UNROLL
            for (int i = 0; i < 4; ++i) {
                int const token = kTileM * m + int(get<1>(cC(i)));
                // Columns beyond the tokens hold products with zeros.
                if (token >= p.m) continue;
                CUTE_UNROLL
                for (int n = 0; n < C::kNT; ++n)
                    sSlab[token * C::kSlabToken + kTileN * n + int(get<0>(cC(i)))] = rC(i, n, m);
            }
        }
    }

    // Multiplies the warp's tiles of a round. `next(i)` refills tile i's registers; `begin(run)` and `end(run)` stand
    // around each run of k.
    template <class TensorW, class TensorC, class Next, class Begin, class End>
    W4AX_DEVICE void multiply(int round, TensorW& rW, Words const& rX, TensorC& rC, Next next, Begin begin, End end) const {
        constexpr int kSteps = Engine::kSteps;
        constexpr int kStepsPerRun = C::kRun >= kTileK ? C::kRun / kTileK * kSteps : kSteps * C::kRun / kTileK;
        Tensor rA = make_tensor<uint32_t>(Shape<Int<Engine::kRegistersA>, Int<kSteps>, Int<C::kNT>>{});  // (A,step,NT)
        Tensor rB = make_tensor<uint32_t>(Shape<Int<Engine::kRegistersB>, Int<kSteps>, Int<C::kMT>>{});  // (B,step,MT)
        uint32_t offset[C::kNT][2] = {};
        CUTE_UNROLL
        for (int i = 0; i < C::kTiles; ++i) {
            CUTE_UNROLL
            for (int s = 0; s < kSteps; ++s) {
                int const step = i * kSteps + s, run = step / kStepsPerRun;
                if (step % kStepsPerRun == 0) begin(run);
                if constexpr (!C::kQuantized) {
                    if (step % kStepsPerRun == 0) load_offsets(first_run(round) + run, offset);
                }
                if (s == 0 || (!C::kQuantized && step % kStepsPerRun == 0)) {
                    CUTE_UNROLL
                    for (int n = 0; n < C::kNT; ++n) Engine::unpack(rW(_, n, i), offset[n], rA(_, _, n));
                }
                if (s == 0) {
                    CUTE_UNROLL
                    for (int m = 0; m < C::kMT; ++m) Engine::expand(rX[i][m], rB(_, _, m));
                }
                CUTE_UNROLL
                for (int m = 0; m < C::kMT; ++m) {
                    CUTE_UNROLL
                    for (int n = 0; n < C::kNT; ++n) {
                        auto rD = rC(_, n, m);  // (4)
                        Engine::multiply(rD, rA(_, s, n), rB(_, s, m));
                    }
                }
                if (step % kStepsPerRun == kStepsPerRun - 1) end(run);
            }
            next(i);
        }
    }

    // ---- outputs: thread number o % threads has output o = token * rows + row

    template <class Each>
    W4AX_DEVICE void for_outputs(Each each) const {
        CUTE_UNROLL
        for (int i = 0; i < C::kOutputs; ++i) {
            int const output = int(threadIdx.x) + i * C::kThreads, token = output / C::kRows, row = output % C::kRows;
            if (token < p.m) each(i, token, row);
        }
    }

    W4AX_DEVICE void write(int token, int row, float acc) const {
        int const channel = first_tile_n * kTileN + row;
        if (channel < p.n) p.y[token * p.y_stride + channel] = finish(acc, p.bias, channel);
    }

    template <bool kAsymmetric>
    W4AX_DEVICE void add_runs(int round, int buffer, float (&acc)[C::kOutputs]) const {
        auto const* sSlab = reinterpret_cast<Accumulator const*>(shared + offsets.slab);
        int const left = run_count() - round * C::kRuns, runs = left < C::kRuns ? left : C::kRuns;
        for_outputs([&](int i, int token, int row) {
#pragma unroll 4
            for (int run = 0; run < runs; ++run) {
                float const dot =
                    Engine::sum(sSlab[((buffer * C::kRuns + run) * p.m + token) * C::kSlabToken + row]);
                if constexpr (C::kQuantized) {
                    float2 const r = shared_rows(buffer, run)[row], t = shared_tokens(buffer, run)[token];
                    float const zero = kAsymmetric ? shared_row_zeros(buffer, run)[row] : 0.0f;
                    float const minus_sum = kAsymmetric ? shared_token_sums(buffer, run)[token] : 0.0f;
                    acc[i] = add_group<kAsymmetric>(acc[i], dot, {r.x, r.y, zero}, {t.x, t.y, minus_sum});
                }
                else if constexpr (C::kGroup != 0)
                    acc[i] = __fmaf_rn(dot, shared_rows(buffer, run)[row].x, acc[i]);
                else
                    acc[i] = __fadd_rn(acc[i], dot);
            }
        });
    }
};

}  // namespace w4ax
