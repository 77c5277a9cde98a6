// Run-time quantisation of activations: DyQ-VLA's Eq. 2, with the rounding steps of src/numerics.rs.
//
// The unit of work is the octet: the 8 codes that one lane of an mma takes from 32 k (see layout.cuh), as four pairs of
// neighbouring BF16 values at k, k + 8, k + 16 and k + 24.
#pragma once

#include "device.cuh"
#include "layout.cuh"

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

W4AX_DEVICE Extremes extremes_of(Octet const& octet) {
    uint32_t most = 0, least = 0;
    CUTE_UNROLL
    for (int p = 0; p < 4; ++p) {
        most = merge(most, octet.pair[p]);
        least = merge(least, octet.pair[p] ^ 0x80008000u);  // both signs turned
    }
    // The two halves of `most` and of `least` meet in one word each.
    return merge(__byte_perm(most, least, 0x5410), __byte_perm(most, least, 0x7632));
}

// Octets of one token are spread over neighbouring lanes, octet number o = 2t + h on lane o (mod 8). Calls `combine` with the
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
            least = merge(least, pairs[i] ^ 0x80008000u);
        }
    }
    return merge(__byte_perm(most, least, 0x5410), __byte_perm(most, least, 0x7632));
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
struct Quantiser {
    float scale;    // sa: 0 if all counts as zero, NaN if a value is not finite
    float inverse;  // 0 in both cases
    int zero;       // za
};

W4AX_DEVICE Quantiser quantiser_of(Extremes e, int levels) {
    // hi = max(0, max x) and -lo = max(0, -min x). An infinity or a NaN has all exponent bits set; the maxima keep a NaN.
    bool const finite = (e & 0x7F80u) != 0x7F80u && (e & 0x7F800000u) != 0x7F800000u;
    float const hi = low_bf16(e), minus_lo = high_bf16(e), qmax = float(levels);
    // hi/qmax - lo/qmax: with -lo in hand the subtraction is an addition of the same numbers.
    float const step = __fadd_rn(__fdiv_rn(hi, qmax), __fdiv_rn(minus_lo, qmax));
    if (!finite) return {__uint_as_float(0x7FFFFFFFu), 0.0f, 0};
    if (step < 5.421010862427522e-20f) return {0.0f, 0.0f, 0};  // 2^-64
    float const inverse = __fdiv_rn(1.0f, step);
    int const zero = round_to_int(__fmul_rn(minus_lo, inverse));
    return {step, inverse, zero < levels ? zero : levels};
}

W4AX_DEVICE uint32_t code_of(float x, Quantiser const& q, int levels) {
    // |x * inverse| is at most qmax and a little, well inside round_to_int. Where x is not finite the result is any code:
    // the scale is NaN then, and so is whatever is computed.
    int const code = round_to_int(__fmul_rn(x, q.inverse)) + q.zero;
    return uint32_t(code < 0 ? 0 : code > levels ? levels : code);
}

// The codes of an octet, a byte each: quad[odd], byte 2e + c.
struct Codes {
    uint32_t quad[2];
};

W4AX_DEVICE Codes codes_of(Octet const& octet, Quantiser const& q, int levels) {
    Codes codes;
    CUTE_UNROLL
    for (int odd = 0; odd < 2; ++odd) {
        uint32_t quad = 0;
        CUTE_UNROLL
        for (int c = 0; c < 2; ++c) {
            int const p = 2 * c + odd;
            // k beyond K gets code 0, not the code of zero: sums run over valid k only.
            if (8 * p < octet.valid) quad |= code_of(low_bf16(octet.pair[p]), q, levels) << (8 * c);
            if (8 * p + 1 < octet.valid) quad |= code_of(high_bf16(octet.pair[p]), q, levels) << (8 * (2 + c));
        }
        codes.quad[odd] = quad;
    }
    return codes;
}

W4AX_DEVICE int sum_of(Codes const& codes) {
    return int(__dp4a(codes.quad[0], 0x01010101u, __dp4a(codes.quad[1], 0x01010101u, 0u)));
}

// The 4-bit word of an octet.
W4AX_DEVICE uint32_t nibbles_of(Codes const& codes) { return codes.quad[0] | codes.quad[1] << 4; }

}  // namespace w4ax
