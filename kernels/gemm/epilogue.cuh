// The epilogue arithmetic: from exact sums to outputs, through zero points, scales, bias and a single rounding.
#pragma once

#include "api/w4ax_kernels.h"
#include "common/device.cuh"
#include "common/params.cuh"
#include "common/quantize.cuh"

namespace w4ax {

// ---- weight scales

// Converts a 16-bit scale to f32, which is exact. The branch is uniform.
W4AX_DEVICE float half_scale(uint16_t bits, int scale_type) {
    return scale_type == W4AXK_SCALE_F16 ? __half2float(__ushort_as_half(bits)) : __uint_as_float(uint32_t(bits) << 16);
}

W4AX_DEVICE float load_scale(void const* gScales, int scale_type, int64_t i) {
    if (scale_type == W4AXK_SCALE_F32) return static_cast<float const*>(gScales)[i];
    return half_scale(static_cast<uint16_t const*>(gScales)[i], scale_type);
}

W4AX_HOST_DEVICE constexpr int scale_bytes(int scale_type) { return scale_type == W4AXK_SCALE_F32 ? 4 : 2; }

// Converts a row's scale of any type without a branch: it loads the word that contains the scale, and moves the scale
// to the upper end of a word. Rows at an even distance lie in the same half of their words.
struct ScaleWord {
    int at;             // bytes from the scale of row 0 to the word
    uint32_t selector;  // of __byte_perm

    W4AX_DEVICE ScaleWord(int row, int scale_type)
        : at(row * scale_bytes(scale_type) & ~3),
          selector(scale_type == W4AXK_SCALE_F32 ? 0x3210
                   : row % 2                     ? 0x3244
                                                 : 0x1044) {}

    W4AX_DEVICE float convert(uint32_t loaded, int scale_type) const {
        uint32_t const word = __byte_perm(loaded, 0, selector);
        float const f16 = __half2float(__ushort_as_half(uint16_t(word >> 16)));
        return scale_type == W4AXK_SCALE_F16 ? f16 : __uint_as_float(word);
    }
};

// ---- groups

// The parameters of one output channel and group of weights. The integers are stored as floats, see add_group.
struct GroupParams {
    float scale;  // sw
    float sum;    // sum(qw - zw)
    float zero;   // zw
};

// GroupParams as loaded from memory. Converting them would wait for the loads.
struct RawGroupParams {
    uint32_t scale;  // an f32, or the 16-bit scale and its neighbor
    int sum, zero;
};

// Loads the GroupParams of one output channel.
struct GroupParamsSource {
    unsigned char const* gScale;  // the word that contains the scale of group 0
    int16_t const* gSum;          // of group 0
    int8_t const* gZero;          // of group 0
    ScaleWord word;

    // `i`: the channel's index in the parameter arrays, for group 0.
    W4AX_DEVICE GroupParamsSource(GemmParams const& p, int64_t i) : word(int(i % kTileN), p.scale_type) {
        gScale = static_cast<unsigned char const*>(p.scales) + i / kTileN * kTileN * scale_bytes(p.scale_type) +
                 word.at;
        gSum = static_cast<int16_t const*>(p.sums) + i;
        // Symmetric weights have no zeros. A readable address in their place avoids a branch at each load.
        gZero = (p.zeros ? p.zeros : static_cast<int8_t const*>(p.scales)) + i;
    }

    W4AX_DEVICE RawGroupParams load(GemmParams const& p, int group) const {
        int const i = group * kTileN;
        auto const* const gWord = reinterpret_cast<uint32_t const*>(gScale + int64_t(i) * scale_bytes(p.scale_type));
        return {*gWord, gSum[i], gZero[i]};
    }

    W4AX_DEVICE GroupParams convert(GemmParams const& p, RawGroupParams const& raw) const {
        float const scale = word.convert(raw.scale, p.scale_type);
        return {scale, exact_float(raw.sum), p.zeros ? exact_float(raw.zero) : 0.0f};
    }
};

// The TokenParams of one token and group, in the form that add_group takes.
struct TokenFactors {
    float scale;       // sa
    float minus_zero;  // -za
    float minus_sum;   // -sum qa
};

W4AX_DEVICE TokenFactors token_factors(TokenParams const& t) {
    return {t.scale, -exact_float(zero_of(t)), -exact_float(sum_of(t))};
}

// Returns acc + f32(d) * (sa * sw) with d = sum qa*qw - za * sum(qw - zw) - zw * sum qa over a group of at most 128.
// |d| and all intermediate values are integers under 2^24 (at most 128 * 255 * 16), so f32 holds them exactly. One f32
// multiply-add then replaces integer arithmetic and a conversion.
template <bool kAsymmetric>
W4AX_DEVICE float add_group(float acc, float dot, GroupParams const& group, TokenFactors const& token) {
    float d = __fmaf_rn(token.minus_zero, group.sum, dot);
    if constexpr (kAsymmetric) d = __fmaf_rn(group.zero, token.minus_sum, d);
    return __fmaf_rn(d, __fmul_rn(token.scale, group.scale), acc);
}

// ---- whole rows

// The parameters of an output channel that has one scale.
struct ChannelParams {
    float scale;  // sw
    int sum;      // sum(qw - zw)
    int zero;     // zw
};

// With one group, the array [ceil(N/16)][1][16] is indexed by the channel.
W4AX_DEVICE float channel_scale(GemmParams const& p, int channel) {
    return load_scale(p.scales, p.scale_type, channel);
}

W4AX_DEVICE ChannelParams channel_params(GemmParams const& p, int channel) {
    return {channel_scale(p, channel), static_cast<int32_t const*>(p.sums)[channel], p.zeros ? p.zeros[channel] : 0};
}

// Returns the product of add_group for a whole row. d needs up to 28 bits and is rounded once, by the conversion.
W4AX_DEVICE float channel_product(int dot, ChannelParams const& channel, TokenParams const& token) {
    int const d = dot - zero_of(token) * channel.sum - channel.zero * sum_of(token);
    return __fmaf_rn(float(d), __fmul_rn(token.scale, channel.scale), 0.0f);
}

// ---- outputs

// Rounds to nearest even. Every NaN becomes 0x7FFF.
W4AX_DEVICE uint16_t round_to_bf16(float v) {
    uint32_t const bits = __float_as_uint(v);
    return v != v ? 0x7FFF : uint16_t((bits + 0x7FFFu + ((bits >> 16) & 1)) >> 16);
}

// Returns the bias of a channel, 0 without a bias.
W4AX_DEVICE float load_bias(GemmParams const& p, int channel) { return p.bias ? p.bias[channel] : 0.0f; }

// Adds the bias that load_bias has returned. Without one, the sign of a zero stays.
W4AX_DEVICE float add_bias(GemmParams const& p, float acc, float bias) { return p.bias ? __fadd_rn(acc, bias) : acc; }

// Returns the output of a whole row before its rounding, from the exact sum of products, and from a BF16 sum. Two-level
// weights round once with the bias: |d| <= 255 * 127 * 65536 < 2^31.
template <class C>
W4AX_DEVICE float row_output(GemmParams const& p, int dot, ChannelParams const& channel, TokenParams const& token,
                             float bias) {
    if constexpr (C::kTwoLevel) {
        int const d = dot - zero_of(token) * channel.sum;
        return __fmaf_rn(float(d), __fmul_rn(token.scale, channel.scale), bias);
    } else {
        return add_bias(p, channel_product(dot, channel, token), bias);
    }
}
template <class C>
W4AX_DEVICE float bf16_row_output(GemmParams const& p, float sum, float scale, float bias) {
    if constexpr (C::kTwoLevel) return __fmaf_rn(sum, scale, bias);
    return add_bias(p, __fmaf_rn(sum, scale, 0.0f), bias);
}

}  // namespace w4ax
