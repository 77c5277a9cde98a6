#include "emulate/mma/tensor_core.h"

#include <cmath>
#include <type_traits>

#include "emulate/engine/block.h"

namespace w4ax_emulate {

namespace {

template <Element E>
auto element_of(std::uint32_t word, int i) {
    if constexpr (E == Element::s8) {
        return static_cast<std::int16_t>(static_cast<std::int8_t>(word >> (8 * i)));
    } else if constexpr (E == Element::u8) {
        return static_cast<std::int16_t>(word >> (8 * i) & 255);
    } else if constexpr (E == Element::s4) {
        return static_cast<std::int16_t>(static_cast<std::int32_t>(word << (28 - 4 * i)) >> 28);
    } else if constexpr (E == Element::u4) {
        return static_cast<std::int16_t>(word >> (4 * i) & 15);
    } else {
        std::uint32_t const bits = (word >> (16 * i)) << 16;
        float value;
        __builtin_memcpy(&value, &bits, 4);
        return value;
    }
}

}  // namespace

float add_products(float const* a, float const* b, int count, float c) {
    if (options.bf16_sum == Bf16Sum::exact) {
        long double sum = c;  // 64 bits of mantissa
        for (int k = 0; k < count; ++k) sum += static_cast<long double>(a[k]) * b[k];
        return static_cast<float>(sum);
    }
    // A product of two BF16 values is exact in f32 unless it overflows or underflows, where the fma is still exact.
    for (int k = 0; k < count; ++k) c = std::fma(a[k], b[k], c);
    return c;
}

std::uint32_t add_products(std::int16_t const* a, std::int16_t const* b, int count, std::uint32_t c) {
    std::int32_t sum = 0;  // at most 64 * 255 * 255
    for (int k = 0; k < count; ++k) sum += std::int32_t(a[k]) * b[k];
    return c + static_cast<std::uint32_t>(sum);
}

// PTX ISA, "Matrix fragments for mma.m16n8k*". With E elements in a register, g = lane / 4, t = lane % 4:
//   A, register r, element i:  row g + 8 * (r & 1),  k = 4 * E * (r >> 1) + t * E + i
//   B, register r, element i:  column g,             k = 4 * E * r + t * E + i
//   C and D, register j:       row g + 8 * (j >> 1), column 2 * t + (j & 1)
template <Element A, Element B, int K>
void exchange_mma(WarpExchange& lanes, std::uint32_t) {
    ++counters.mma;
    static_assert(bits_of(A) == bits_of(B), "");
    constexpr int per_register = 32 / bits_of(A);
    constexpr int a_registers = K / (2 * per_register), b_registers = K / (4 * per_register);
    using Value = decltype(element_of<A>(0, 0));
    using Sum = std::conditional_t<A == Element::bf16, float, std::uint32_t>;
    alignas(64) Value a[16][K];
    alignas(64) Value b[8][K];
    for (int lane = 0; lane < 32; ++lane) {
        int const g = lane / 4, t = lane % 4;
        for (int r = 0; r < a_registers; ++r) {
            for (int i = 0; i < per_register; ++i) {
                a[g + 8 * (r & 1)][4 * per_register * (r >> 1) + t * per_register + i] = element_of<A>(
                    lanes.in[lane][r], i);
            }
        }
        for (int r = 0; r < b_registers; ++r) {
            for (int i = 0; i < per_register; ++i) {
                b[g][4 * per_register * r + t * per_register + i] = element_of<B>(lanes.in[lane][4 + r], i);
            }
        }
    }
    for (int lane = 0; lane < 32; ++lane) {
        int const g = lane / 4, t = lane % 4;
        for (int j = 0; j < 4; ++j) {
            Sum c;
            __builtin_memcpy(&c, &lanes.in[lane][8 + j], 4);
            c = add_products(a[g + 8 * (j >> 1)], b[2 * t + (j & 1)], K, c);
            __builtin_memcpy(&lanes.out[lane][j], &c, 4);
        }
    }
}

template void exchange_mma<Element::s4, Element::u4, 64>(WarpExchange&, std::uint32_t);
template void exchange_mma<Element::s4, Element::u4, 32>(WarpExchange&, std::uint32_t);
template void exchange_mma<Element::s4, Element::s4, 64>(WarpExchange&, std::uint32_t);
template void exchange_mma<Element::s4, Element::s4, 32>(WarpExchange&, std::uint32_t);
template void exchange_mma<Element::s8, Element::u8, 32>(WarpExchange&, std::uint32_t);
template void exchange_mma<Element::s8, Element::s8, 32>(WarpExchange&, std::uint32_t);
template void exchange_mma<Element::u8, Element::s8, 32>(WarpExchange&, std::uint32_t);
template void exchange_mma<Element::u8, Element::u8, 32>(WarpExchange&, std::uint32_t);
template void exchange_mma<Element::s8, Element::u8, 16>(WarpExchange&, std::uint32_t);
template void exchange_mma<Element::s8, Element::s8, 16>(WarpExchange&, std::uint32_t);
template void exchange_mma<Element::bf16, Element::bf16, 16>(WarpExchange&, std::uint32_t);
template void exchange_mma<Element::bf16, Element::bf16, 8>(WarpExchange&, std::uint32_t);

// PTX ISA, "ldmatrix": lanes 8j..8j+7 hold the row addresses of matrix j. Lane l receives the two elements 2 * (l %
// 4) and 2 * (l % 4) + 1 of row l / 4; with .trans, of column l / 4.
template <int Matrices, bool Transposed>
void exchange_ldmatrix(WarpExchange& lanes, std::uint32_t) {
    ++counters.ldmatrix;
    for (int matrix = 0; matrix < Matrices; ++matrix) {
        std::uint32_t const(*rows)[WarpExchange::words_in] = &lanes.in[8 * matrix];

        // Eight rows of 16 bytes are loaded in one pass if they are on eight different groups of four banks.
        int passes = 1;
        for (int row = 0; row < 8; ++row) {
            int in_this_group = 0;
            for (int other = 0; other <= row; ++other) {
                bool same_group = (rows[other][4] >> 4 & 7) == (rows[row][4] >> 4 & 7);
                bool repeated = false;  // a repeated address is read once
                for (int before = 0; before < other; ++before) repeated |= rows[before][4] == rows[other][4];
                in_this_group += same_group && !repeated;
            }
            if (in_this_group > passes) passes = in_this_group;
        }
        ++counters.ldmatrix_phases;
        counters.ldmatrix_conflicts += passes - 1;

        auto half = [&](int row, int column) { return rows[row][column / 2] >> (16 * (column & 1)) & 0xFFFFu; };
        for (int lane = 0; lane < 32; ++lane) {
            int const g = lane / 4, t = lane % 4;
            lanes.out[lane][matrix] = Transposed ? half(2 * t, g) | half(2 * t + 1, g) << 16
                                                 : half(g, 2 * t) | half(g, 2 * t + 1) << 16;
        }
    }
}

template void exchange_ldmatrix<1, false>(WarpExchange&, std::uint32_t);
template void exchange_ldmatrix<2, false>(WarpExchange&, std::uint32_t);
template void exchange_ldmatrix<4, false>(WarpExchange&, std::uint32_t);
template void exchange_ldmatrix<1, true>(WarpExchange&, std::uint32_t);
template void exchange_ldmatrix<2, true>(WarpExchange&, std::uint32_t);
template void exchange_ldmatrix<4, true>(WarpExchange&, std::uint32_t);

}  // namespace w4ax_emulate
