// Stages of the prefill family on their way from global to shared memory, by cp.async. A thread copies the same units of 16 bytes
// of every stage, so it finds their addresses once and then only moves them on.
#pragma once

#include "common/device.cuh"
#include "gemm/epilogue.cuh"
#include "common/params.cuh"
#include "gemm/prefill_config.cuh"

namespace w4ax {

using namespace cute;

// 16 bytes, or zeros where `there` is false.
W4AX_DEVICE void copy_async(unsigned char const* gFrom, void* sTo, bool there) {
    SM80_CP_ASYNC_CACHEGLOBAL_ZFILL<uint128_t>::copy(*reinterpret_cast<uint128_t const*>(gFrom), *static_cast<uint128_t*>(sTo), there);
}

// A thread's part of kItems runs of kUnits times 16 bytes.
template <int kItems, int kUnits, int kThreads>
struct RunCopies {
    static constexpr int kCopies = kItems * kUnits, kEach = ceil_div(kCopies, kThreads);
    unsigned char const* gFrom[kEach];  // of the next stage

    // Unit u of item i comes from `from(i, u)`. Items after `last`, beyond N or M, repeat the last one, which costs no predicate:
    // whatever they give is never written.
    template <class From>
    W4AX_DEVICE RunCopies(int thread, int last, From from) {
        CUTE_UNROLL
        for (int i = 0; i < kEach; ++i) {
            int const copy = thread + i * kThreads, item = copy / kUnits;
            gFrom[i] = from(item < last ? item : last, copy % kUnits);
        }
    }

    // The next stage: unit u of item i goes to `to(i, u)`, zeros unless `there(u)`. `bytes`: from a stage to the one after it.
    template <class There, class To>
    W4AX_DEVICE void copy(int thread, int bytes, There there, To to) {
        CUTE_UNROLL
        for (int i = 0; i < kEach; ++i) {
            unsigned const copy = unsigned(thread) + unsigned(i * kThreads);
            if (kCopies % kThreads != 0 && copy >= unsigned(kCopies)) break;
            int const unit = int(copy % kUnits);
            copy_async(gFrom[i], to(int(copy / kUnits), unit), there(unit));
            gFrom[i] += bytes;
        }
    }
};

// In place of copies that a configuration does not have. (RunCopies of no items would have no size, and its methods no object.)
struct NoCopies {
    template <class... Args>
    W4AX_DEVICE NoCopies(Args const&...) {}
    template <class... Args>
    W4AX_DEVICE void copy(Args const&...) {}
};

// Weight tiles. A tile's neighbor along k follows it in global memory.
template <class C>
struct WeightCopies {
    static constexpr int kTileUnits = kWeightTileBytes / 16, kUnits = C::kStageTiles * kTileUnits;
    RunCopies<C::kTilesN, kUnits, C::kThreads> tiles;

    W4AX_DEVICE WeightCopies(GemmParams const& p, int tile_n, int thread)
        : tiles(thread, p.n_tiles - 1 - tile_n, [&](int n, int unit) {
              return static_cast<unsigned char const*>(p.tiles) + int64_t(tile_n + n) * p.k_tiles * kWeightTileBytes + unit * 16;
          }) {}

    W4AX_DEVICE void copy(unsigned char* s, GemmParams const& p, int k_block, int thread) {
        int const valid = (p.k_tiles - k_block * C::kStageTiles) * kTileUnits;
        tiles.copy(
            thread, kUnits * 16, [&](int unit) { return unit < valid; },
            [&](int n, int unit) { return s + C::kWeights + (n * kUnits + unit) * 16; });
    }
};

// What stands beside the weights: scales, sums and zeros, in one list, so that few threads copy more than a unit of it. For each
// weight tile kStageRuns groups of 16 rows; those beyond K are zeros.
template <class C>
struct BesideCopies {
    static constexpr int kMost = C::kTilesN * C::kStageRuns * (4 + (C::kQuantized ? 2 : 0) + 1), kEach = ceil_div(kMost, C::kThreads);
    unsigned char const* gFrom[kEach];  // of the next stage
    int to[kEach];                      // bytes from a stage's start; negative: nothing to copy
    int bytes[kEach];                   // from a stage to the one after it
    int run[kEach];                     // of the stage

    W4AX_DEVICE BesideCopies(GemmParams const& p, int tile_n, int thread) {
        CUTE_UNROLL
        for (int i = 0; i < kEach; ++i) {
            int copy = thread + i * C::kThreads;
            gFrom[i] = nullptr;
            to[i] = -1;
            bytes[i] = run[i] = 0;
            // 16 rows of `size` bytes are `size` units; they go to slots of `slot` bytes a row.
            auto const take = [&](void const* gArray, int size, int slot, int sArray) {
                int const units = C::kStageRuns * size, count = C::kTilesN * units;
                if (copy >= 0 && copy < count) {
                    int const n = copy / units, unit = copy % units, last = p.n_tiles - 1 - tile_n;
                    int64_t const row = row_group_index(tile_n + (n < last ? n : last), 0, p.groups, 0);
                    gFrom[i] = static_cast<unsigned char const*>(gArray) + row * size + unit * 16;
                    to[i] = sArray + n * C::kStageRuns * kTileN * slot + unit * 16;
                    bytes[i] = units * 16;
                    run[i] = unit / size;
                }
                copy -= count;
            };
            take(p.scales, scale_bytes(p.scale_type), 4, C::kScales);
            if constexpr (C::kQuantized) take(p.sums, 2, 2, C::kSums);
            if (p.zeros) take(p.zeros, 1, 1, C::kZeros);
        }
    }

    W4AX_DEVICE void copy(unsigned char* s, GemmParams const& p, int k_block, int) {
        CUTE_UNROLL
        for (int i = 0; i < kEach; ++i) {
            if (to[i] < 0) continue;
            copy_async(gFrom[i], s + to[i], C::kStageRuns == 1 || run[i] < p.groups - k_block * C::kStageRuns);
            gFrom[i] += bytes[i];
        }
    }
};

// Packed activations: codes, and with groups the TokenGroups beside them.
template <class C>
struct CodeCopies {
    static constexpr int kTileUnits = C::kCodeBytes / 16, kUnits = C::kStageTiles * kTileUnits;
    static constexpr int kGroupUnits = kTileM * int(sizeof(TokenGroup)) / 16;
    RunCopies<C::kTilesM, kUnits, C::kThreads> codes;
    conditional_t<C::kGroup != 0, RunCopies<C::kTilesM, C::kStageRuns * kGroupUnits, C::kThreads>, NoCopies> groups;

    // Units of a tile as it is packed: 2-bit codes fill half of a 4-bit tile's place.
    static W4AX_DEVICE int tile_units(GemmParams const& p) { return C::kBits == 8 ? kTileUnits : activation_tile_bytes(1) / 16 * p.bits; }

    W4AX_DEVICE CodeCopies(GemmParams const& p, int tile_m, int thread)
        : codes(thread, ceil_div(p.m, kTileM) - 1 - tile_m,
                [&](int m, int unit) {
                    int64_t const tile = int64_t(tile_m + m) * p.k_tiles + unit / kTileUnits;
                    return static_cast<unsigned char const*>(p.x) + (tile * tile_units(p) + unit % kTileUnits) * 16;
                }),
          groups(thread, ceil_div(p.m, kTileM) - 1 - tile_m, [&](int m, int unit) {
              return reinterpret_cast<unsigned char const*>(p.tokens) + (int64_t(tile_m + m) * p.groups * kGroupUnits + unit) * 16;
          }) {}

    W4AX_DEVICE void copy(unsigned char* s, GemmParams const& p, int tile_m, int k_block, int thread) {
        int const valid = (p.k_tiles - k_block * C::kStageTiles) * kTileUnits;
        codes.copy(
            thread, C::kStageTiles * tile_units(p) * 16,
            [&](int unit) { return unit < valid && (C::kBits == 8 || unit % kTileUnits < tile_units(p)); },
            [&](int m, int unit) { return s + C::kX + (m * kUnits + unit) * 16; });
        int const valid_groups = (p.groups - k_block * C::kStageRuns) * kGroupUnits;
        groups.copy(
            thread, C::kStageRuns * kGroupUnits * 16, [&](int unit) { return unit < valid_groups; },
            [&](int m, int unit) { return s + C::kTokenGroups + (m * C::kStageRuns * kGroupUnits + unit) * 16; });
    }
};

template <class C>
W4AX_DEVICE auto shared_x(unsigned char* s) {
    return make_tensor(make_smem_ptr(reinterpret_cast<uint16_t*>(s + C::kX)), typename C::LayoutX{});  // (token,k)
}

// BF16 activations.
template <class C>
struct RowCopies {
    static constexpr int kUnits = C::kStageK / 8;
    RunCopies<C::kTokens, kUnits, C::kThreads> rows;

    W4AX_DEVICE RowCopies(GemmParams const& p, int tile_m, int thread)
        : rows(thread, p.m - 1 - tile_m * kTileM, [&](int token, int unit) {
              return reinterpret_cast<unsigned char const*>(static_cast<uint16_t const*>(p.x) + (tile_m * kTileM + token) * p.x_stride +
                                                            unit * 8);
          }) {}

    W4AX_DEVICE void copy(unsigned char* s, GemmParams const& p, int tile_m, int k_block, int thread) {
        Tensor sX = shared_x<C>(s);  // (token,k)
        int const first = tile_m * kTileM, k = k_block * C::kStageK;
        if (p.x_vectors) {
            int const valid = (p.k - k) / 8;
            rows.copy(
                thread, C::kStageK * 2, [&](int unit) { return unit < valid; },
                [&](int token, int unit) { return &sX(token, unit * 8); });
        } else {
            // Rows that are not aligned: by elements. The stage's barrier makes them visible as it does cp.async's.
            auto const* const gX = static_cast<uint16_t const*>(p.x) + first * p.x_stride + k;
            for (int i = thread; i < C::kTokens * C::kStageK; i += C::kThreads) {
                int const token = i / C::kStageK, e = i % C::kStageK;
                sX(token, e) = first + token < p.m && k + e < p.k ? gX[token * p.x_stride + e] : 0;
            }
        }
    }
};

// All of a block's stages, k ascending: weights, and activations, each on its own.
template <class C>
struct StageCopies {
    GemmParams const& p;
    int const tile_m, thread;
    WeightCopies<C> weights;
    conditional_t<C::kGroup != 0, BesideCopies<C>, NoCopies> beside;
    conditional_t<C::kPacked, CodeCopies<C>, RowCopies<C>> x;

    W4AX_DEVICE StageCopies(GemmParams const& p, int tile_n, int tile_m, int thread)
        : p(p), tile_m(tile_m), thread(thread), weights(p, tile_n, thread), beside(p, tile_n, thread), x(p, tile_m, thread) {}

    // To the stage at shared address s, k from k_block * 128 on: the one after the last.
    W4AX_DEVICE void copy_weights(unsigned char* s, int k_block) {
        weights.copy(s, p, k_block, thread);
        beside.copy(s, p, k_block, thread);
    }
    W4AX_DEVICE void copy_x(unsigned char* s, int k_block) { x.copy(s, p, tile_m, k_block, thread); }
};

}  // namespace w4ax
