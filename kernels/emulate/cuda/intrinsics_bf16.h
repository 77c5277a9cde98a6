// BF16 arithmetic that CUDA's header implements on the device only.
#pragma once

#include <cmath>
#include <cstring>
#include <cuda_bf16.h>

namespace w4ax_emulate {

/// Returns a * b + c, rounded once. The product is exact in double. The sum is rounded to odd in double, so that the
/// second rounding, to fewer bits, has the result of rounding the exact sum.
inline __nv_bfloat16 fma_bf16(float a, float b, float c) {
    double const product = double(a) * double(b);
    double sum = product + double(c);
    double const part = sum - product;
    double const lost = (product - (sum - part)) + (double(c) - part);
    if (std::isfinite(sum) && lost != 0) {
        std::uint64_t bits;
        std::memcpy(&bits, &sum, 8);
        if (!(bits & 1)) sum = std::nextafter(sum, lost > 0 ? INFINITY : -INFINITY);
    }
    return __double2bfloat16(sum);
}

}  // namespace w4ax_emulate

inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
    return w4ax_emulate::fma_bf16(__bfloat162float(a), __bfloat162float(b), __bfloat162float(c));
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
    return __halves2bfloat162(__hfma(__low2bfloat16(a), __low2bfloat16(b), __low2bfloat16(c)),
                              __hfma(__high2bfloat16(a), __high2bfloat16(b), __high2bfloat16(c)));
}
