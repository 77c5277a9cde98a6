// From exact sums to outputs: corrections, scales, bias, the one rounding.
#pragma once

#include "common/device.cuh"
#include "common/params.cuh"
#include "common/quantize.cuh"
#include "api/w4ax_kernels.h"

namespace w4ax {

// sw in f32, exact whatever its stored type. All lanes take the same branch.
W4AX_DEVICE float half_scale(uint16_t bits, int scale_type) {
    return scale_type == W4AXK_SCALE_F16 ? __half2float(__ushort_as_half(bits)) : __uint_as_float(uint32_t(bits) << 16);
}

W4AX_DEVICE float load_scale(void const* gScales, int scale_type, int64_t i) {
    if (scale_type == W4AXK_SCALE_F32) return static_cast<float const*>(gScales)[i];
    return half_scale(static_cast<uint16_t const*>(gScales)[i], scale_type);
}

W4AX_HOST_DEVICE constexpr int scale_bytes(int scale_type) { return scale_type == W4AXK_SCALE_F32 ? 4 : 2; }

// A row's scale without a branch: the word that it lies in, loaded as it is, and then its bytes where an f32 has them. Rows an even
// number further on have theirs in the same half of a word.
struct ScaleWord {
    int at;             // bytes from the scale of row 0 to the word
    uint32_t selector;  // of __byte_perm: what there is of the scale, to the upper end of a word

    W4AX_DEVICE ScaleWord(int row, int scale_type)
        : at(row * scale_bytes(scale_type) & ~3), selector(scale_type == W4AXK_SCALE_F32 ? 0x3210 : row % 2 ? 0x3244 : 0x1044) {}

    W4AX_DEVICE float convert(uint32_t loaded, int scale_type) const {
        uint32_t const word = __byte_perm(loaded, 0, selector);
        float const f16 = __half2float(__ushort_as_half(uint16_t(word >> 16)));
        return scale_type == W4AXK_SCALE_F16 ? f16 : __uint_as_float(word);
    }
};

// What stands beside the weights of one row and group. The integers as floats: see group_product.
struct RowGroup {
    float scale;  // sw
    float sum;    // sum(qw - zw)
    float zero;   // zw
};

// The same as it lies in memory: converting it would wait for the loads.
struct RawRowGroup {
    uint32_t scale;  // an f32, or the 16-bit one and its neighbor
    int sum, zero;
};

// Where the RowGroups of one row lie, that of group 0 first.
struct RowPlace {
    unsigned char const* gScale;  // the word that holds it
    int16_t const* gSum;
    int8_t const* gZero;
    ScaleWord word;

    // The row's index in the arrays for group 0.
    W4AX_DEVICE RowPlace(GemmParams const& p, int64_t i) : word(int(i % kTileN), p.scale_type) {
        gScale = static_cast<unsigned char const*>(p.scales) + i / kTileN * kTileN * scale_bytes(p.scale_type) + word.at;
        gSum = static_cast<int16_t const*>(p.sums) + i;
        // Loads without a branch: what is not there is read as something else, and not used.
        gZero = (p.zeros ? p.zeros : static_cast<int8_t const*>(p.scales)) + i;
    }

    W4AX_DEVICE RawRowGroup load(GemmParams const& p, int group) const {
        int const i = group * kTileN;
        return {*reinterpret_cast<uint32_t const*>(gScale + int64_t(i) * scale_bytes(p.scale_type)), gSum[i], gZero[i]};
    }

    W4AX_DEVICE RowGroup convert(GemmParams const& p, RawRowGroup const& raw) const {
        return {word.convert(raw.scale, p.scale_type), exact_float(raw.sum), p.zeros ? exact_float(raw.zero) : 0.0f};
    }
};

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

// What stands beside the weights of a channel that has one scale.
struct ChannelFactors {
    float scale;  // sw
    int sum;      // sum(qw - zw)
    int zero;     // zw
};

// With one group [ceil(N/16)][1][16] is a row of channels.
W4AX_DEVICE float channel_scale(GemmParams const& p, int channel) { return load_scale(p.scales, p.scale_type, channel); }

W4AX_DEVICE ChannelFactors channel_factors(GemmParams const& p, int channel) {
    return {channel_scale(p, channel), static_cast<int32_t const*>(p.sums)[channel], p.zeros ? p.zeros[channel] : 0};
}

// The same for a whole row: d needs up to 28 bits and rounds once, in the conversion.
W4AX_DEVICE float channel_product(int dot, ChannelFactors const& row, TokenGroup const& token) {
    int const d = dot - zero_of(token) * row.sum - row.zero * sum_of(token);
    return __fmaf_rn(float(d), __fmul_rn(token.scale, row.scale), 0.0f);
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
