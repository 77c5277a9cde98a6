// The CUDA built-in variables and functions that the kernels use. Float arithmetic rounds as on the device: each
// operation once, to nearest even, without contraction (-ffp-contract=off) and without flushing subnormals.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulate/sync/barrier.h"
#include "emulate/engine/engine.h"
#include "emulate/sync/warp.h"

#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif

constexpr int warpSize = 32;

// ---- barriers. The default arguments are the caller's source line, which identifies the barrier.

inline void __syncthreads(char const* file = __builtin_FILE(), int line = __builtin_LINE()) {
    w4ax_emulate::barrier_sync(0, 0, file, line);
}
inline int __syncthreads_count(int value, char const* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return w4ax_emulate::barrier_count(value, file, line);
}
inline int __syncthreads_or(int value, char const* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return w4ax_emulate::barrier_count(value, file, line) != 0;
}
inline int __syncthreads_and(int value, char const* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return w4ax_emulate::barrier_count(!value, file, line) == 0;
}
inline void __syncwarp(std::uint32_t mask = w4ax_emulate::full_mask) {
    w4ax_emulate::meet("__syncwarp", w4ax_emulate::exchange_nothing, mask, nullptr, 0, true);
}
// Fences alone order nothing for another thread: the emulator requires a barrier.
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {}
[[noreturn]] inline void __trap() { w4ax_emulate::fail("__trap"); }

// ---- warp collectives

namespace w4ax_emulate {

template <class T>
T shuffle(char const* name, std::uint32_t mask, T value, int source) {
    static_assert(std::is_trivially_copyable<T>::value && (sizeof(T) <= 4 || sizeof(T) == 8), "as in CUDA");
    constexpr int words = (sizeof(T) + 3) / 4;
    std::uint32_t bits[words] = {};
    std::memcpy(bits, &value, sizeof(T));
    for (int word = 0; word < words; ++word) {
        std::uint32_t const in[2] = {bits[word], static_cast<std::uint32_t>(source)};
        bits[word] = meet(name, exchange_shuffle, mask, in, 2)[0];
    }
    std::memcpy(&value, bits, sizeof(T));
    return value;
}

template <class T>
T reduce(char const* name, WarpFunction function, std::uint32_t mask, T value) {
    std::uint32_t const in[1] = {static_cast<std::uint32_t>(value)};
    return static_cast<T>(meet(name, function, mask, in, 1)[0]);
}

/// The first lane of the segment of `width` lanes that `lane` is in.
inline int segment(int lane, int width) { return lane & ~(width - 1); }

}  // namespace w4ax_emulate

template <class T>
T __shfl_sync(std::uint32_t mask, T value, int source, int width = 32) {
    int const lane = w4ax_emulate::current->lane;
    return w4ax_emulate::shuffle("__shfl_sync", mask, value,
                                 w4ax_emulate::segment(lane, width) + (source & (width - 1)));
}
template <class T>
T __shfl_xor_sync(std::uint32_t mask, T value, int distance, int width = 32) {
    int const lane = w4ax_emulate::current->lane, source = lane ^ distance;
    bool const beyond = source >= w4ax_emulate::segment(lane, width) + width;
    return w4ax_emulate::shuffle("__shfl_xor_sync", mask, value, beyond ? lane : source);
}
template <class T>
T __shfl_down_sync(std::uint32_t mask, T value, unsigned distance, int width = 32) {
    int const lane = w4ax_emulate::current->lane, source = lane + static_cast<int>(distance);
    bool const beyond = source >= w4ax_emulate::segment(lane, width) + width;
    return w4ax_emulate::shuffle("__shfl_down_sync", mask, value, beyond ? lane : source);
}
template <class T>
T __shfl_up_sync(std::uint32_t mask, T value, unsigned distance, int width = 32) {
    int const lane = w4ax_emulate::current->lane, source = lane - static_cast<int>(distance);
    bool const beyond = source < w4ax_emulate::segment(lane, width);
    return w4ax_emulate::shuffle("__shfl_up_sync", mask, value, beyond ? lane : source);
}
inline std::uint32_t __ballot_sync(std::uint32_t mask, int vote) {
    return w4ax_emulate::reduce("__ballot_sync", w4ax_emulate::exchange_ballot, mask, std::uint32_t(vote != 0));
}
inline int __any_sync(std::uint32_t mask, int vote) { return __ballot_sync(mask, vote) != 0; }
inline int __all_sync(std::uint32_t mask, int vote) { return __ballot_sync(mask, !vote) == 0; }
template <class T>
std::uint32_t __match_any_sync(std::uint32_t mask, T value) {
    static_assert(sizeof(T) == 4, "4-byte values only");
    std::uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return w4ax_emulate::reduce("__match_any_sync", w4ax_emulate::exchange_match_any, mask, bits);
}
inline int __reduce_add_sync(std::uint32_t mask, int v) {
    return w4ax_emulate::reduce("__reduce_add_sync", w4ax_emulate::exchange_reduce_add, mask, v);
}
inline unsigned __reduce_add_sync(std::uint32_t mask, unsigned v) {
    return w4ax_emulate::reduce("__reduce_add_sync", w4ax_emulate::exchange_reduce_add, mask, v);
}
inline int __reduce_min_sync(std::uint32_t mask, int v) {
    return w4ax_emulate::reduce("__reduce_min_sync", w4ax_emulate::exchange_reduce_min, mask, v);
}
inline int __reduce_max_sync(std::uint32_t mask, int v) {
    return w4ax_emulate::reduce("__reduce_max_sync", w4ax_emulate::exchange_reduce_max, mask, v);
}
inline unsigned __reduce_min_sync(std::uint32_t mask, unsigned v) {
    return w4ax_emulate::reduce("__reduce_min_sync", w4ax_emulate::exchange_reduce_umin, mask, v);
}
inline unsigned __reduce_max_sync(std::uint32_t mask, unsigned v) {
    return w4ax_emulate::reduce("__reduce_max_sync", w4ax_emulate::exchange_reduce_umax, mask, v);
}
inline unsigned __reduce_and_sync(std::uint32_t mask, unsigned v) {
    return w4ax_emulate::reduce("__reduce_and_sync", w4ax_emulate::exchange_reduce_and, mask, v);
}
inline unsigned __reduce_or_sync(std::uint32_t mask, unsigned v) {
    return w4ax_emulate::reduce("__reduce_or_sync", w4ax_emulate::exchange_reduce_or, mask, v);
}
inline unsigned __reduce_xor_sync(std::uint32_t mask, unsigned v) {
    return w4ax_emulate::reduce("__reduce_xor_sync", w4ax_emulate::exchange_reduce_xor, mask, v);
}

// ---- loads and stores with a cache hint

template <class T>
T __ldg(T const* global) {
    w4ax_emulate::count_global_read(sizeof(T));
    return *global;
}
template <class T>
T __ldcg(T const* global) {
    return __ldg(global);
}
template <class T>
T __ldca(T const* global) {
    return __ldg(global);
}
template <class T>
T __ldcs(T const* global) {
    return __ldg(global);
}
template <class T>
T __ldlu(T const* global) {
    return __ldg(global);
}
template <class T>
void __stcg(T* global, T value) {
    *global = value;
}
template <class T>
void __stcs(T* global, T value) {
    *global = value;
}
template <class T>
void __stwt(T* global, T value) {
    *global = value;
}

// ---- atomics: relaxed, of device scope, as in CUDA

template <class T>
T atomicAdd(T* p, T v) {
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
template <class T>
T atomicOr(T* p, T v) {
    return __atomic_fetch_or(p, v, __ATOMIC_RELAXED);
}
template <class T>
T atomicAnd(T* p, T v) {
    return __atomic_fetch_and(p, v, __ATOMIC_RELAXED);
}
template <class T>
T atomicExch(T* p, T v) {
    return __atomic_exchange_n(p, v, __ATOMIC_RELAXED);
}
template <class T>
T atomicCAS(T* p, T expected, T v) {
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}
template <class T>
T atomicMax(T* p, T v) {
    T old = *p;
    while (old < v && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}

// ---- conversions and arithmetic

inline std::uint32_t __float_as_uint(float v) {
    std::uint32_t bits;
    std::memcpy(&bits, &v, 4);
    return bits;
}
inline int __float_as_int(float v) {
    int bits;
    std::memcpy(&bits, &v, 4);
    return bits;
}
inline float __uint_as_float(std::uint32_t bits) {
    float v;
    std::memcpy(&v, &bits, 4);
    return v;
}
inline float __int_as_float(int bits) {
    float v;
    std::memcpy(&v, &bits, 4);
    return v;
}

namespace w4ax_emulate {
/// cvt.s32.f32: a NaN becomes 0, other values saturate.
inline int to_int(float rounded) {
    if (rounded != rounded) return 0;
    if (rounded >= 2147483648.0f) return 2147483647;
    if (rounded < -2147483648.0f) return -2147483647 - 1;
    return static_cast<int>(rounded);
}
}  // namespace w4ax_emulate

inline int __float2int_rn(float v) { return w4ax_emulate::to_int(std::nearbyint(v)); }
inline int __float2int_rz(float v) { return w4ax_emulate::to_int(std::trunc(v)); }
inline int __float2int_rd(float v) { return w4ax_emulate::to_int(std::floor(v)); }
inline int __float2int_ru(float v) { return w4ax_emulate::to_int(std::ceil(v)); }
inline float __int2float_rn(int v) { return static_cast<float>(v); }
inline float __uint2float_rn(unsigned v) { return static_cast<float>(v); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
#if defined(__clang__)
__attribute__((no_sanitize("float-divide-by-zero")))  // defined by IEEE 754: an infinity or a NaN
#endif
inline float
__fdiv_rn(float a, float b) {
    return a / b;
}
inline float __frcp_rn(float a) { return __fdiv_rn(1.0f, a); }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }

inline int __clz(int v) { return v ? __builtin_clz(static_cast<unsigned>(v)) : 32; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline unsigned __brev(unsigned v) {
    unsigned reversed = 0;
    for (int i = 0; i < 32; ++i) reversed |= (v >> i & 1) << (31 - i);
    return reversed;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>(((std::uint64_t(high) << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>((std::uint64_t(high) << 32 | low) >> (shift & 31));
}
/// prmt: byte i of the result is byte (selector nibble i) of b:a. If the nibble's top bit is set, its sign is
/// replicated.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    std::uint64_t const bytes = std::uint64_t(b) << 32 | a;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) {
        unsigned const nibble = selector >> (4 * i) & 15;
        unsigned byte = static_cast<unsigned>(bytes >> (8 * (nibble & 7))) & 255;
        if (nibble & 8) byte = byte & 128 ? 255 : 0;
        result |= byte << (8 * i);
    }
    return result;
}
inline int __dp4a(int a, int b, int c) {
    unsigned sum = static_cast<unsigned>(c);  // wraps
    for (int i = 0; i < 4; ++i) {
        sum += static_cast<unsigned>(static_cast<std::int8_t>(a >> (8 * i)) * static_cast<std::int8_t>(b >> (8 * i)));
    }
    return static_cast<int>(sum);
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 4; ++i) c += (a >> (8 * i) & 255) * (b >> (8 * i) & 255);
    return c;
}
/// Adds or subtracts four bytes, each with wrapping.
inline unsigned __vadd4(unsigned a, unsigned b) {
    return ((a & 0x7F7F7F7Fu) + (b & 0x7F7F7F7Fu)) ^ ((a ^ b) & 0x80808080u);
}
inline unsigned __vsub4(unsigned a, unsigned b) {
    return ((a | 0x80808080u) - (b & 0x7F7F7F7Fu)) ^ ((a ^ ~b) & 0x80808080u);
}

// In the global namespace, as in CUDA.
inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline long long min(long long a, long long b) { return b < a ? b : a; }
inline long long max(long long a, long long b) { return a < b ? b : a; }
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
