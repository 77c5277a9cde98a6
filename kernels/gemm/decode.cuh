// Decode family, mainloop steps: y = x * W^T + bias for few tokens, limited by the weights' bytes.
//
// Grid: ceil(N / kRows) blocks; each owns kRows = 16 * kNT channels and all of K. Weights pass from global memory
// straight to registers, each once. The warps split K in rounds: in each round a warp takes kTiles consecutive k-tiles,
// with one 16-byte load per lane and tile, and prefetches the tiles of the next round as it consumes them. Activations
// that were quantized ahead are prefetched in the same way.
// Shared memory: DecodeConfig::Shared. The exact sums of each segment of k (a group) are stored in the slab. After the
// round's barrier they are added in ascending order, one thread per output. So the result does not depend on how K is
// split, and there are no atomics.
// Preconditions: M <= kTokens; weight tiles aligned to 128 bytes; rows of x aligned to 4 bytes if x_aligned.
#pragma once

#include "common/params.cuh"
#include "common/ptx.cuh"
#include "common/quantize.cuh"
#include "gemm/decode_config.cuh"
#include "mma/mma.cuh"

namespace w4ax {

template <class C>
struct Decode {
    using Engine = w4ax::Engine<C>;
    using Accumulator = typename Engine::Accumulator;
    static constexpr int kWords = Engine::kWords;  // words per lane of an activation tile
    static constexpr int kParamsPerLane = ceil_div(C::kSegmentsPerWarp * C::kRows,
                                                   32);  // GroupParams per lane and round

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
          policy(ptx::evict_first_policy()) {
        CUTE_UNROLL
        for (int n = 0; n < C::kNT; ++n)
            gW[n] = static_cast<uint4 const*>(p.tiles) + (int64_t(tile_n(n)) * p.k_tiles + first_tile_k(0)) * 32 + lane;
    }

    // Beyond N, the last weight tile is read instead. Its results are not written.
    W4AX_DEVICE int tile_n(int n) const { return first_tile_n + n < p.n_tiles ? first_tile_n + n : p.n_tiles - 1; }
    W4AX_DEVICE int first_tile_k(int round) const { return (round * C::kWarps + warp) * C::kTiles; }
    W4AX_DEVICE int first_segment(int round) const { return (round * C::kWarps + warp) * C::kSegmentsPerWarp; }
    // The segments of K. Segments of BF16 whole rows have no parameters of their own.
    W4AX_DEVICE int segment_count() const { return C::kGroup ? p.groups : ceil_div(p.k, C::kSegmentK); }
    // Beyond M, the last token is read instead. Its results are not written.
    W4AX_DEVICE int clamp_token(int token) const { return token < p.m ? token : p.m - 1; }

    // ---- weights

    // Loads the warp's k-tile i of a round.
    template <class TensorW>
    W4AX_DEVICE void load_weights(int round, int i, TensorW&& rW) const {  // (4,NT)
        // Beyond K the registers keep their values, which are multiplied by activations of zero.
        bool const in_bounds = first_tile_k(round) + i < p.k_tiles;
        CUTE_UNROLL
        for (int n = 0; n < C::kNT; ++n) {
            uint4 v = make_uint4(rW(0, n), rW(1, n), rW(2, n), rW(3, n));
            int64_t const at = int64_t(round) * (C::kWarps * C::kTiles * 32) + i * 32;
            ptx::load_once_if(in_bounds, gW[n] + at, policy, v);
            set_words(rW(_, n), v);
        }
    }

    // The GroupParams of the warp's segments of a round are spread over its lanes, segment by segment: lane l loads
    // number l + 32 * i. All of a lane's belong to one row.
    static_assert(32 % C::kRows == 0, "a lane would need the parameters of several rows");
    static constexpr int kLaneSegments = 32 / C::kRows;  // the distance of a lane's segments

    W4AX_DEVICE GroupParamsSource group_params_source() const {
        int const row = lane % C::kRows;
        return GroupParamsSource(p, group_params_index(tile_n(row / kTileN), 0, p.groups, row % kTileN));
    }

    W4AX_DEVICE void load_group_params(int round, GroupParamsSource const& source,
                                       RawGroupParams (&rParams)[kParamsPerLane]) const {
        CUTE_UNROLL
        for (int i = 0; i < kParamsPerLane; ++i) {
            int const group = first_segment(round) + lane / C::kRows + i * kLaneSegments;
            rParams[i] = source.load(p, group < p.groups ? group : p.groups - 1);
        }
    }

    // The scale and sum of each row of a segment, as one access; the zeros of all rows follow.
    W4AX_DEVICE float2* shared_group_params(int buffer, int segment) const {
        int const at = (buffer * C::kSegments + segment) * C::kGroupParamsBytes;
        return reinterpret_cast<float2*>(shared + offsets.group_params + at);
    }
    W4AX_DEVICE float* shared_group_zeros(int buffer, int segment) const {
        return reinterpret_cast<float*>(shared_group_params(buffer, segment) + C::kRows);
    }

    W4AX_DEVICE void store_group_params(int buffer, GroupParamsSource const& source,
                                        RawGroupParams const (&rParams)[kParamsPerLane]) const {
        int const first = warp * C::kSegmentsPerWarp + lane / C::kRows, row = lane % C::kRows;
        CUTE_UNROLL
        for (int i = 0; i < kParamsPerLane; ++i) {
            if (lane + 32 * i >= C::kSegmentsPerWarp * C::kRows) continue;
            GroupParams const r = source.convert(p, rParams[i]);
            shared_group_params(buffer, first + i * kLaneSegments)[row] = make_float2(r.scale, r.sum);
            if (p.zeros) shared_group_zeros(buffer, first + i * kLaneSegments)[row] = r.zero;
        }
    }

    // ---- group steps of two-level weights: 16-byte units of the warp's tiles in a round, one per lane, which the
    // lanes exchange through shared memory
    static constexpr int kStepUnits = C::kStepGroups * kGroupStepBytes / 16;  // of a weight tile's channels
    static_assert(!C::kTwoLevel || C::kNT * kStepUnits <= 32, "a lane loads one unit");

    // Loads the lane's unit of a round, ahead of its use as the weights are. Beyond K it keeps its value, see
    // load_weights.
    W4AX_DEVICE void load_steps(int round, uint4& unit) const {
        int const n = lane / kStepUnits, at = lane % kStepUnits;
        int const first_group = (first_tile_k(round) * kTileK) >> p.step_shift;
        int const group = at / (kGroupStepBytes / 16);  // of the round
        bool const in_bounds = n < C::kNT && group < (C::kTiles * kTileK) >> p.step_shift &&
                               first_group + group < p.step_groups;
        int64_t const row = group_params_index(tile_n(n), first_group, p.step_groups, 0);
        ptx::load_if(in_bounds, reinterpret_cast<uint4 const*>(p.steps + row) + at, unit);
    }

    W4AX_DEVICE StepWord* shared_steps() const {
        return reinterpret_cast<StepWord*>(shared + offsets.steps + warp * C::kWarpStepBytes);
    }

    // Passes the units of a round to the lanes that use them, and loads those of the next round.
    W4AX_DEVICE void exchange_steps(int round, uint4& unit) const {
        // All lanes have read the steps of the previous round, which are overwritten here.
        __syncwarp();
        if (lane < C::kNT * kStepUnits) reinterpret_cast<uint4*>(shared_steps())[lane] = unit;
        // Each lane reads steps that other lanes have stored.
        __syncwarp();
        load_steps(round + 1, unit);
    }

    // Returns the steps of the lane's rows in the warp's k-tile i of the round and weight tile n.
    W4AX_DEVICE TileSteps steps_of(int i, int n) const {
        return load_tile_steps(shared_steps() + n * C::kStepGroups * kTileN, lane, i * kTileK, p.step_shift);
    }

    // Loads the bf16_offset of the lane's rows in a segment, for each weight tile.
    W4AX_DEVICE void load_offsets(int segment, uint32_t (&offset)[C::kNT][2]) const {
        CUTE_UNROLL
        for (int n = 0; n < C::kNT; ++n) {
            CUTE_UNROLL
            for (int i = 0; i < 2; ++i) {
                int const group = C::kGroup ? segment : 0;
                bool const in_bounds = p.zeros && group < p.groups && first_tile_n + n < p.n_tiles;
                int const row = lane / 4 + 8 * i;
                offset[n][i] =
                    bf16_offset(in_bounds ? p.zeros[group_params_index(first_tile_n + n, group, p.groups, row)] : 0);
            }
        }
    }

    // ---- activations

    W4AX_DEVICE uint16_t const* x_row(int token) const {
        return static_cast<uint16_t const*>(p.x) + token * p.x_stride;
    }

    // The scale and minus_zero of each token of a segment, as one access; the minus_sums of all segments follow.
    W4AX_DEVICE float2* shared_tokens(int buffer, int segment) const {
        return reinterpret_cast<float2*>(shared + offsets.tokens) + (buffer * C::kSegments + segment) * p.m;
    }
    W4AX_DEVICE float* shared_token_sums(int buffer, int segment) const {
        return reinterpret_cast<float*>(shared + offsets.tokens + 2 * C::kSegments * p.m * int(sizeof(float2))) +
               (buffer * C::kSegments + segment) * p.m;
    }

    W4AX_DEVICE void store_token(int buffer, int segment, int token, TokenFactors const& t) const {
        int const of_block = warp * C::kSegmentsPerWarp + segment;
        shared_tokens(buffer, of_block)[token] = make_float2(t.scale, t.minus_zero);
        if (p.zeros) shared_token_sums(buffer, of_block)[token] = t.minus_sum;
    }

    // The codes of the warp's tiles, [tile][token][octet].
    W4AX_DEVICE unsigned char* shared_codes(int tile, int token, int octet) const {
        return shared + offsets.codes +
               (((warp * C::kTiles + tile) * p.m + token) * kOctetsPerTile + octet) * C::kOctetBytes;
    }

    // Returns whether the warp's k of a round is inside K and rows are aligned to 4 bytes. Then no load checks bounds.
    W4AX_DEVICE bool in_bounds(int round) const {
        return p.x_aligned && (first_tile_k(round) + C::kTiles) * kTileK <= p.k;
    }

    // Loads BF16 activations of the warp's k-tile i of a round, straight to registers.
    template <bool kInBounds>
    W4AX_DEVICE void load_bf16(int round, int i, uint32_t (&rX)[C::kMT][kWords]) const {
        int const k = (first_tile_k(round) + i) * kTileK + 2 * (lane % 4);
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m)
            load_pairs<kWords, 8>(x_row(clamp_token(kTileM * m + lane / 4)), k, kInBounds ? k + kTileK : p.k,
                                  kInBounds || p.x_aligned, rX[m]);
    }

    // Loads codes that were quantized ahead, straight to registers, as they are stored: see `words_of`.
    W4AX_DEVICE void load_codes(int tile_k, uint32_t (&rX)[C::kMT][kWords]) const {
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m) {
            bool const in_bounds = tile_k < p.k_tiles && kTileM * m < p.m;
            auto const* const gX = static_cast<unsigned char const*>(p.x) +
                                   (int64_t(m) * p.k_tiles + tile_k) * activation_tile_bytes(p.bits);
            // Codes beyond K and M are 0.
            if constexpr (C::kBits == 8) {
                uint4 v = {};
                ptx::load_if(in_bounds, reinterpret_cast<uint4 const*>(gX) + lane, v);
                set_words(rX[m], v);
            } else {
                // A lane has four bytes of 2-bit codes: it loads those of two lanes.
                uint2 v = {};
                ptx::load_if(in_bounds, reinterpret_cast<uint2 const*>(gX) + (p.bits == 2 ? lane / 2 : lane), v);
                rX[m][0] = v.x;
                rX[m][1] = v.y;
            }
        }
    }

    // Returns the words of an activation tile as the engine takes them. Codes that were quantized ahead arrive as they
    // are stored, so that no instruction waits for the load until they are used.
    struct TileWords {
        uint32_t words[kWords];
    };
    W4AX_DEVICE TileWords words_of(uint32_t const (&rX)[kWords]) const {
        TileWords t;
        CUTE_UNROLL
        for (int i = 0; i < kWords; ++i) t.words[i] = rX[i];
        if constexpr (C::kBits == 4 && !C::kFused) {
            // Selections instead of a branch: expand_2bit of the lane's word, or both words unchanged.
            bool const is_2bit = p.bits == 2;
            uint32_t const mask = is_2bit ? 0x33333333u : 0xFFFFFFFFu;
            uint32_t const first = is_2bit && lane % 2 ? rX[1] : rX[0];
            t.words[0] = first & mask;
            t.words[1] = (is_2bit ? first >> 2 : rX[1]) & mask;
        }
        return t;
    }

    // Loads codes that this warp has quantized, from shared memory.
    W4AX_DEVICE void load_shared_words(int tile, uint32_t (&rX)[C::kMT][kWords]) const {
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m)
            load_code_words<C::kBits>(shared_codes(tile, clamp_token(kTileM * m + lane / 4), 2 * (lane % 4)), 0, rX[m]);
    }

    // The parameters of activations that were quantized ahead: each lane holds those of one token and segment of the
    // warp.
    static_assert(C::kSegmentsPerWarp * C::kTokens <= 32, "a lane would hold several");

    W4AX_DEVICE TokenParams load_packed_token(int round) const {
        int const token = lane % C::kTokens, group = first_segment(round) + lane / C::kTokens;
        auto const* const gToken = p.tokens + (int64_t(token / kTileM) * p.groups + group) * kTileM + token % kTileM;
        uint2 v = {};
        ptx::load_if(token < p.m && group < p.groups, reinterpret_cast<uint2 const*>(gToken), v);
        static_assert(sizeof(TokenParams) == sizeof v, "the parameters of a token are one load");
        TokenParams t;
        memcpy(&t, &v, sizeof t);
        return t;
    }

    W4AX_DEVICE void store_packed_token(int buffer, TokenParams const& t) const {
        int const token = lane % C::kTokens, segment = lane / C::kTokens;
        if (segment < C::kSegmentsPerWarp && token < p.m) store_token(buffer, segment, token, token_factors(t));
    }

    // The largest code. A8 has kernels of its own, so it is a constant there.
    W4AX_DEVICE int levels() const { return C::kBits == 8 ? 255 : (1 << p.bits) - 1; }

    // Quantizes the warp's k of all tokens: `quantize(token, tile, octet, x)` returns the codes of each octet.
    template <bool kInBounds, class Quantize>
    W4AX_DEVICE void for_octets(int round, Quantize quantize) const {
        constexpr int kOctets = C::kTiles * kOctetsPerTile;  // of one token: a group never spans two
        static_assert(32 % kOctets == 0, "a warp step covers whole tokens");
        int const tile = lane % kOctets / kOctetsPerTile, octet = lane % kOctetsPerTile;
        int const k = (first_tile_k(round) + tile) * kTileK + octet_k(octet);
        for (int first = 0; first < p.m; first += 32 / kOctets) {
            int const token = first + lane / kOctets;
            Octet x = {};
            if constexpr (kInBounds) {
                // Lanes without a token load another token's values, and their codes are not stored.
                load_pairs<4, 8>(x_row(clamp_token(token)), k, k + kTileK, true, x.pair);
                x.valid = kTileK;
            } else if (token < p.m) {
                x = load_octet(x_row(token), k, p.k, p.x_aligned);
            }
            OctetCodes const codes = quantize(token, tile, octet, x);
            if (token < p.m) store_octet<C::kBits>(shared_codes(tile, token, octet), 0, codes);
        }
    }

    template <class Quantize>
    W4AX_DEVICE void for_all_octets(int round, Quantize quantize) const {
        // All lanes have read the codes of the previous round, which are overwritten here.
        __syncwarp();
        if (in_bounds(round))
            for_octets<true>(round, quantize);
        else
            for_octets<false>(round, quantize);
        // Each lane reads codes that other lanes have stored.
        __syncwarp();
    }

    W4AX_DEVICE void quantize_groups(int round, int buffer) const {
        for_all_octets(round, [&](int token, int tile, int octet, Octet const& x) {
            auto const [codes, q] = quantize_group<C::kGroup>(x, levels());
            int const sum = p.zeros ? group_sum<C::kGroup>(sum_of(codes)) : 0;
            // One lane of each group stores its parameters: that of the group's first k.
            int const k = tile * kTileK + octet_k(octet);
            if (token < p.m && (octet >> 1) == 0 && k % C::kGroup == 0)
                store_token(buffer, k / C::kGroup, token, {q.scale, -exact_float(q.zero), -exact_float(sum)});
            return codes;
        });
    }

    // Loads the activations of the warp's k-tiles of a round.
    template <bool kInBounds>
    W4AX_DEVICE void load_tiles(int round, Words& rX) const {
        CUTE_UNROLL
        for (int i = 0; i < C::kTiles; ++i) {
            if constexpr (!C::kQuantized)
                load_bf16<kInBounds>(round, i, rX[i]);
            else if constexpr (C::kFused)
                load_shared_words(i, rX[i]);
            else
                load_codes(first_tile_k(round) + i, rX[i]);
        }
    }

    // Loads what the next round needs in place of tile i: its weights, and its codes if they are quantized ahead.
    template <class TensorW>
    W4AX_DEVICE void refill(int round, int i, TensorW& rW, Words& rX) const {  // (4,NT,tiles)
        load_weights(round, i, rW(_, _, i));
        if constexpr (C::kQuantized && !C::kFused) load_codes(first_tile_k(round) + i, rX[i]);
    }

    W4AX_DEVICE void load_activations(int round, Words& rX) const {
        if (C::kQuantized || in_bounds(round))
            load_tiles<true>(round, rX);
        else
            load_tiles<false>(round, rX);
    }

    // ---- the products of a round

    // Stores a segment's accumulators in the slab.
    template <class TensorC>
    W4AX_DEVICE void store_segment(int slot, TensorC const& rC) const {  // (4,NT,MT)
        auto* sSlab = reinterpret_cast<Accumulator*>(shared + offsets.slab) + slot * p.m * C::kSlabToken;
        Tensor cC = Engine::coordinates();  // (4) -> (row,token)
        CUTE_UNROLL
        for (int m = 0; m < C::kMT; ++m) {
            CUTE_UNROLL
            for (int i = 0; i < 4; ++i) {
                int const token = kTileM * m + int(get<1>(cC(i)));
                // The columns of tokens beyond M hold products with zeros.
                if (token >= p.m) continue;
                CUTE_UNROLL
                for (int n = 0; n < C::kNT; ++n)
                    sSlab[token * C::kSlabToken + kTileN * n + int(get<0>(cC(i)))] = rC(i, n, m);
            }
        }
    }

    // Whether the fragments of a tile are registers of their own and complete before the first mma of the tile. BF16
    // weights are unpacked again for the second group in a tile, and take too many registers with most in flight.
    static constexpr bool kFillsRegisters = C::kNT * C::kTiles == 8;
    static constexpr bool kRefillsEarly = !Engine::kUnpacksInPlace &&
                                          (C::kQuantized || (C::kSegmentK >= kTileK && !kFillsRegisters));
    // ptxas gives the lowest priority to a load whose result the round does not use, and moves it behind the
    // multiplications and the stores of their sums, but not out of its basic block. So the loads are in branches, which
    // all rounds but the last take: one per tile, or per two tiles where registers are scarce.
    static constexpr int kTilesPerRefill = kFillsRegisters ? 2 : 1;

    // Multiplies the warp's tiles of a round. `next(i)` refills the registers of tile i, before its mma if possible;
    // `begin(segment)` and `end(segment)` enclose each segment of k.
    template <class TensorW, class TensorC, class Next, class Begin, class End>
    W4AX_DEVICE void multiply(int round, TensorW& rW, Words const& rX, TensorC& rC, Next next, Begin begin,
                              End end) const {  // (4,NT,tiles) (4,NT,MT)
        constexpr int kSteps = Engine::kSteps;
        bool const has_next = (round + 1) * C::kWarps * C::kTiles < p.k_tiles;
        constexpr int kStepsPerSegment = C::kSegmentK >= kTileK ? C::kSegmentK / kTileK * kSteps
                                                                : kSteps * C::kSegmentK / kTileK;
        Tensor rA = make_tensor<uint32_t>(Shape<Int<Engine::kRegistersA>, Int<kSteps>, Int<C::kNT>>{});  // (A,step,NT)
        Tensor rB = make_tensor<uint32_t>(Shape<Int<Engine::kRegistersB>, Int<kSteps>, Int<C::kMT>>{});  // (B,step,MT)
        uint32_t offset[C::kNT][2] = {};
        CUTE_UNROLL
        for (int i = 0; i < C::kTiles; ++i) {
            CUTE_UNROLL
            for (int s = 0; s < kSteps; ++s) {
                int const step = i * kSteps + s, segment = step / kStepsPerSegment;
                bool const begins = step % kStepsPerSegment == 0;
                if (begins) begin(segment);
                if constexpr (!C::kQuantized && !C::kTwoLevel) {
                    if (begins) load_offsets(first_segment(round) + segment, offset);
                }
                if (s == 0 || (!C::kQuantized && begins)) {
                    CUTE_UNROLL
                    for (int n = 0; n < C::kNT; ++n) {
                        if constexpr (C::kTwoLevel)
                            Engine::unpack(rW(_, n, i), steps_of(i, n), rA(_, _, n));
                        else
                            Engine::unpack(rW(_, n, i), offset[n], rA(_, _, n));
                    }
                }
                if (s == 0) {
                    CUTE_UNROLL
                    for (int m = 0; m < C::kMT; ++m) Engine::expand(words_of(rX[i][m]).words, rB(_, _, m));
                    if constexpr (kRefillsEarly) {
                        if (i % kTilesPerRefill != 0 || has_next) next(i);
                    }
                }
                CUTE_UNROLL
                for (int m = 0; m < C::kMT; ++m) {
                    CUTE_UNROLL
                    for (int n = 0; n < C::kNT; ++n) {
                        auto rD = rC(_, n, m);  // (4)
                        Engine::multiply(rD, rA(_, s, n), rB(_, s, m));
                    }
                }
                if (step % kStepsPerSegment == kStepsPerSegment - 1) end(segment);
            }
            if constexpr (!kRefillsEarly) next(i);
        }
    }

    // ---- outputs: output o = token * kRows + row belongs to thread o % kThreads

    template <class Each>
    W4AX_DEVICE void for_outputs(Each each) const {
        CUTE_UNROLL
        for (int i = 0; i < C::kOutputs; ++i) {
            int const output = int(threadIdx.x) + i * C::kThreads, token = output / C::kRows, row = output % C::kRows;
            if (token < p.m) each(i, token, row);
        }
    }

    // Writes an output: `output(channel, bias)` returns it before the rounding.
    template <class Output>
    W4AX_DEVICE void write(int token, int row, Output output) const {
        int const channel = first_tile_n * kTileN + row;
        if (channel >= p.n) return;
        p.y[token * p.y_stride + channel] = round_to_bf16(output(channel, load_bias(p, channel)));
    }

    // Adds the scaled sums of a round's segments to the thread's outputs, k ascending.
    template <bool kAsymmetric>
    W4AX_DEVICE void add_segments(int round, int buffer, float (&acc)[C::kOutputs]) const {
        auto const* sSlab = reinterpret_cast<Accumulator const*>(shared + offsets.slab);
        int const left = segment_count() - round * C::kSegments, segments = left < C::kSegments ? left : C::kSegments;
        for_outputs([&](int i, int token, int row) {
#pragma unroll 4
            for (int segment = 0; segment < segments; ++segment) {
                int const slot = buffer * C::kSegments + segment;
                float const dot = Engine::sum(sSlab[(slot * p.m + token) * C::kSlabToken + row]);
                if constexpr (C::kQuantized) {
                    float2 const r = shared_group_params(buffer, segment)[row];
                    float2 const t = shared_tokens(buffer, segment)[token];
                    float const zero = kAsymmetric ? shared_group_zeros(buffer, segment)[row] : 0.0f;
                    float const minus_sum = kAsymmetric ? shared_token_sums(buffer, segment)[token] : 0.0f;
                    acc[i] = add_group<kAsymmetric>(acc[i], dot, {r.x, r.y, zero}, {t.x, t.y, minus_sum});
                } else if constexpr (C::kGroup != 0) {
                    acc[i] = __fmaf_rn(dot, shared_group_params(buffer, segment)[row].x, acc[i]);
                } else {
                    acc[i] = __fadd_rn(acc[i], dot);
                }
            }
        });
    }
};

}  // namespace w4ax
