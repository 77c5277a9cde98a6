// The row operations whose results are activations of GEMMs, with the rounding steps of src/numerics.rs: RMSNorm, to
// whose x an addend may be added first, and silu(gate) * up. Written as BF16 [M, K] at 16 bits, otherwise quantized at
// once into the bytes of quantize_pack.
//
// Grid: RMSNorm, and whole rows of SiLU: one block per token, including the tokens between M and the next multiple of
// 8, whose codes and parameters are 0. Groups of SiLU: (ceil(M/8), ceil(K/256)) blocks, one warp per token and 256 k.
// The reference kernels, which write BF16 only: ceil(M/256) blocks, one token per thread, and ceil(M*K/256) blocks.
// Shared memory: a RowOpShared, except for groups of SiLU and for the reference kernels.
// Preconditions: rows aligned to an element (to two if *_aligned); codes aligned to 128 bytes; y overlaps no input.
#pragma once

#include "common/device.cuh"
#include "common/kernel.cuh"
#include "common/ptx.cuh"
#include "common/row_op_params.cuh"
#include "common/silu.cuh"
#include "gemm/epilogue.cuh"
#include "ops/quantize_pack.cuh"

namespace w4ax {

constexpr int kSumLanes = 64;   // lanes of a sum of squares: two per lane of a warp
constexpr int kSumBlock = 512;  // elements of a block of a sum of squares, for one warp
static_assert(kSumLanes == 2 * 32, "a lane of a warp has two lanes of the sum");

struct RowOpShared {
    float2 lanes[kPackWarps][32];  // the lanes of the blocks of a round
    float scale;                   // 1 / sqrt(mean + eps)
    PackRowShared row;
};

template <Role kRole_, int kGroup_>
struct RowOpConfig : KernelConfig {
    static constexpr Role kRole = kRole_;
    static constexpr int kGroup = kGroup_;
    static constexpr bool kGroupsOfSilu = kRole == Role::SiluMul && kGroup > 0;
    static constexpr int kTokens = kGroupsOfSilu ? kTileM : 1, kLaunchThreads = kPackThreads;
    static constexpr int shared_bytes(int) { return kGroupsOfSilu ? 0 : int(sizeof(RowOpShared)); }
};

template <Role kRole_>
struct RowOpPlainConfig : KernelConfig {
    static constexpr Role kRole = kRole_;
    static constexpr int kTokens = 1, kLaunchThreads = kPackThreads;
};

// ---- inputs

// Loads kPairs pairs of x at k, k + kStep, ... in f32; 0 beyond K.
template <int kPairs, int kStep>
W4AX_DEVICE void load_x(RowOpParams const& p, int token, int k, float2* x) {
    int const k_end = p.quantize.k;
    if (!p.x_f32) {
        uint32_t pairs[kPairs];
        auto const* const gRow = static_cast<uint16_t const*>(p.x) + token * p.x_stride;
        load_pairs<kPairs, kStep>(gRow, k, k_end, p.x_aligned, pairs);
        CUTE_UNROLL
        for (int i = 0; i < kPairs; ++i) x[i] = make_float2(low_bf16(pairs[i]), high_bf16(pairs[i]));
        return;
    }
    auto const* const gRow = static_cast<float const*>(p.x) + token * p.x_stride;
    bool const whole = p.x_aligned && k + (kPairs - 1) * kStep + 2 <= k_end;
    CUTE_UNROLL
    for (int i = 0; i < kPairs; ++i) {
        int const at = k + i * kStep;
        if (whole)
            x[i] = *reinterpret_cast<float2 const*>(gRow + at);
        else
            x[i] = make_float2(at < k_end ? gRow[at] : 0.0f, at + 1 < k_end ? gRow[at + 1] : 0.0f);
    }
}

// Adds the addend to the pairs of x at k, k + kStep, ..., which load_x has loaded, and stores the sums to x.
template <int kPairs, int kStep>
W4AX_DEVICE void add_to_x(RowOpParams const& p, int token, int k, float2* x) {
    int const k_end = p.quantize.k;
    uint32_t pairs[kPairs];
    load_pairs<kPairs, kStep>(p.addend + token * p.addend_stride, k, k_end, p.addend_aligned, pairs);
    int64_t const row = token * p.x_stride;
    CUTE_UNROLL
    for (int i = 0; i < kPairs; ++i) {
        int const at = k + i * kStep;
        x[i] = make_float2(__fadd_rn(x[i].x, low_bf16(pairs[i])), __fadd_rn(x[i].y, high_bf16(pairs[i])));
        bool const pair = p.x_aligned && at + 1 < k_end;
        if (p.x_f32) {
            float* const gX = static_cast<float*>(p.x) + row + at;
            if (pair) {
                *reinterpret_cast<float2*>(gX) = x[i];
            } else {
                if (at < k_end) gX[0] = x[i].x;
                if (at + 1 < k_end) gX[1] = x[i].y;
            }
        } else {
            uint16_t* const gX = static_cast<uint16_t*>(p.x) + row + at;
            uint32_t const low = round_to_bf16(x[i].x), high = round_to_bf16(x[i].y);
            if (pair) {
                *reinterpret_cast<uint32_t*>(gX) = low | high << 16;
            } else {
                if (at < k_end) gX[0] = uint16_t(low);
                if (at + 1 < k_end) gX[1] = uint16_t(high);
            }
            x[i] = make_float2(low_bf16(low), low_bf16(high));
        }
    }
}

W4AX_DEVICE float rms_norm_value(float x, float scale, float weight) { return __fmul_rn(__fmul_rn(x, scale), weight); }

W4AX_DEVICE float silu_mul_value(float gate, float up) { return __fmul_rn(silu_f32(gate), up); }

// Returns the lane's octet of the result of the operation in the 4 k-tiles from `tile_k` on; 0 beyond M and K. `scale`
// is that of the token's RMSNorm. A value beyond K is 0 in all inputs, and so in the result unless `scale` is a NaN;
// then the group is one anyway.
template <Role kRole>
W4AX_DEVICE Octet result_octet(RowOpParams const& p, int token, int tile_k, float scale) {
    Octet y = {};
    int const k = lane_k(tile_k), k_end = p.quantize.k;
    if (token >= p.quantize.m || k >= k_end) return y;
    float2 x[4];
    load_x<4, 8>(p, token, k, x);
    Octet const factor = load_octet(p.factor + token * p.factor_stride, k, k_end, p.factor_aligned);
    y.valid = factor.valid;
    auto const value = [&](float a, float b) {
        return uint32_t(round_to_bf16(kRole == Role::RmsNorm ? rms_norm_value(a, scale, b) : silu_mul_value(a, b)));
    };
    CUTE_UNROLL
    for (int i = 0; i < 4; ++i)
        y.pair[i] = value(x[i].x, low_bf16(factor.pair[i])) | value(x[i].y, high_bf16(factor.pair[i])) << 16;
    return y;
}

// ---- the scale of RMSNorm

W4AX_DEVICE float scale_of_sum(RowOpParams const& p, float sum) {
    float const mean = __fdiv_rn(sum, float(p.quantize.k));
    return __frcp_rn(__fsqrt_rn(__fadd_rn(mean, p.eps)));
}

// Returns 1 / sqrt(mean(x^2) + eps) of a token to all threads of the block, of x after the addend.
W4AX_DEVICE float row_scale(RowOpParams const& p, int token, RowOpShared& shared) {
    int const warp = warp_index(), lane = lane_index(), k_end = p.quantize.k;
    float2 total = make_float2(0.0f, 0.0f);  // lanes 2 * lane and 2 * lane + 1, in warp 0
    for (int round = 0; round < k_end; round += kPackWarps * kSumBlock) {
        float2 sum = make_float2(0.0f, 0.0f), x[kSumBlock / kSumLanes];
        int const begin = round + warp * kSumBlock;
        // Blocks beyond K have lanes of 0, which change no total.
        if (begin < k_end) {
            load_x<kSumBlock / kSumLanes, kSumLanes>(p, token, begin + 2 * lane, x);
            if (p.addend) add_to_x<kSumBlock / kSumLanes, kSumLanes>(p, token, begin + 2 * lane, x);
            CUTE_UNROLL
            for (int i = 0; i < kSumBlock / kSumLanes; ++i)
                sum = make_float2(__fmaf_rn(x[i].x, x[i].x, sum.x), __fmaf_rn(x[i].y, x[i].y, sum.y));
        }
        shared.lanes[warp][lane] = sum;
        // Warp 0 reads the lanes of all blocks of the round.
        __syncthreads();
        if (warp == 0) {
            for (int i = 0; i < kPackWarps; ++i) {
                float2 const block = shared.lanes[i][lane];
                total = make_float2(__fadd_rn(total.x, block.x), __fadd_rn(total.y, block.y));
            }
        }
        // The next round overwrites the lanes that warp 0 has read.
        __syncthreads();
    }
    if (warp == 0) {
        // Lane j of the sum is in lane j / 2 of the warp, so halves of 32, 16, 8, 4 and 2 are at these distances.
        CUTE_UNROLL
        for (int distance = 16; distance > 0; distance /= 2) {
            total.x = __fadd_rn(total.x, __shfl_xor_sync(kAllLanes, total.x, distance));
            total.y = __fadd_rn(total.y, __shfl_xor_sync(kAllLanes, total.y, distance));
        }
        if (lane == 0) shared.scale = scale_of_sum(p, __fadd_rn(total.x, total.y));
    }
    // Every thread reads the scale that lane 0 of warp 0 has written, and values of x that other threads have stored.
    __syncthreads();
    return shared.scale;
}

// ---- outputs

// Stores the lane's octet of the 4 k-tiles from `tile_k` on as BF16.
W4AX_DEVICE void store_rows(RowOpParams const& p, int token, int tile_k, Octet const& y) {
    int const k = lane_k(tile_k);
    uint16_t* const gRow = p.y + token * p.y_stride;
    CUTE_UNROLL
    for (int i = 0; i < 4; ++i) {
        int const at = k + 8 * i, left = y.valid - 8 * i;
        if (left >= 2 && p.y_aligned) {
            *reinterpret_cast<uint32_t*>(gRow + at) = y.pair[i];
        } else {
            if (left >= 1) gRow[at] = uint16_t(y.pair[i]);
            if (left >= 2) gRow[at + 1] = uint16_t(y.pair[i] >> 16);
        }
    }
}

// ---- kernels

// RMSNorm, and whole rows of SiLU.
template <class C>
__global__ void __launch_bounds__(kPackThreads) row_op_rows(W4AX_GRID_CONSTANT RowOpParams const params) {
    W4AX_DYNAMIC_SHARED(memory, 128);
    auto& shared = *reinterpret_cast<RowOpShared*>(memory);
    // The previous launch may write x, gate or up, and may read the output: this wait comes before these accesses.
    ptx::wait_on_dependent_grids();
    // The next launch waits for this whole grid before it reads the output.
    ptx::launch_dependent_grids();
    RowOpParams p = params;
    bool const quantized = resolve_latched(p.quantize);
    int const token = int(blockIdx.x);
    bool const valid = token < p.quantize.m;
    // The whole block exits here, before any barrier: BF16 has no padding.
    if (!quantized && !valid) return;
    float scale = 0.0f;
    if constexpr (C::kRole == Role::RmsNorm) {
        // The whole block has one token, so all of its threads reach the barriers or none.
        if (valid) scale = row_scale(p, token, shared);
    }
    auto const octet = [&](int tile_k) { return result_octet<C::kRole>(p, token, tile_k, scale); };
    if constexpr (C::kGroup == 0) {
        if (quantized) {
            pack_row(p.quantize, token, shared.row, octet);
            return;
        }
    }
    for (int tile_k = warp_index() * kPackTiles; tile_k < p.quantize.k_tiles; tile_k += kPackWarps * kPackTiles) {
        if constexpr (C::kGroup > 0) {
            if (quantized) {
                pack_groups<C::kGroup>(p.quantize, token, tile_k, octet(tile_k));
                continue;
            }
        }
        store_rows(p, token, tile_k, octet(tile_k));
    }
}

// Groups of SiLU.
template <class C>
__global__ void __launch_bounds__(kPackThreads) row_op_groups(W4AX_GRID_CONSTANT RowOpParams const params) {
    // As in row_op_rows.
    ptx::wait_on_dependent_grids();
    ptx::launch_dependent_grids();
    RowOpParams p = params;
    bool const quantized = resolve_latched(p.quantize);
    int const token = int(blockIdx.x) * kTileM + warp_index(), tile_k = int(blockIdx.y) * kPackTiles;
    Octet const y = result_octet<C::kRole>(p, token, tile_k, 0.0f);
    if (quantized)
        pack_groups<C::kGroup>(p.quantize, token, tile_k, y);
    else
        store_rows(p, token, tile_k, y);
}

// ---- reference kernels: BF16 only, without pairs, shuffles and shared memory

W4AX_DEVICE float plain_value(RowOpParams const& p, int token, int k) {
    int64_t const at = token * p.x_stride + k;
    if (p.x_f32) return static_cast<float const*>(p.x)[at];
    return __uint_as_float(uint32_t(static_cast<uint16_t const*>(p.x)[at]) << 16);
}

W4AX_DEVICE float plain_factor(RowOpParams const& p, int token, int k) {
    return __uint_as_float(uint32_t(p.factor[token * p.factor_stride + k]) << 16);
}

template <class C>
__global__ void __launch_bounds__(kPackThreads) rms_norm_plain(W4AX_GRID_CONSTANT RowOpParams const p) {
    ptx::wait_on_dependent_grids();
    int const token = int(blockIdx.x) * kPackThreads + int(threadIdx.x), k_end = p.quantize.k;
    if (token >= p.quantize.m) return;
    for (int k = 0; p.addend && k < k_end; ++k) {
        int64_t const at = token * p.x_stride + k;
        float const bits = __uint_as_float(uint32_t(p.addend[token * p.addend_stride + k]) << 16);
        float const sum = __fadd_rn(plain_value(p, token, k), bits);
        if (p.x_f32)
            static_cast<float*>(p.x)[at] = sum;
        else
            static_cast<uint16_t*>(p.x)[at] = round_to_bf16(sum);
    }
    float total[kSumLanes] = {};
    for (int lane = 0; lane < kSumLanes; ++lane) {
        for (int block = 0; block < k_end; block += kSumBlock) {
            float sum = 0.0f;
            for (int k = block + lane; k < block + kSumBlock && k < k_end; k += kSumLanes) {
                float const x = plain_value(p, token, k);
                sum = __fmaf_rn(x, x, sum);
            }
            total[lane] = __fadd_rn(total[lane], sum);
        }
    }
    for (int half = kSumLanes / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) total[lane] = __fadd_rn(total[lane], total[lane + half]);
    float const scale = scale_of_sum(p, total[0]);
    for (int k = 0; k < k_end; ++k)
        p.y[token * p.y_stride + k] =
            round_to_bf16(rms_norm_value(plain_value(p, token, k), scale, plain_factor(p, token, k)));
}

template <class C>
__global__ void __launch_bounds__(kPackThreads) silu_mul_plain(W4AX_GRID_CONSTANT RowOpParams const p) {
    ptx::wait_on_dependent_grids();
    int64_t const value = int64_t(blockIdx.x) * kPackThreads + threadIdx.x;
    if (value >= int64_t(p.quantize.m) * p.quantize.k) return;
    int const token = int(value / p.quantize.k), k = int(value % p.quantize.k);
    p.y[token * p.y_stride + k] = round_to_bf16(silu_mul_value(plain_value(p, token, k), plain_factor(p, token, k)));
}

}  // namespace w4ax
