// SiLU in f32, with the rounding steps of src/numerics.rs: the exponential is a formula, so that every backend has the
// same bits.
#pragma once

#include "common/device.cuh"

namespace w4ax {

// Returns 2^n. n is the exponent of a normal number.
W4AX_DEVICE float power_of_two(int n) { return __uint_as_float(uint32_t(n + 127) << 23); }

// Returns e^v. A NaN stays NaN, which the comparisons keep.
W4AX_DEVICE float exp_f32(float v) {
    constexpr float kShift = 12582912.0f;     // 1.5 * 2^23: an addition rounds to an integer
    constexpr float kLog2E = 1.44269504f;     // log2(e)
    constexpr float kLn2High = 0.693359375f;  // ln 2 in two parts
    constexpr float kLn2Low = -2.12194440e-4f;
    v = v < -104.0f ? -104.0f : v;
    v = v > 89.0f ? 89.0f : v;
    float const shifted = __fmaf_rn(v, kLog2E, kShift), n = __fsub_rn(shifted, kShift);
    float const r = __fmaf_rn(n, -kLn2Low, __fmaf_rn(n, -kLn2High, v));
    float p = 1.98756915e-4f;
    p = __fmaf_rn(p, r, 1.3981999507e-3f);
    p = __fmaf_rn(p, r, 8.3334519073e-3f);
    p = __fmaf_rn(p, r, 4.1665795894e-2f);
    p = __fmaf_rn(p, r, 1.6666665459e-1f);
    p = __fmaf_rn(p, r, 5.0000001201e-1f);
    float const e = __fadd_rn(__fmaf_rn(p, __fmul_rn(r, r), r), 1.0f);
    // 2^n as two factors: only the second product rounds. The bits of `shifted` count from those of kShift. For a NaN
    // the exponent has no meaning, and the product is a NaN.
    int const exponent = int(__float_as_uint(shifted) - __float_as_uint(kShift));
    int const first = exponent >> 1;
    return __fmul_rn(__fmul_rn(e, power_of_two(first)), power_of_two(exponent - first));
}

W4AX_DEVICE float silu_f32(float v) { return __fdiv_rn(v, __fadd_rn(1.0f, exp_f32(-v))); }

}  // namespace w4ax
