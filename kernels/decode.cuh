// The decode family: few tokens, so time is the weights' bytes. They go from global memory straight to registers, each once.
//
// A block owns 16 * kNT channels and all of K. Its warps split K in rounds: in each round a warp takes kTiles consecutive
// k-tiles, one 16-byte load a lane and tile, and asks for those of the next round as it uses them up. The exact sums of
// each run of k (a group) go to a slab in shared memory; after the round's barrier they are added in ascending order, one
// thread an output. So no result depends on how K is split, and nothing is added atomically.
#pragma once

#include "device.cuh"
#include "epilogue.cuh"
#include "mma.cuh"
#include "params.cuh"
#include "ptx.cuh"
#include "quantise.cuh"

namespace w4ax {

template <int kBits_, int kGroup_, bool kFused_, int kNT_, int kMT_>
struct DecodeConfig {
    static constexpr int kBits = kBits_;    // 4 (and 2), 8, 16
    static constexpr int kGroup = kGroup_;  // 0: per channel
    static constexpr bool kFused = kFused_;
    static constexpr int kNT = kNT_;        // weight tiles of 16 channels
    static constexpr int kMT = kMT_;        // activation tiles of 8 tokens

    static constexpr bool kQuantised = kBits != 16;
    // Integer sums of a whole row stay in the accumulators; their order is free.
    static constexpr bool kWholeRow = kQuantised && kGroup == 0;
    // k whose products share an accumulator. BF16 sums of a whole row are cut into runs: a split of K among warps must not
    // show in the bits.
    static constexpr int kRun = kGroup ? kGroup : 128;

    static constexpr int kRows = kTileN * kNT;
    static constexpr int kTokens = kTileM * kMT;
    // Runs a round, so shared memory, are what bounds tiles and warps.
    static constexpr int kWarps = kRun == 32 && kMT == 2 ? 4 : 8;
    static constexpr int kThreads = 32 * kWarps;
    static constexpr int kTiles = kMT * kNT == 1 ? (kRun == 32 ? 2 : 4) : (kRun == 128 ? 2 : 1);
    static constexpr int kRunsPerWarp = kTiles * kTileK / kRun;
    static constexpr int kRuns = kWarps * kRunsPerWarp;
    static constexpr int kOutputs = kRows * kTokens / kThreads > 0 ? kRows * kTokens / kThreads : 1;  // of a thread, at most

    // Distance of two tokens in the slab: the four lane columns of a fragment (tokens 2t) fall on different banks.
    static constexpr int kSlabToken = kRows + 4;
    static constexpr int kOctetBytes = kBits;  // 8 codes of kBits bits

    // Shared memory, in bytes from its start, for m tokens.
    struct Shared {
        int slab, rows, tokens, codes, total;
        W4AX_HOST_DEVICE constexpr explicit Shared(int m)
            : slab(0), rows(0), tokens(0), codes(0), total(0) {
            int const slab_bytes = (kWholeRow ? kWarps : 2 * kRuns) * m * kSlabToken * 4;
            int const rows_bytes = kWholeRow ? 0 : 2 * kRuns * kRows * int(sizeof(RowGroup));
            // Whole rows: extremes, then sums of codes, of each warp and token.
            int const tokens_bytes = !kQuantised ? 0 : kWholeRow ? kWarps * m * 8 : 2 * kRuns * m * int(sizeof(TokenFactors));
            int const codes_bytes = kQuantised && kFused ? kWarps * kTiles * m * kOctetsPerTile * kOctetBytes : 0;
            codes = slab;
            rows = codes + (codes_bytes + 15) / 16 * 16;
            tokens = rows + rows_bytes;
            slab = tokens + tokens_bytes;
            total = slab + slab_bytes;
        }
    };
};

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

    W4AX_DEVICE Decode(GemmParams const& p, unsigned char* shared)
        : p(p), offsets(p.m), shared(shared), warp(warp_index()), lane(lane_index()), first_tile_n(int(blockIdx.x) * C::kNT) {}

    W4AX_DEVICE int first_tile_k(int round) const { return (round * C::kWarps + warp) * C::kTiles; }
    W4AX_DEVICE int first_run(int round) const { return (round * C::kWarps + warp) * C::kRunsPerWarp; }
    // Groups that have scales: runs of BF16 whole rows have none of their own.
    W4AX_DEVICE int run_count() const { return C::kGroup ? p.groups : ceil_div(p.k, C::kRun); }

    // ---- weights

    template <class TensorW>
    W4AX_DEVICE void load_weights(int tile_k, TensorW&& rW) const {  // (4,NT)
        Tensor gW = make_tensor(make_gmem_ptr(static_cast<uint4 const*>(p.tiles)),
                                make_layout(make_shape(_32{}, p.n_tiles, p.k_tiles),
                                            make_stride(_1{}, int64_t(p.k_tiles) * 32, _32{})));  // (lane,tile_n,tile_k)
        CUTE_UNROLL
        for (int n = 0; n < C::kNT; ++n) {
            // Beyond N the last tile stands in: what it gives is not written. Beyond K the registers stay as they are: they
            // meet activations of zero.
            int const tile = first_tile_n + n < p.n_tiles ? first_tile_n + n : p.n_tiles - 1;
            uint4 v = make_uint4(rW(0, n), rW(1, n), rW(2, n), rW(3, n));
            ptx::load_once_if(tile_k < p.k_tiles, &gW(lane, tile, tile_k), v);
            rW(0, n) = v.x;
            rW(1, n) = v.y;
            rW(2, n) = v.z;
            rW(3, n) = v.w;
        }
    }

    // Where the RowGroup of item `i` of the lane lies: the warp's runs of a round are spread over its lanes. Items that are
    // not there have the place of one that is.
    W4AX_DEVICE int64_t row_item(int round, int i) const {
        int const item = lane + 32 * i, run = item / C::kRows, row = item % C::kRows;
        int const group = first_run(round) + run, tile = first_tile_n + row / kTileN;
        return row_group_index(tile < p.n_tiles ? tile : p.n_tiles - 1, group < p.groups ? group : p.groups - 1, p.groups,
                               row % kTileN);
    }

    W4AX_DEVICE void load_rows(int round, RawRowGroup (&rRows)[kRowItems]) const {
        CUTE_UNROLL
        for (int i = 0; i < kRowItems; ++i) rRows[i] = load_row_group(p, row_item(round, i));
    }

    W4AX_DEVICE RowGroup* shared_rows(int buffer, int run) const {
        return reinterpret_cast<RowGroup*>(shared + offsets.rows) + (buffer * C::kRuns + run) * C::kRows;
    }

    W4AX_DEVICE void store_rows(int round, int buffer, RawRowGroup const (&rRows)[kRowItems]) const {
        CUTE_UNROLL
        for (int i = 0; i < kRowItems; ++i) {
            int const item = lane + 32 * i;
            if (item < C::kRunsPerWarp * C::kRows)
                shared_rows(buffer, warp * C::kRunsPerWarp)[item] = convert(p, rRows[i], row_item(round, i));
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

    W4AX_DEVICE TokenFactors* shared_tokens(int buffer, int run) const {
        return reinterpret_cast<TokenFactors*>(shared + offsets.tokens) + (buffer * C::kRuns + run) * p.m;
    }

    // The codes of the warp's tiles, [tile][token][octet].
    W4AX_DEVICE unsigned char* shared_codes(int tile, int token, int octet) const {
        return shared + offsets.codes +
               (((warp * C::kTiles + tile) * p.m + token) * kOctetsPerTile + octet) * C::kOctetBytes;
    }

    // BF16, or codes that are packed already: straight to registers.
    W4AX_DEVICE void load_words(int tile_k, uint32_t (&rX)[C::kMT][kWords]) const {
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m) {
            CUTE_UNROLL
            for (int i = 0; i < kWords; ++i) rX[m][i] = 0;
            if (tile_k >= p.k_tiles) continue;
            if constexpr (!C::kQuantised) {
                int const token = kTileM * m + lane / 4;
                if (token >= p.m) continue;
                load_pairs<kWords, 8>(x_row(token), tile_k * kTileK + 2 * (lane % 4), p.k, p.x_vectors, rX[m]);
            } else {
                if (kTileM * m >= p.m) continue;
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
    }

    // Codes that this warp has quantised, from shared memory.
    W4AX_DEVICE void load_shared_words(int tile, uint32_t (&rX)[C::kMT][kWords]) const {
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m) {
            int const token = kTileM * m + lane / 4;
            uint4 v = make_uint4(0, 0, 0, 0);
            if (token < p.m) {
                auto const* sX = shared_codes(tile, token, 2 * (lane % 4));
                if constexpr (C::kBits == 8) {
                    v = *reinterpret_cast<uint4 const*>(sX);
                } else {
                    uint2 const two = *reinterpret_cast<uint2 const*>(sX);
                    v = make_uint4(two.x, two.y, 0, 0);
                }
            }
            uint32_t const words[4] = {v.x, v.y, v.z, v.w};
            CUTE_UNROLL
            for (int i = 0; i < kWords; ++i) rX[m][i] = words[i];
        }
    }

    W4AX_DEVICE void store_packed_tokens(int round, int buffer) const {
        for (int item = lane; item < C::kRunsPerWarp * p.m; item += 32) {
            int const run = item / p.m, token = item % p.m, group = first_run(round) + run;
            if (group >= p.groups) continue;
            TokenGroup const t = p.tokens[(int64_t(token / kTileM) * p.groups + group) * kTileM + token % kTileM];
            shared_tokens(buffer, warp * C::kRunsPerWarp + run)[token] = token_factors(t);
        }
    }

    // Quantises the warp's k of all tokens, in units of octets over the lanes. `quantiser(token, extremes)` says how.
    template <class Quantise>
    W4AX_DEVICE void for_octets(int round, Quantise quantise) const {
        constexpr int kOctets = C::kTiles * kOctetsPerTile;  // of one token: a group never spans two
        for (int base = 0; base < p.m * kOctets; base += 32) {
            int const item = base + lane, token = item / kOctets, octet = item % kOctets, tile = octet / kOctetsPerTile;
            Octet x = {};
            if (token < p.m)
                x = load_octet(x_row(token), (first_tile_k(round) + tile) * kTileK + octet_k(octet % kOctetsPerTile), p.k,
                               p.x_vectors);
            Codes const codes = quantise(token, tile, octet % kOctetsPerTile, x);
            if (token < p.m) {
                auto* sX = shared_codes(tile, token, octet % kOctetsPerTile);
                if constexpr (C::kBits == 8)
                    *reinterpret_cast<uint2*>(sX) = make_uint2(codes.quad[0], codes.quad[1]);
                else
                    *reinterpret_cast<uint32_t*>(sX) = nibbles_of(codes);
            }
        }
        // The lanes read each other's codes next.
        __syncwarp();
    }

    W4AX_DEVICE void quantise_groups(int round, int buffer) const {
        int const levels = (1 << p.bits) - 1;
        // Nobody may still read the codes of the round before.
        __syncwarp();
        for_octets(round, [&](int token, int tile, int octet, Octet const& x) {
            Quantiser const q = quantiser_of(group_extremes<C::kGroup>(extremes_of(x)), levels);
            Codes const codes = codes_of(x, q, levels);
            int const sum = p.zeros ? group_sum<C::kGroup>(sum_of(codes)) : 0;
            // One lane of each group: the octet where it begins (a group of 32 begins at octets 0 and 1).
            int const k = tile * kTileK + octet_k(octet);
            if (token < p.m && (octet >> 1) == 0 && k % C::kGroup == 0)
                shared_tokens(buffer, warp * C::kRunsPerWarp + k / C::kGroup)[token] =
                    TokenFactors{q.scale, -exact_float(q.zero), -exact_float(sum)};
            return codes;
        });
    }

    // All that the warp's tiles of a round need.
    W4AX_DEVICE void load_activations(int round, Words& rX) const {
        CUTE_UNROLL
        for (int i = 0; i < C::kTiles; ++i) {
            if constexpr (C::kQuantised && C::kFused)
                load_shared_words(i, rX[i]);
            else
                load_words(first_tile_k(round) + i, rX[i]);
        }
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
                if constexpr (!C::kQuantised) {
                    if (step % kStepsPerRun == 0) load_offsets(first_run(round) + run, offset);
                }
                if (s == 0 || (!C::kQuantised && step % kStepsPerRun == 0)) {
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
                if constexpr (C::kQuantised)
                    acc[i] = add_group<kAsymmetric>(acc[i], dot, shared_rows(buffer, run)[row], shared_tokens(buffer, run)[token]);
                else if constexpr (C::kGroup != 0)
                    acc[i] = __fmaf_rn(dot, shared_rows(buffer, run)[row].scale, acc[i]);
                else
                    acc[i] = __fadd_rn(acc[i], dot);
            }
        });
    }
};

}  // namespace w4ax
