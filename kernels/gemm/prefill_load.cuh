// Prefill family, producer side: copies the stages of a block from global to shared memory by cp.async.
//
// A thread copies the same 16-byte units of every stage, so it computes their addresses once and advances them.
// Shared memory: the stages of PrefillConfig. cp.async: PTX ISA, section "Asynchronous copy operations":
// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-asynchronous-copy
// Preconditions: sources and destinations are aligned to 16 bytes; otherwise x is copied by elements.
#pragma once

#include "common/device.cuh"
#include "common/params.cuh"
#include "gemm/epilogue.cuh"
#include "gemm/prefill_config.cuh"

namespace w4ax {

using namespace cute;

// Copies 16 bytes, or zeros if `in_bounds` is false.
W4AX_DEVICE void copy_async(unsigned char const* gFrom, void* sTo, bool in_bounds) {
    SM80_CP_ASYNC_CACHEGLOBAL_ZFILL<uint128_t>::copy(*reinterpret_cast<uint128_t const*>(gFrom),
                                                     *static_cast<uint128_t*>(sTo), in_bounds);
}

// A thread's share of kItems items of kUnits times 16 contiguous bytes.
template <int kItems, int kUnits, int kThreads>
struct UnitCopies {
    static constexpr int kCopies = kItems * kUnits, kPerThread = ceil_div(kCopies, kThreads);
    unsigned char const* gFrom[kPerThread];  // in the next stage

    // Unit u of item i begins at `from(i, u)`. Items after `last`, beyond N or M, repeat the last one, which needs no
    // predicate: their outputs are never written.
    template <class From>
    W4AX_DEVICE UnitCopies(int thread, int last, From from) {
        CUTE_UNROLL
        for (int i = 0; i < kPerThread; ++i) {
            int const copy = thread + i * kThreads, item = copy / kUnits;
            gFrom[i] = from(item < last ? item : last, copy % kUnits);
        }
    }

    // Copies the next stage: unit u of item i to `to(i, u)`, or zeros unless `in_bounds(u)`. `bytes` is the distance
    // from a stage to the next one in global memory.
    template <class InBounds, class To>
    W4AX_DEVICE void copy(int thread, int bytes, InBounds in_bounds, To to) {
        CUTE_UNROLL
        for (int i = 0; i < kPerThread; ++i) {
            unsigned const copy = unsigned(thread) + unsigned(i * kThreads);
            if (kCopies % kThreads != 0 && copy >= unsigned(kCopies)) break;
            int const unit = int(copy % kUnits);
            copy_async(gFrom[i], to(int(copy / kUnits), unit), in_bounds(unit));
            gFrom[i] += bytes;
        }
    }
};

// Replaces copies that a configuration does not need. (UnitCopies without items would have arrays of size 0.)
struct NoCopies {
    template <class... Args>
    W4AX_DEVICE NoCopies(Args const&...) {}
    template <class... Args>
    W4AX_DEVICE void copy(Args const&...) {}
};

// Weight tiles. Tiles that are neighbors along k are contiguous in global memory.
template <class C>
struct WeightCopies {
    static constexpr int kTileUnits = kWeightTileBytes / 16, kUnits = C::kStageTiles * kTileUnits;
    UnitCopies<C::kTilesN, kUnits, C::kThreads> tiles;

    W4AX_DEVICE WeightCopies(GemmParams const& p, int tile_n, int thread)
        : tiles(thread, p.n_tiles - 1 - tile_n, [&](int n, int unit) {
              int64_t const tile = int64_t(tile_n + n) * p.k_tiles;
              return static_cast<unsigned char const*>(p.tiles) + tile * kWeightTileBytes + unit * 16;
          }) {}

    W4AX_DEVICE void copy(unsigned char* s, GemmParams const& p, int k_block, int thread) {
        int const valid = (p.k_tiles - k_block * C::kStageTiles) * kTileUnits;
        tiles.copy(
            thread, kUnits * 16, [&](int unit) { return unit < valid; },
            [&](int n, int unit) { return s + C::kWeights + (n * kUnits + unit) * 16; });
    }
};

// GroupParams: scales, sums and zeros in one list, so that few threads copy more than one unit of it. For each weight
// tile there are kStageSegments groups of 16 channels; groups beyond K are zeros.
template <class C>
struct GroupParamsCopies {
    // 16-byte units of 16 channels: at most 4 of scales, 2 of sums, 1 of zeros
    static constexpr int kMaxCopies = C::kTilesN * C::kStageSegments * (4 + (C::kQuantized ? 2 : 0) + 1);
    static constexpr int kPerThread = ceil_div(kMaxCopies, C::kThreads);
    unsigned char const* gFrom[kPerThread];  // in the next stage
    int to[kPerThread];                      // byte offset in a stage; negative: nothing to copy
    int bytes[kPerThread];                   // from a stage to the next one, in global memory
    int segment[kPerThread];                 // of the stage

    W4AX_DEVICE GroupParamsCopies(GemmParams const& p, int tile_n, int thread) {
        CUTE_UNROLL
        for (int i = 0; i < kPerThread; ++i) {
            int copy = thread + i * C::kThreads;
            gFrom[i] = nullptr;
            to[i] = -1;
            bytes[i] = segment[i] = 0;
            // 16 channels of `size` bytes are `size` units. A stage reserves `slot` bytes per channel.
            auto const take = [&](void const* gArray, int size, int slot, int sArray) {
                int const units = C::kStageSegments * size, count = C::kTilesN * units;
                if (copy >= 0 && copy < count) {
                    int const n = copy / units, unit = copy % units, last = p.n_tiles - 1 - tile_n;
                    int64_t const row = group_params_index(tile_n + (n < last ? n : last), 0, p.groups, 0);
                    gFrom[i] = static_cast<unsigned char const*>(gArray) + row * size + unit * 16;
                    to[i] = sArray + n * C::kStageSegments * kTileN * slot + unit * 16;
                    bytes[i] = units * 16;
                    segment[i] = unit / size;
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
        for (int i = 0; i < kPerThread; ++i) {
            if (to[i] < 0) continue;
            bool const in_bounds = C::kStageSegments == 1 || segment[i] < p.groups - k_block * C::kStageSegments;
            copy_async(gFrom[i], s + to[i], in_bounds);
            gFrom[i] += bytes[i];
        }
    }
};

// The group steps of two-level weights. For each weight tile there is room for those of the smallest groups.
template <class C>
struct StepCopies {
    static constexpr int kUnits = C::kTileStepBytes / 16;
    UnitCopies<C::kTilesN, kUnits, C::kThreads> units;

    W4AX_DEVICE StepCopies(GemmParams const& p, int tile_n, int thread)
        : units(thread, p.n_tiles - 1 - tile_n, [&](int n, int unit) {
              auto const* const gSteps = p.steps + group_params_index(tile_n + n, 0, p.step_groups, 0);
              return reinterpret_cast<unsigned char const*>(gSteps) + unit * 16;
          }) {}

    W4AX_DEVICE void copy(unsigned char* s, GemmParams const& p, int k_block, int thread) {
        int const groups = C::kStageK >> p.step_shift, left = p.step_groups - k_block * groups;
        int const valid = (left < groups ? left : groups) * (kGroupStepBytes / 16);
        units.copy(
            thread, groups * kGroupStepBytes, [&](int unit) { return unit < valid; },
            [&](int n, int unit) { return s + C::kSteps + n * C::kTileStepBytes + unit * 16; });
    }
};

// Activations that were quantized ahead: codes, and with groups their TokenParams.
template <class C>
struct CodeCopies {
    static constexpr int kTileUnits = C::kCodeBytes / 16, kUnits = C::kStageTiles * kTileUnits;
    static constexpr int kGroupUnits = kTileM * int(sizeof(TokenParams)) / 16;
    using ParamsCopies = UnitCopies<C::kTilesM, C::kStageSegments * kGroupUnits, C::kThreads>;
    UnitCopies<C::kTilesM, kUnits, C::kThreads> codes;
    conditional_t<C::kGroup != 0, ParamsCopies, NoCopies> params;

    // Returns the units of a tile in global memory. 2-bit codes fill half of the place of a 4-bit tile.
    static W4AX_DEVICE int tile_units(GemmParams const& p) {
        return C::kBits == 8 ? kTileUnits : activation_tile_bytes(1) / 16 * p.bits;
    }

    W4AX_DEVICE CodeCopies(GemmParams const& p, int tile_m, int thread)
        : codes(thread, ceil_div(p.m, kTileM) - 1 - tile_m,
                [&](int m, int unit) {
                    int64_t const tile = int64_t(tile_m + m) * p.k_tiles + unit / kTileUnits;
                    return static_cast<unsigned char const*>(p.x) + (tile * tile_units(p) + unit % kTileUnits) * 16;
                }),
          params(thread, ceil_div(p.m, kTileM) - 1 - tile_m, [&](int m, int unit) {
              int64_t const at = int64_t(tile_m + m) * p.groups * kGroupUnits + unit;
              return reinterpret_cast<unsigned char const*>(p.tokens) + at * 16;
          }) {}

    W4AX_DEVICE void copy(unsigned char* s, GemmParams const& p, int tile_m, int k_block, int thread) {
        int const valid = (p.k_tiles - k_block * C::kStageTiles) * kTileUnits;
        codes.copy(
            thread, C::kStageTiles * tile_units(p) * 16,
            [&](int unit) { return unit < valid && (C::kBits == 8 || unit % kTileUnits < tile_units(p)); },
            [&](int m, int unit) { return s + C::kX + (m * kUnits + unit) * 16; });
        int const valid_params = (p.groups - k_block * C::kStageSegments) * kGroupUnits;
        params.copy(
            thread, C::kStageSegments * kGroupUnits * 16, [&](int unit) { return unit < valid_params; },
            [&](int m, int unit) { return s + C::kTokenParams + (m * C::kStageSegments * kGroupUnits + unit) * 16; });
    }
};

template <class C>
W4AX_DEVICE auto shared_x(unsigned char* s) {
    return make_tensor(make_smem_ptr(reinterpret_cast<uint16_t*>(s + C::kX)), typename C::LayoutX{});  // (token,k)
}

// BF16 activations.
template <class C>
struct Bf16Copies {
    static constexpr int kUnits = C::kStageK / 8;
    UnitCopies<C::kTokens, kUnits, C::kThreads> rows;

    W4AX_DEVICE Bf16Copies(GemmParams const& p, int tile_m, int thread)
        : rows(thread, p.m - 1 - tile_m * kTileM, [&](int token, int unit) {
              auto const* const gX = static_cast<uint16_t const*>(p.x);
              return reinterpret_cast<unsigned char const*>(gX + (tile_m * kTileM + token) * p.x_stride + unit * 8);
          }) {}

    W4AX_DEVICE void copy(unsigned char* s, GemmParams const& p, int tile_m, int k_block, int thread) {
        Tensor sX = shared_x<C>(s);  // (token,k)
        int const first = tile_m * kTileM, k = k_block * C::kStageK;
        if (p.x_aligned) {
            int const valid = (p.k - k) / 8;
            rows.copy(
                thread, C::kStageK * 2, [&](int unit) { return unit < valid; },
                [&](int token, int unit) { return &sX(token, unit * 8); });
        } else {
            // Rows that are not aligned are copied by elements. The stage's barrier makes these stores visible, as it
            // does the data of cp.async.
            auto const* const gX = static_cast<uint16_t const*>(p.x) + first * p.x_stride + k;
            for (int i = thread; i < C::kTokens * C::kStageK; i += C::kThreads) {
                int const token = i / C::kStageK, e = i % C::kStageK;
                sX(token, e) = first + token < p.m && k + e < p.k ? gX[token * p.x_stride + e] : 0;
            }
        }
    }
};

// All stages of a block, k ascending. Weights and activations advance independently.
template <class C>
struct StageCopies {
    GemmParams const& p;
    int const tile_m, thread;
    WeightCopies<C> weights;
    conditional_t<C::kGroup != 0, GroupParamsCopies<C>, NoCopies> group_params;
    conditional_t<C::kTwoLevel, StepCopies<C>, NoCopies> steps;
    conditional_t<C::kPacked, CodeCopies<C>, Bf16Copies<C>> x;

    W4AX_DEVICE StageCopies(GemmParams const& p, int tile_n, int tile_m, int thread)
        : p(p),
          tile_m(tile_m),
          thread(thread),
          weights(p, tile_n, thread),
          group_params(p, tile_n, thread),
          steps(p, tile_n, thread),
          x(p, tile_m, thread) {}

    // Copies the next stage, k from k_block * 128 on, to the stage at shared address s.
    W4AX_DEVICE void copy_weights(unsigned char* s, int k_block) {
        weights.copy(s, p, k_block, thread);
        group_params.copy(s, p, k_block, thread);
        steps.copy(s, p, k_block, thread);
    }
    W4AX_DEVICE void copy_x(unsigned char* s, int k_block) { x.copy(s, p, tile_m, k_block, thread); }
};

}  // namespace w4ax
