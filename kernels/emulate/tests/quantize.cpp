// Checks the shortcuts of kernels/common/quantize.cuh against the arithmetic of src/numerics.rs: divisions and clamps.
#include "test.h"

#include "common/quantize.cuh"

#include <cmath>

using namespace w4ax;

namespace {

float from_bits(std::uint32_t bits) { return __uint_as_float(bits); }
bool same(float a, float b) { return __float_as_uint(a) == __float_as_uint(b); }
constexpr float kLeast = 5.421010862427522e-20f;  // 2^-64: smaller steps count as zero
constexpr float kExactFrom = 1e-30f;
constexpr std::uint32_t kInfinity = 0x7F80;  // the first BF16 that is not finite

// Checks all finite BF16 that are not negative.
void check_divisions(int levels) {
    int wrong = 0;
    for (std::uint32_t v = 0; v < kInfinity; ++v) {
        float const expected = from_bits(v << 16) / float(levels), got = over_levels(from_bits(v << 16), levels);
        if (!same(got, expected) && !(expected < kExactFrom && got < kExactFrom)) ++wrong;
    }
    test::expect(wrong == 0, "v / levels");
}

// Checks a group whose extremes are `-minus_lo` and `hi` (BF16), and values between them.
void check_group(std::uint32_t hi, std::uint32_t minus_lo, int levels, test::Random& numbers) {
    float const high = from_bits(hi << 16), minus_low = from_bits(minus_lo << 16);
    float const step = high / float(levels) + minus_low / float(levels);
    Quantizer const q = quantizer_of(hi | minus_lo << 16, levels);
    if (hi >= kInfinity || minus_lo >= kInfinity) {
        test::expect(std::isnan(q.scale), "a group that is not finite has no scale");
        return;
    }
    if (step < kLeast) {
        test::expect(same(q.scale, 0.0f) && same(q.inverse, 0.0f) && q.zero == 0,
                     "a step below the least counts as zero");
        return;
    }
    float const inverse = 1.0f / step;
    int const zero = std::min(levels, std::max(0, int(std::nearbyintf(minus_low * inverse))));
    bool right = same(q.scale, step) && same(q.inverse, inverse) && q.zero == zero;
    test::expect(right, "scale, inverse and zero");
    for (int i = 0; i < 4 && right; ++i) {
        Octet x = {};
        x.valid = i < 2 ? 64 : numbers.between(0, 26);
        std::uint16_t values[4][2];
        for (int p = 0; p < 4; ++p) {
            for (int e = 0; e < 2; ++e) {
                // The extremes, values near them, values between them.
                std::uint32_t const least = numbers.bits() % 2 ? hi : minus_lo | 0x8000, to_zero = numbers.bits();
                std::uint32_t const magnitude = least & 0x7FFF;
                std::uint32_t const off = numbers.bits() % 2 ? std::min(magnitude, to_zero % 3)
                                                             : to_zero % (magnitude + 1);
                std::uint32_t const v = magnitude - off;
                values[p][e] = std::uint16_t(v | (least & 0x8000));
            }
            x.pair[p] = values[p][0] | std::uint32_t(values[p][1]) << 16;
        }
        OctetCodes const codes = codes_of(x, q, levels);
        for (int p = 0; p < 4; ++p) {
            for (int e = 0; e < 2; ++e) {
                float const value = from_bits(std::uint32_t(values[p][e]) << 16);
                int const code = std::min(levels, std::max(0, int(std::nearbyintf(value * inverse)) + zero));
                int const expected = 8 * p + e < x.valid ? code : 0;
                right = right && int(codes.quad[p % 2] >> (8 * (2 * e + p / 2)) & 0xFF) == expected;
            }
        }
        test::expect(right, "codes");
    }
}

}  // namespace

int main() {
    test::Random numbers(5);
    for (int levels : {3, 15, 255}) {
        check_divisions(levels);
        for (std::uint32_t hi = 0; hi <= kInfinity; ++hi) {
            // Equal, one-sided, similar and unrelated magnitudes.
            std::uint32_t const near = hi ^ (numbers.bits() & 0xFF);
            for (std::uint32_t minus_lo : {hi, 0u, near, numbers.bits() % (kInfinity + 1)}) {
                check_group(hi, std::min(minus_lo, kInfinity), levels, numbers);
                check_group(std::min(minus_lo, kInfinity), hi, levels, numbers);
            }
        }
    }
    return test::finish("quantize");
}
