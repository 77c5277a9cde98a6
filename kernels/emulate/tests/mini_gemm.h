// A small W4A8 GEMM in w4ax's tile layout with planted faults. It does what a prefill kernel does: cp.async stages,
// quantize in shared memory, ldmatrix, mma, rescale. With `none` it is right.
//
// y[M,N] = dequantized(u8(x)[M,K]) * (s4 w)[N,K]^T; activations by group of 64 along K, weights symmetric. A block of
// four warps computes 64 channels x 16 tokens. Weights are the A operand, tokens the B operand.
#pragma once

#include "test.h"

namespace mini {

using namespace cute;

enum Fault : int {
    none,
    no_barrier_after_quantizing,
    no_barrier_at_loop_top,
    no_wait,
    wait_off_by_one,
    no_commit,
    no_last_wait,
    overwrites_stage_being_read,
    reads_wrong_stage,
    copies_past_the_stages,
    copies_twice,
    wrong_fragment_order,
    wrong_shuffle_distance,
    wrong_shuffle_mask,
    no_row_predicate,
    stores_past_m,
    scale_column_off_by_one,
    reads_past_shared,
    scale_not_written,
    divergent_barrier,
    barrier_in_branch,
    warp_exits_early,
    lane_skips_mma,
    lane_skips_ldmatrix,
    misaligned_copy,
    blocks_write_same_output,
    count
};

constexpr int kBlockM = 16, kBlockN = 64, kBlockK = 64, kStages = 3, kThreads = 128;
constexpr int kTileWords = 128;  // 16 channels x 64 k of s4

struct Shared {
    alignas(16) bfloat16_t x[kStages][kBlockM * kBlockK];
    alignas(16) uint32_t w[kStages][kBlockN / 16 * kTileWords];
    alignas(16) uint8_t q[kBlockM * kBlockK];
    float scale[kBlockM];
    int zero[kBlockM];
};

struct Arguments {
    bfloat16_t const* x;    // [M,K]
    uint32_t const* tiles;  // [N/16][K/64][128]
    float const* scales;    // [K/64][N]
    int const* sums;        // [K/64][N] sum of qw
    bfloat16_t* y;          // [M,N]
    int m, n, k;
};

/// The position of code k in a token's 64 bytes of a k tile. It matches the even and odd nibbles of a weight word.
constexpr int slot_of(int k) {
    return 32 * (k >> 5) + 16 * ((k >> 3) & 1) + 4 * ((k >> 1) & 3) + 2 * (k & 1) + ((k >> 4) & 1);
}

inline void gemm_kernel(Arguments const a, Fault const F) {
    auto& shared = *static_cast<Shared*>(w4ax_emulate::dynamic_shared(16));
    int const thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    int const m0 = blockIdx.y * kBlockM, n0 = (F == blocks_write_same_output ? 0 : blockIdx.x) * kBlockN;
    int const groups = a.k / kBlockK;
    if (F == warp_exits_early && warp == 3 && blockIdx.y == 1) return;

    TiledMMA tiled = make_tiled_mma(SM80_16x8x32_S32S8U8S32_TN{}, Layout<Shape<_4, _1, _1>>{},
                                    Tile<_64, _16, _32>{});  // 4 warps along the channels; ldmatrix.x4 for 16 tokens
    auto part = tiled.get_slice(thread);
    Tensor sQ = make_tensor(make_smem_ptr(shared.q), Layout<Shape<_16, _64>, Stride<_64, _1>>{});  // (token,slot)
    // (MMA,1,2) -> (channel,token)
    Tensor cC = part.partition_C(make_identity_tensor(Shape<Int<kBlockN>, Int<kBlockM>>{}));
    Tensor rC = make_tensor<int32_t>(shape(cC));                          // (MMA,1,2)
    Tensor rY = make_tensor<float>(shape(cC));                            // (MMA,1,2)
    Tensor rB = part.partition_fragment_B(sQ);                            // (MMA,2,2)
    Tensor rA = make_tensor<int8_t>(Shape<Shape<_4, _2, _2>, _1, _2>{});  // (MMA,1,2)
    TiledCopy loader = make_tiled_copy_B(Copy_Atom<SM75_U32x4_LDSM_N, uint8_t>{}, tiled);
    auto load = loader.get_slice(thread);
    Tensor sB = load.partition_S(sQ);  // (CPY,1,2)
    Tensor rBv = load.retile_D(rB);    // (CPY,1,2)
    clear(rY);

    auto issue = [&](int group, int stage) {
        // x: 16 rows of 128 bytes, 16 bytes per thread
        int const row = thread / 8, chunk = thread % 8;
        bool const valid = F == no_row_predicate || m0 + row < a.m;
        auto const* source = a.x + (valid ? int64_t(m0 + row) * a.k + group * kBlockK + chunk * 8 : 0);
        auto* destination = &shared.x[stage][row * kBlockK + chunk * 8];
        if (F == misaligned_copy) source += 1;
        SM80_CP_ASYNC_CACHEGLOBAL_ZFILL<uint128_t>::copy(*reinterpret_cast<uint128_t const*>(source),
                                                         *reinterpret_cast<uint128_t*>(destination), valid);
        // weights: 4 tiles of 512 bytes, 16 bytes per thread
        int const tile = n0 / 16 + warp;
        auto const* words = a.tiles + (int64_t(tile) * groups + group) * kTileWords + lane * 4;
        int const to = F == copies_past_the_stages ? stage + 1 : stage;
        auto* place = &shared.w[0][0] + (to * 4 + warp) * kTileWords + lane * 4;
        SM80_CP_ASYNC_CACHEGLOBAL<uint128_t>::copy(*reinterpret_cast<uint128_t const*>(words),
                                                   *reinterpret_cast<uint128_t*>(place));
        if (F == copies_twice && lane == 7) {
            SM80_CP_ASYNC_CACHEGLOBAL<uint128_t>::copy(*reinterpret_cast<uint128_t const*>(words),
                                                       *reinterpret_cast<uint128_t*>(place));
        }
    };

    for (int stage = 0; stage < kStages - 1; ++stage) {
        if (stage < groups) issue(stage, stage);
        cp_async_fence();
    }
    for (int group = 0; group < groups; ++group) {
        int const stage = group % kStages;
        if (F == wait_off_by_one)
            cp_async_wait<kStages - 1>();
        else if (F != no_wait)
            cp_async_wait<kStages - 2>();
        // Each thread has waited for its own copies: all have arrived. All threads have read group - 1, whose stage is
        // reused.
        if (F != no_barrier_at_loop_top) __syncthreads();
        if (int const next = group + kStages - 1; next < groups) {
            issue(next, F == overwrites_stage_being_read ? stage : next % kStages);
        }
        if (F != no_commit) cp_async_fence();

        // Quantize: 8 threads per token, 8 consecutive k each.
        int const token = thread / 8, chunk = thread % 8;
        float v[8], low = 0, high = 0;
        for (int i = 0; i < 8; ++i) {
            int const past = F == reads_past_shared && group == 1 && thread == 127 ? int(sizeof(Shared) / 2) : 0;
            v[i] = float(shared.x[stage][token * kBlockK + chunk * 8 + i + past]);
            low = fminf(low, v[i]);
            high = fmaxf(high, v[i]);
        }
        for (int distance = 4; distance; distance >>= 1) {
            uint32_t const mask = F == wrong_shuffle_mask ? 0x7FFFFFFFu : w4ax_emulate::full_mask;
            low = fminf(low, __shfl_xor_sync(mask, low, F == wrong_shuffle_distance ? 2 * distance : distance));
            high = fmaxf(high, __shfl_xor_sync(mask, high, distance));
        }
        float const step = __fsub_rn(__fdiv_rn(high, 255.0f), __fdiv_rn(low, 255.0f));
        float const inverse = step > 0 ? __fdiv_rn(1.0f, step) : 0.0f;
        int const zero = __float2int_rn(__fmul_rn(-low, inverse));
        for (int i = 0; i < 8; ++i) {
            int const code = __float2int_rn(__fmul_rn(v[i], inverse)) + zero;
            shared.q[token * kBlockK + slot_of(chunk * 8 + i)] = uint8_t(code < 0 ? 0 : code > 255 ? 255 : code);
        }
        if (chunk == 0 && !(F == scale_not_written && token == 5)) {
            shared.scale[token] = step;
            shared.zero[token] = zero;
        }
        // Every warp reads the codes and scales of all tokens.
        if (F == divergent_barrier) {
            if (thread < 120) __syncthreads();
        } else if (F == barrier_in_branch) {
            if (warp < 2)
                __syncthreads();
            else
                __syncthreads();
        } else if (F != no_barrier_after_quantizing) {
            __syncthreads();
        }

        // 16 bytes of s4 per lane -> 16 * w in s8: even nibbles, then odd ones.
        int const from = F == reads_wrong_stage ? (stage + 1) % kStages : stage;
        Tensor rA32 = recast<uint32_t>(rA);  // (4,1,2)
        for (int h = 0; h < 2; ++h) {
            for (int i = 0; i < 2; ++i) {
                uint32_t const word = shared.w[from][warp * kTileWords + lane * 4 + 2 * h + i];
                int const even = F == wrong_fragment_order ? 2 * i : i,
                          odd = F == wrong_fragment_order ? 2 * i + 1 : i + 2;
                rA32(even, 0, h) = (word << 4) & 0xF0F0F0F0u;
                rA32(odd, 0, h) = word & 0xF0F0F0F0u;
            }
        }
        clear(rC);
        for (int h = 0; h < 2; ++h) {
            if (!(F == lane_skips_ldmatrix && lane == 9 && h == 1 && group == 1))
                copy(loader, sB(_, _, h), rBv(_, _, h));
            if (F == lane_skips_mma && lane == 3 && h == 1 && group == 1) continue;
            gemm(tiled, rA(_, _, h), rB(_, _, h), rC);
        }
        for (int i = 0; i < size(rC); ++i) {
            int const channel = n0 + get<0>(cC(i)), row = get<1>(cC(i));
            int const at = group * a.n + channel + (F == scale_column_off_by_one);
            int const d = (rC(i) >> 4) - shared.zero[row] * __ldg(&a.sums[at]);
            rY(i) = __fmaf_rn(__int2float_rn(d), __fmul_rn(shared.scale[row], __ldg(&a.scales[at])), rY(i));
        }
    }
    if (F != no_last_wait && F != no_wait) cp_async_wait<0>();
    if (F == no_last_wait) issue(0, 0);
    for (int i = 0; i < size(rY); ++i) {
        int const channel = n0 + get<0>(cC(i)), row = m0 + get<1>(cC(i));
        if (row < a.m || F == stores_past_m) a.y[int64_t(row) * a.n + channel] = bfloat16_t(rY(i));
    }
}

}  // namespace mini
