// mma.sync and ldmatrix.
#pragma once

#include <cstdint>
#include <cstring>

#include "emulate/memory/cp_async.h"
#include "emulate/sync/warp.h"

namespace w4ax_emulate {

/// Element types of an mma's A and B.
enum class Element { s8, u8, s4, u4, bf16 };

constexpr int bits_of(Element element) {
    return element == Element::bf16 ? 16 : element == Element::s8 || element == Element::u8 ? 8 : 4;
}

/// mma.sync.m16n8k`K`, row.col, defined for the combinations that tensor_core.cpp instantiates.
template <Element A, Element B, int K>
void exchange_mma(WarpExchange&, std::uint32_t);

/// d[4] = a * b + c[4]; T is float for BF16, else a 32-bit integer that wraps.
template <Element A, Element B, int K, class T>
inline void mma(char const* name, T* d, std::uint32_t const* a, std::uint32_t const* b, T const* c) {
    constexpr int per_register = 32 / bits_of(A);
    constexpr int a_registers = K / (2 * per_register);  // 16 x K over 32 lanes
    constexpr int b_registers = K / (4 * per_register);  // 8 x K
    std::uint32_t in[12] = {};
    for (int i = 0; i < a_registers; ++i) in[i] = a[i];
    for (int i = 0; i < b_registers; ++i) in[4 + i] = b[i];
    std::memcpy(in + 8, c, 16);
    // mma is .aligned: all lanes must execute it
    std::memcpy(d, meet(name, exchange_mma<A, B, K>, full_mask, in, 12), 16);
}

/// Returns c plus the products: of floats by options.bf16_sum, of integers with wrapping.
float add_products(float const* a, float const* b, int count, float c);
std::uint32_t add_products(std::int16_t const* a, std::int16_t const* b, int count, std::uint32_t c);

template <int Matrices, bool Transposed>
void exchange_ldmatrix(WarpExchange&, std::uint32_t);

/// Loads `Matrices` 8 x 8 matrices of 16-bit elements. Lane l has the address of row l % 8 of matrix l / 8; lanes from
/// 8 * Matrices on are ignored. Each lane reads its row here, in the kernel's translation unit, which is instrumented.
template <int Matrices, bool Transposed>
inline void ldmatrix(char const* name, void const* row, std::uint32_t* out) {
    std::uint32_t in[6] = {};
    if (current->lane < 8 * Matrices) {
        auto const address = reinterpret_cast<std::uintptr_t>(row);
        if (address % 16) fail("%s: row address %p: expected an address aligned to 16 bytes", name, row);
        check_not_in_flight(row, 16, name);
        std::memcpy(in, row, 16);
        in[4] = static_cast<std::uint32_t>(address);  // determines the banks
    }
    std::uint32_t const* result = meet(name, exchange_ldmatrix<Matrices, Transposed>, full_mask, in, 5);
    for (int i = 0; i < Matrices; ++i) out[i] = result[i];
}

}  // namespace w4ax_emulate
