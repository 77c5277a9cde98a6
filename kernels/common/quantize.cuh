// Run-time quantization of activations: DyQ-VLA's Eq. 2, with the rounding steps of src/numerics.rs.
//
// The unit of work is the octet: the 8 codes that one lane of an mma takes from 32 k (see layout.cuh), as four pairs of
// neighboring BF16 values at k, k + 8, k + 16 and k + 24.
#pragma once

#include "common/device.cuh"
#include "common/layout.cuh"
#include "common/ptx.cuh"

namespace w4ax {

struct Octet {
    uint32_t pair[4];  // two BF16 each, the lower k in the low half
    int valid;         // how many k from the octet's first one are inside K: value e of pair p is, if 8p + e < valid
};

W4AX_DEVICE __nv_bfloat162 as_bf162(uint32_t v) {
    __nv_bfloat162 r;
    memcpy(&r, &v, sizeof r);
    return r;
}
W4AX_DEVICE uint32_t as_u32(__nv_bfloat162 v) {
    uint32_t r;
    memcpy(&r, &v, sizeof r);
    return r;
}
W4AX_DEVICE float low_bf16(uint32_t pair) { return __uint_as_float(pair << 16); }
W4AX_DEVICE float high_bf16(uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000u); }

// kPairs pairs of a row, at k, k + kStep, ...; 0 where k is not inside K. One test for all: rows that are aligned to 4 bytes
// take a load a pair, except at their end.
template <int kPairs, int kStep>
W4AX_DEVICE void load_pairs(uint16_t const* gX_row, int k, int k_end, bool vectors, uint32_t* pairs) {
    if (vectors && k + (kPairs - 1) * kStep + 2 <= k_end) {
        CUTE_UNROLL
        for (int p = 0; p < kPairs; ++p) pairs[p] = *reinterpret_cast<uint32_t const*>(gX_row + k + p * kStep);
    } else {
        CUTE_UNROLL
        for (int p = 0; p < kPairs; ++p) {
            int const at = k + p * kStep;
            uint32_t const low = at < k_end ? gX_row[at] : 0, high = at + 1 < k_end ? gX_row[at + 1] : 0;
            pairs[p] = low | high << 16;
        }
    }
}

W4AX_DEVICE Octet load_octet(uint16_t const* gX_row, int k, int k_end, bool vectors) {
    Octet octet;
    load_pairs<4, 8>(gX_row, k, k_end, vectors, octet.pair);
    octet.valid = k_end - k;
    return octet;
}

// The extremes of some values and 0: (max(0, x), max(0, -x)) as two BF16, either one NaN if there was a NaN. min and max over
// BF16 are exact, so they can be taken in any order.
using Extremes = uint32_t;

W4AX_DEVICE Extremes merge(Extremes a, Extremes b) { return as_u32(__hmax2_nan(as_bf162(a), as_bf162(b))); }

// From the maxima and the minima of pairs: the two halves of either meet in one word each.
W4AX_DEVICE Extremes extremes_of(uint32_t most, uint32_t least) {
    uint32_t const turned = least ^ 0x80008000u;  // both signs
    return merge(__byte_perm(most, turned, 0x5410), __byte_perm(most, turned, 0x7632));
}

W4AX_DEVICE uint32_t merge_least(uint32_t a, uint32_t b) { return as_u32(__hmin2_nan(as_bf162(a), as_bf162(b))); }

W4AX_DEVICE Extremes extremes_of(Octet const& octet) {
    uint32_t most = 0, least = 0;
    CUTE_UNROLL
    for (int p = 0; p < 4; ++p) {
        most = merge(most, octet.pair[p]);
        least = merge_least(least, octet.pair[p]);
    }
    return extremes_of(most, least);
}

// Octets of one token are spread over neighboring lanes, octet number o = 2t + h on lane o (mod 8). Calls `combine` with the
// lane distances that gather a group, or nothing for kGroup = 0.
template <int kGroup, class Combine>
W4AX_DEVICE void over_group_lanes(Combine combine) {
    if constexpr (kGroup >= 64) combine(1);  // h: a group of 32 has one h only
    if constexpr (kGroup >= 32) {
        combine(2);
        combine(4);
    }
    if constexpr (kGroup == 128) combine(8);
}

// The extremes of what `count` threads see of a row: thread `thread` takes pairs thread + i * count.
W4AX_DEVICE Extremes scan_row(uint16_t const* gX_row, int k_end, bool vectors, int thread, int count) {
    uint32_t most = 0, least = 0;
    for (int k = 2 * thread; k < k_end; k += 8 * count) {
        // Four loads on their way at a time.
        uint32_t pairs[4];
        CUTE_UNROLL
        for (int i = 0; i < 4; ++i) load_pairs<1, 1>(gX_row, k + 2 * i * count, k_end, vectors, pairs + i);
        CUTE_UNROLL
        for (int i = 0; i < 4; ++i) {
            most = merge(most, pairs[i]);
            least = merge_least(least, pairs[i]);
        }
    }
    return extremes_of(most, least);
}

// The extremes of all lanes.
W4AX_DEVICE Extremes warp_extremes(Extremes e) {
    CUTE_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) e = merge(e, __shfl_xor_sync(kAllLanes, e, distance));
    return e;
}

template <int kGroup>
W4AX_DEVICE Extremes group_extremes(Extremes e) {
    over_group_lanes<kGroup>([&](int distance) { e = merge(e, __shfl_xor_sync(kAllLanes, e, distance)); });
    return e;
}

template <int kGroup>
W4AX_DEVICE int group_sum(int sum) {
    over_group_lanes<kGroup>([&](int distance) { sum += __shfl_xor_sync(kAllLanes, sum, distance); });
    return sum;
}

// 1.5 * 2^23: adding it to an f32 of magnitude up to 2^22 rounds that to an integer, ties to even, and leaves the integer in
// the low bits; taking its bits away from an integer's and subtracting it converts back. Exact, and cheaper than the
// conversion instructions, which run at a quarter of the rate.
constexpr float kRound = 12582912.0f;
constexpr uint32_t kRoundBits = 0x4B400000u;

W4AX_DEVICE int round_to_int(float v) { return int(__float_as_uint(__fadd_rn(v, kRound)) - kRoundBits); }
// |v| <= 2^22.
W4AX_DEVICE float exact_float(int v) { return __fsub_rn(__uint_as_float(uint32_t(v) + kRoundBits), kRound); }

// How the values of one token and group become codes.
struct Quantizer {
    float scale;    // sa: 0 if all counts as zero, NaN if a value is not finite
    float inverse;  // 0 in both cases
    int zero;       // za
};

// v / levels, rounded to nearest even, for a BF16 v >= 0 and levels of 3, 15 or 255: the reciprocal in two parts. Exact for every
// such v but where the result is under 1e-30 (emulate/tests/quantize.cpp goes through all of them). There it may be
// off by its last bit, which does not show: a step is that small and counts as zero, or has the last bit far above.
W4AX_DEVICE float over_levels(float v, int levels) {
    float const high = levels == 255 ? 0x1.010102p-8f : levels == 15 ? 0x1.111112p-4f : 0x1.555556p-2f;
    float const low = levels == 255 ? -0x1.fdfdfep-33f : levels == 15 ? -0x1.dddddep-29f : -0x1.555556p-27f;
    return __fmaf_rn(v, high, __fmul_rn(v, low));
}

W4AX_DEVICE Quantizer quantizer_of(Extremes e, int levels) {
    // hi = max(0, max x) and -lo = max(0, -min x). An infinity or a NaN among them makes a NaN of the step.
    float const hi = low_bf16(e), minus_lo = high_bf16(e);
    // hi/qmax - lo/qmax: with -lo in hand the subtraction is an addition of the same numbers.
    float const step = __fadd_rn(over_levels(hi, levels), over_levels(minus_lo, levels));
    bool const too_small = step < 5.421010862427522e-20f, counts = step >= 5.421010862427522e-20f;  // 2^-64; neither: NaN
    float const inverse = counts ? __frcp_rn(step) : 0.0f;
    // At most `levels`: -lo * inverse is qmax and less than a half.
    int const zero = counts ? round_to_int(__fmul_rn(minus_lo, inverse)) : 0;
    return {counts ? step : too_small ? 0.0f : __uint_as_float(0x7FFFFFFFu), inverse, zero};
}

// The codes of an octet, a byte each: quad[odd], byte 2e + c.
struct Codes {
    uint32_t quad[2];
};

W4AX_DEVICE Codes codes_of(Octet const& octet, Quantizer const& q, int levels) {
    // Of a finite x: |x * inverse| is at most qmax and a little, well inside round_to_int, and x >= lo gives rint(x * inverse) >=
    // -za, so no code is negative. Upwards hi and lo may both be rounded away from zero: levels + 1 is the largest before
    // the clamp. Where x is not finite its codes are anything: the scale is NaN then, and so is whatever is computed.
    uint32_t const zero = uint32_t(q.zero) - kRoundBits;
    auto const unclamped = [&](float x) {
        return int(__float_as_uint(__fadd_rn(__fmul_rn(x, q.inverse), kRound)) + zero);
    };
    Codes codes;
    CUTE_UNROLL
    for (int odd = 0; odd < 2; ++odd) {
        uint32_t const first = octet.pair[odd], second = octet.pair[2 + odd];  // c = 0, 1
        uint32_t quad = ptx::pack_bytes(unclamped(low_bf16(first)), unclamped(low_bf16(second)), unclamped(high_bf16(first)),
                                        unclamped(high_bf16(second)));
        // Packing saturates at 255.
        if (levels < 255) quad -= (quad >> __popc(unsigned(levels))) & 0x01010101u;
        codes.quad[odd] = quad;
    }
    // k beyond K gets code 0, not the code of zero: sums run over valid k only.
    if (octet.valid < 26) {
        CUTE_UNROLL
        for (int odd = 0; odd < 2; ++odd) {
            uint32_t keep = 0;
            CUTE_UNROLL
            for (int byte = 0; byte < 4; ++byte)
                if (8 * (2 * (byte % 2) + odd) + byte / 2 < octet.valid) keep |= 0xFFu << (8 * byte);
            codes.quad[odd] &= keep;
        }
    }
    return codes;
}

W4AX_DEVICE int sum_of(Codes const& codes) {
    return int(__dp4a(codes.quad[0], 0x01010101u, __dp4a(codes.quad[1], 0x01010101u, 0u)));
}

// The 4-bit word of an octet.
W4AX_DEVICE uint32_t nibbles_of(Codes const& codes) { return codes.quad[0] | codes.quad[1] << 4; }

}  // namespace w4ax
