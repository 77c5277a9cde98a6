// The reference kernel: the formulas of src/numerics.rs as written, in scalar code.
//
// Grid: ceil(M * N / kPlainThreads) blocks, one thread per output, channels fastest. Shared memory: none.
// Preconditions: rows of x aligned to 2 bytes. It shares only the weight layout with the fast kernels: no quantizer, no
// corrections, no fragments.
#pragma once

#include "common/device.cuh"
#include "common/kernel.cuh"
#include "common/params.cuh"
#include "common/ptx.cuh"
#include "gemm/epilogue.cuh"
#include "ops/latch.cuh"

namespace w4ax {

constexpr int kPlainThreads = 128;  // of a block

struct PlainConfig : KernelConfig {
    static constexpr Role kRole = Role::Gemm;
    static constexpr w4axk_family kFamily = W4AXK_PLAIN;
    static constexpr int kRows = 1, kTokens = 1, kLaunchThreads = kPlainThreads;
};

W4AX_DEVICE float plain_x(GemmParams const& p, int token, int k) {
    return __uint_as_float(uint32_t(static_cast<uint16_t const*>(p.x)[token * p.x_stride + k]) << 16);
}

// Returns qw[channel][k]: the inverse of the formula in layout.cuh.
W4AX_DEVICE int plain_weight(GemmParams const& p, int channel, int k) {
    int const row = channel % kTileN, g = row % 8, half = k % 64 / 32, t = k % 8 / 2;
    int const word = 4 * (4 * g + t) + 2 * half + row / 8;
    int const nibble = 4 * (k % 2) + 2 * (k % 32 / 16) + k % 16 / 8;
    int64_t const tile = int64_t(channel / kTileN) * p.k_tiles + k / kTileK;
    auto const* gTile = static_cast<uint32_t const*>(p.tiles) + tile * (kWeightTileBytes / 4);
    int const q = int(gTile[word] >> (4 * nibble) & 15);
    return q < 8 ? q : q - 16;
}

// The activations of one token and k from begin to end, quantized: code(x) = clamp(rint(x * inverse) + zero, 0, qmax).
struct PlainGrid {
    float scale, inverse, zero, qmax;
    bool is_zero;  // all codes are 0: the step is too small, or a value is not finite

    W4AX_DEVICE PlainGrid(GemmParams const& p, int token, int begin, int end) : qmax(float((1 << p.bits) - 1)) {
        float lo = 0.0f, hi = 0.0f;
        bool finite = true;
        for (int k = begin; k < end; ++k) {
            float const x = plain_x(p, token, k);
            lo = x < lo ? x : lo;
            hi = x > hi ? x : hi;
            finite = finite && (__float_as_uint(x) & 0x7F800000u) != 0x7F800000u;
        }
        float const step = __fsub_rn(__fdiv_rn(hi, qmax), __fdiv_rn(lo, qmax));
        is_zero = !finite || step < 5.421010862427522e-20f;  // 2^-64
        scale = !finite ? __uint_as_float(0x7FFFFFFFu) : is_zero ? 0.0f : step;
        inverse = is_zero ? 0.0f : __fdiv_rn(1.0f, step);
        zero = is_zero ? 0.0f : fminf(fmaxf(rintf(__fmul_rn(-lo, inverse)), 0.0f), qmax);
    }

    // Returns the code of x minus the code of zero.
    W4AX_DEVICE int centered(float x) const {
        if (is_zero) return 0;
        return int(fminf(fmaxf(rintf(__fmul_rn(x, inverse)) + zero, 0.0f), qmax)) - int(zero);
    }
};

// Returns w8[channel][k] of two-level weights.
W4AX_DEVICE int plain_w8(GemmParams const& p, int channel, int k) {
    int const word = p.steps[group_params_index(channel / kTileN, k >> p.step_shift, p.step_groups, channel % kTileN)];
    return (plain_weight(p, channel, k) + 8) * (word & 31) - (word >> 7);
}

// Returns an output of two-level weights before its rounding.
W4AX_DEVICE float plain_two_level(GemmParams const& p, int token, int channel) {
    float const sw = load_scale(p.scales, p.scale_type, channel), bias = p.bias ? p.bias[channel] : 0.0f;
    if (p.bits == 16) {
        float sum = 0.0f;
        for (int k = 0; k < p.k; ++k) sum = __fmaf_rn(plain_x(p, token, k), float(plain_w8(p, channel, k)), sum);
        return __fmaf_rn(sum, sw, bias);
    }
    PlainGrid const grid(p, token, 0, p.k);
    int d = 0;
    for (int k = 0; k < p.k; ++k) d += grid.centered(plain_x(p, token, k)) * plain_w8(p, channel, k);
    return __fmaf_rn(float(d), __fmul_rn(grid.scale, sw), bias);
}

// Returns an output of grouped weights before its rounding.
W4AX_DEVICE float plain_grouped(GemmParams const& p, int token, int channel) {
    int const length = p.group ? p.group : p.k;
    float acc = 0.0f;
    for (int group = 0; group < p.groups; ++group) {
        int const begin = group * length, end = begin + length < p.k ? begin + length : p.k;
        int64_t const params = group_params_index(channel / kTileN, group, p.groups, channel % kTileN);
        float const sw = load_scale(p.scales, p.scale_type, params);
        int const zw = p.zeros ? p.zeros[params] : 0;
        if (p.bits == 16) {
            float sum = 0.0f;
            for (int k = begin; k < end; ++k)
                sum = __fmaf_rn(plain_x(p, token, k), float(plain_weight(p, channel, k) - zw), sum);
            acc = __fmaf_rn(sum, sw, acc);
            continue;
        }
        PlainGrid const grid(p, token, begin, end);
        int d = 0;
        for (int k = begin; k < end; ++k) d += grid.centered(plain_x(p, token, k)) * (plain_weight(p, channel, k) - zw);
        acc = __fmaf_rn(float(d), __fmul_rn(grid.scale, sw), acc);
    }
    return p.bias ? __fadd_rn(acc, p.bias[channel]) : acc;
}

template <class C>
__global__ void __launch_bounds__(C::kLaunchThreads) plain_kernel(W4AX_GRID_CONSTANT RoutedParams const params) {
    ptx::wait_on_dependent_grids();
    GemmParams p = params.gemm;
    if (params.latched) p.bits = latched_bits(params.latched);
    int64_t const output = int64_t(blockIdx.x) * kPlainThreads + threadIdx.x;
    if (output >= int64_t(p.m) * p.n) return;
    int const token = int(output / p.n), channel = int(output % p.n);
    p.y[token * p.y_stride + channel] = round_to_bf16(p.steps ? plain_two_level(p, token, channel)
                                                              : plain_grouped(p, token, channel));
}

}  // namespace w4ax
