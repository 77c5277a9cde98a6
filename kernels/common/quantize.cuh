// Run-time quantization of activations: Eq. 2 of DyQ-VLA, with the rounding steps of src/numerics.rs.
//
// The unit of work is the octet: the 8 codes of 32 k that one lane of an mma holds (see layout.cuh). A lane loads it as
// four pairs of neighboring BF16 values, at k, k + 8, k + 16 and k + 24.
#pragma once

#include "common/device.cuh"
#include "common/layout.cuh"
#include "common/ptx.cuh"

namespace w4ax {

struct Octet {
    uint32_t pair[4];  // two BF16 each, the lower k in the low half
    int valid;         // k inside K, counted from the octet's first: value e of pair p is valid if 8p + e < valid
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

// Loads kPairs pairs of a row at k, k + kStep, ...; values beyond K are 0. If the row is aligned to 4 bytes and all
// pairs are in bounds, each pair takes one load.
template <int kPairs, int kStep>
W4AX_DEVICE void load_pairs(uint16_t const* gX_row, int k, int k_end, bool aligned, uint32_t* pairs) {
    if (aligned && k + (kPairs - 1) * kStep + 2 <= k_end) {
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

W4AX_DEVICE Octet load_octet(uint16_t const* gX_row, int k, int k_end, bool aligned) {
    Octet octet;
    load_pairs<4, 8>(gX_row, k, k_end, aligned, octet.pair);
    octet.valid = k_end - k;
    return octet;
}

// ---- the range of a group

// The range of some values and 0, as two BF16: max(0, x) and max(0, -x). Either is NaN if any value is NaN. BF16 min
// and max are exact, so the order of reduction does not matter.
using Extremes = uint32_t;

W4AX_DEVICE Extremes merge(Extremes a, Extremes b) { return as_u32(__hmax2_nan(as_bf162(a), as_bf162(b))); }
W4AX_DEVICE uint32_t merge_min(uint32_t a, uint32_t b) { return as_u32(__hmin2_nan(as_bf162(a), as_bf162(b))); }

// Combines the maxima and the minima of the two halves of pairs.
W4AX_DEVICE Extremes extremes_of(uint32_t max2, uint32_t min2) {
    uint32_t const negated = min2 ^ 0x80008000u;  // flips both signs
    return merge(__byte_perm(max2, negated, 0x5410), __byte_perm(max2, negated, 0x7632));
}

W4AX_DEVICE Extremes extremes_of(Octet const& octet) {
    uint32_t max2 = 0, min2 = 0;
    CUTE_UNROLL
    for (int p = 0; p < 4; ++p) {
        max2 = merge(max2, octet.pair[p]);
        min2 = merge_min(min2, octet.pair[p]);
    }
    return extremes_of(max2, min2);
}

// Returns the range of the part of a row that one of `count` threads scans: pairs thread + i * count.
W4AX_DEVICE Extremes scan_row(uint16_t const* gX_row, int k_end, bool aligned, int thread, int count) {
    uint32_t max2 = 0, min2 = 0;
    for (int k = 2 * thread; k < k_end; k += 8 * count) {
        uint32_t pairs[4];  // four loads are in flight at a time
        CUTE_UNROLL
        for (int i = 0; i < 4; ++i) load_pairs<1, 1>(gX_row, k + 2 * i * count, k_end, aligned, pairs + i);
        CUTE_UNROLL
        for (int i = 0; i < 4; ++i) {
            max2 = merge(max2, pairs[i]);
            min2 = merge_min(min2, pairs[i]);
        }
    }
    return extremes_of(max2, min2);
}

W4AX_DEVICE Extremes warp_extremes(Extremes e) {
    CUTE_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) e = merge(e, __shfl_xor_sync(kAllLanes, e, distance));
    return e;
}

// Calls `combine` with the lane distances of a butterfly reduction over a group; with none for kGroup = 0. The octets
// of a token lie on neighboring lanes: octet 2t + h on lane 2t + h (mod 8).
template <int kGroup, class Combine>
W4AX_DEVICE void for_group_distances(Combine combine) {
    if constexpr (kGroup >= 64) combine(1);  // h: a group of 32 has a single h
    if constexpr (kGroup >= 32) {
        combine(2);
        combine(4);
    }
    if constexpr (kGroup == 128) combine(8);
}

template <int kGroup>
W4AX_DEVICE Extremes group_extremes(Extremes e) {
    for_group_distances<kGroup>([&](int distance) { e = merge(e, __shfl_xor_sync(kAllLanes, e, distance)); });
    return e;
}

template <int kGroup>
W4AX_DEVICE int group_sum(int sum) {
    for_group_distances<kGroup>([&](int distance) { sum += __shfl_xor_sync(kAllLanes, sum, distance); });
    return sum;
}

// ---- codes

// 1.5 * 2^23. Adding it to an f32 of magnitude up to 2^22 rounds that to an integer, ties to even, and leaves the
// integer in the low mantissa bits. The reverse converts an integer to f32. Both are exact and faster than the
// conversion instructions, which have a quarter of the throughput.
constexpr float kRound = 12582912.0f;
constexpr uint32_t kRoundBits = 0x4B400000u;

W4AX_DEVICE int round_to_int(float v) { return int(__float_as_uint(__fadd_rn(v, kRound)) - kRoundBits); }
// Requires |v| <= 2^22.
W4AX_DEVICE float exact_float(int v) { return __fsub_rn(__uint_as_float(uint32_t(v) + kRoundBits), kRound); }

// The mapping from the values of one token and group to codes.
struct Quantizer {
    float scale;    // sa: 0 if the group counts as all zero, NaN if a value is not finite
    float inverse;  // 1 / sa; 0 in both of these cases
    int zero;       // za
};

// Returns v / levels, rounded to nearest even, for a BF16 v >= 0 and 3, 15 or 255 levels. It multiplies by the
// reciprocal in two parts, which is exact for every such v unless the result is under 1e-30 (emulate/tests/quantize.cpp
// checks all values). There the last bit may be off, which has no effect: either the step is so small that it counts as
// zero, or its last bit is far above.
W4AX_DEVICE float over_levels(float v, int levels) {
    float const high = levels == 255 ? 0x1.010102p-8f : levels == 15 ? 0x1.111112p-4f : 0x1.555556p-2f;
    float const low = levels == 255 ? -0x1.fdfdfep-33f : levels == 15 ? -0x1.dddddep-29f : -0x1.555556p-27f;
    return __fmaf_rn(v, high, __fmul_rn(v, low));
}

W4AX_DEVICE Quantizer quantizer_of(Extremes e, int levels) {
    // hi = max(0, max x) and -lo = max(0, -min x). If either is infinite or NaN, so is the step.
    float const hi = low_bf16(e), minus_lo = high_bf16(e);
    // The step is hi/qmax - lo/qmax, computed as an addition because -lo is given.
    float const step = __fadd_rn(over_levels(hi, levels), over_levels(minus_lo, levels));
    // 2^-64. For NaN, both comparisons are false.
    bool const too_small = step < 5.421010862427522e-20f, counts = step >= 5.421010862427522e-20f;
    float const inverse = counts ? __frcp_rn(step) : 0.0f;
    // At most `levels`: -lo * inverse exceeds qmax by less than a half.
    int const zero = counts ? round_to_int(__fmul_rn(minus_lo, inverse)) : 0;
    return {counts ? step : too_small ? 0.0f : __uint_as_float(0x7FFFFFFFu), inverse, zero};
}

// The codes of an octet, one byte each: quad[odd], byte 2e + c.
struct OctetCodes {
    uint32_t quad[2];
};

W4AX_DEVICE OctetCodes codes_of(Octet const& octet, Quantizer const& q, int levels) {
    // For a finite x, |x * inverse| exceeds qmax only slightly, well within the range of round_to_int. x >= lo implies
    // rint(x * inverse) >= -za, so no code is negative. Rounding of hi and lo away from zero can produce levels + 1 at
    // most, which is clamped below. The codes of a non-finite x are arbitrary: the scale, and so the result, is NaN.
    uint32_t const zero = uint32_t(q.zero) - kRoundBits;
    auto const unclamped = [&](float x) {
        return int(__float_as_uint(__fadd_rn(__fmul_rn(x, q.inverse), kRound)) + zero);
    };
    OctetCodes codes;
    CUTE_UNROLL
    for (int odd = 0; odd < 2; ++odd) {
        uint32_t const first = octet.pair[odd], second = octet.pair[2 + odd];  // c = 0, 1
        uint32_t quad = ptx::pack_u8x4(unclamped(low_bf16(first)), unclamped(low_bf16(second)),
                                       unclamped(high_bf16(first)), unclamped(high_bf16(second)));
        // Packing saturates at 255. At fewer levels, the bit above the code marks levels + 1.
        if (levels < 255) quad -= (quad >> __popc(unsigned(levels))) & 0x01010101u;
        codes.quad[odd] = quad;
    }
    // k beyond K gets code 0, not the code of zero, because the sums count valid k only.
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

W4AX_DEVICE int sum_of(OctetCodes const& codes) {
    return int(__dp4a(codes.quad[0], 0x01010101u, __dp4a(codes.quad[1], 0x01010101u, 0u)));
}

// Returns the 4-bit word of an octet.
W4AX_DEVICE uint32_t nibbles_of(OctetCodes const& codes) { return codes.quad[0] | codes.quad[1] << 4; }

// Stores the codes of octet number `octet` of a tile, kBits bytes.
template <int kBits>
W4AX_DEVICE void store_octet(void* tile, int octet, OctetCodes const& codes) {
    if constexpr (kBits == 8)
        static_cast<uint2*>(tile)[octet] = make_uint2(codes.quad[0], codes.quad[1]);
    else
        static_cast<uint32_t*>(tile)[octet] = nibbles_of(codes);
}

// One lane's octet of a quantized group.
struct QuantizedOctet {
    OctetCodes codes;
    Quantizer quantizer;
};

// Quantizes a group, of which each lane holds an octet. All lanes of the warp call it.
template <int kGroup>
W4AX_DEVICE QuantizedOctet quantize_group(Octet const& x, int levels) {
    Quantizer const q = quantizer_of(group_extremes<kGroup>(extremes_of(x)), levels);
    return {codes_of(x, q, levels), q};
}

}  // namespace w4ax
