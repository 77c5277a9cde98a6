// From exact sums to outputs: corrections, scales, bias, the one rounding.
#pragma once

#include "device.cuh"
#include "params.cuh"
#include "quantise.cuh"
#include "w4ax_kernels.h"

namespace w4ax {

// sw in f32, exact whatever its stored type. All lanes take the same branch.
W4AX_DEVICE float load_scale(void const* gScales, int scale_type, int64_t i) {
    if (scale_type == W4AXK_SCALE_F32) return static_cast<float const*>(gScales)[i];
    if (scale_type == W4AXK_SCALE_F16) return __half2float(static_cast<__half const*>(gScales)[i]);
    return __uint_as_float(uint32_t(static_cast<uint16_t const*>(gScales)[i]) << 16);
}

// What stands beside the weights of one row and group. The integers as floats: see group_product.
struct RowGroup {
    float scale;  // sw
    float sum;    // sum(qw - zw)
    float zero;   // zw
};

W4AX_DEVICE RowGroup load_row_group(GemmParams const& p, int64_t i) {
    RowGroup r;
    r.scale = load_scale(p.scales, p.scale_type, i);
    r.sum = exact_float(static_cast<int16_t const*>(p.sums)[i]);
    r.zero = p.zeros ? exact_float(p.zeros[i]) : 0.0f;
    return r;
}

// What stands beside the activations of one token and group.
struct TokenFactors {
    float scale;       // sa
    float minus_zero;  // -za
    float minus_sum;   // -sum qa
};

W4AX_DEVICE TokenFactors token_factors(TokenGroup const& t) {
    return {t.scale, -exact_float(zero_of(t)), -exact_float(sum_of(t))};
}

// acc + f32(d) * (sa * sw), d = sum qa*qw - za * sum(qw - zw) - zw * sum qa over a group of at most 128: |d| and all that
// leads to it are integers under 2^24 (128 * 255 * 16 and less), so f32 holds them exactly and its multiply-add does the
// work of integer arithmetic and of the conversion.
template <bool kAsymmetric>
W4AX_DEVICE float add_group(float acc, float dot, RowGroup const& row, TokenFactors const& token) {
    float d = __fmaf_rn(token.minus_zero, row.sum, dot);
    if constexpr (kAsymmetric) d = __fmaf_rn(row.zero, token.minus_sum, d);
    return __fmaf_rn(d, __fmul_rn(token.scale, row.scale), acc);
}

// The same for a whole row: d needs up to 28 bits and rounds once, in the conversion.
W4AX_DEVICE float channel_product(int dot, int row_sum, int row_zero, float row_scale, TokenGroup const& token) {
    int const d = dot - zero_of(token) * row_sum - row_zero * sum_of(token);
    return __fmaf_rn(float(d), __fmul_rn(token.scale, row_scale), 0.0f);
}

// Round to nearest even; every NaN becomes 0x7FFF.
W4AX_DEVICE uint16_t round_to_bf16(float v) {
    uint32_t const bits = __float_as_uint(v);
    return v != v ? 0x7FFF : uint16_t((bits + 0x7FFFu + ((bits >> 16) & 1)) >> 16);
}

W4AX_DEVICE uint16_t finish(float acc, float const* bias, int row) {
    return round_to_bf16(bias ? __fadd_rn(acc, bias[row]) : acc);
}

}  // namespace w4ax
