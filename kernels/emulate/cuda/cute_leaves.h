// CuTe with its leaves replaced: the operations that contain inline PTX become the emulator's, under their own names,
// before the traits are declared. CuTe's traits, atoms, partitioning and copies stay NVIDIA's. An operation that is
// not replaced fails in an assert of CuTe ("without ... ENABLED") when it is called.
#pragma once

#include <cute/config.hpp>
// Loops are not unrolled: a CPU needs no registers for their arrays, the sanitizers can check the indices, and a kernel
// compiles in a third of the time.
#undef CUTE_UNROLL
#define CUTE_UNROLL

#include <cute/arch/util.hpp>

#include "emulate/memory/cp_async.h"
#include "emulate/mma/tensor_core.h"

// 1. NVIDIA's headers with the leaves renamed: their register types are still used.
#define SM80_16x8x64_S32S4U4S32_TN nvidia_SM80_16x8x64_S32S4U4S32_TN
#define SM80_16x8x32_S32S4U4S32_TN nvidia_SM80_16x8x32_S32S4U4S32_TN
#define SM80_16x8x64_S32S4S4S32_TN nvidia_SM80_16x8x64_S32S4S4S32_TN
#define SM80_16x8x32_S32S4S4S32_TN nvidia_SM80_16x8x32_S32S4S4S32_TN
#define SM80_16x8x32_S32S8U8S32_TN nvidia_SM80_16x8x32_S32S8U8S32_TN
#define SM80_16x8x16_S32S8U8S32_TN nvidia_SM80_16x8x16_S32S8U8S32_TN
#define SM80_16x8x32_S32S8S8S32_TN nvidia_SM80_16x8x32_S32S8S8S32_TN
#define SM80_16x8x16_S32S8S8S32_TN nvidia_SM80_16x8x16_S32S8S8S32_TN
#define SM80_16x8x32_S32U8S8S32_TN nvidia_SM80_16x8x32_S32U8S8S32_TN
#define SM80_16x8x32_S32U8U8S32_TN nvidia_SM80_16x8x32_S32U8U8S32_TN
#define SM80_16x8x16_F32BF16BF16F32_TN nvidia_SM80_16x8x16_F32BF16BF16F32_TN
#define SM80_16x8x8_F32BF16BF16F32_TN nvidia_SM80_16x8x8_F32BF16BF16F32_TN
#define SM75_U32x1_LDSM_N nvidia_SM75_U32x1_LDSM_N
#define SM75_U32x2_LDSM_N nvidia_SM75_U32x2_LDSM_N
#define SM75_U32x4_LDSM_N nvidia_SM75_U32x4_LDSM_N
#define SM75_U16x2_LDSM_T nvidia_SM75_U16x2_LDSM_T
#define SM75_U16x4_LDSM_T nvidia_SM75_U16x4_LDSM_T
#define SM75_U16x8_LDSM_T nvidia_SM75_U16x8_LDSM_T
#define SM80_CP_ASYNC_CACHEALWAYS nvidia_SM80_CP_ASYNC_CACHEALWAYS
#define SM80_CP_ASYNC_CACHEGLOBAL nvidia_SM80_CP_ASYNC_CACHEGLOBAL
#define SM80_CP_ASYNC_CACHEALWAYS_ZFILL nvidia_SM80_CP_ASYNC_CACHEALWAYS_ZFILL
#define SM80_CP_ASYNC_CACHEGLOBAL_ZFILL nvidia_SM80_CP_ASYNC_CACHEGLOBAL_ZFILL
#define cp_async_fence nvidia_cp_async_fence
#define cp_async_wait nvidia_cp_async_wait
#include <cute/arch/copy_sm75.hpp>
#include <cute/arch/copy_sm80.hpp>
#include <cute/arch/mma_sm80.hpp>
#undef SM80_16x8x64_S32S4U4S32_TN
#undef SM80_16x8x32_S32S4U4S32_TN
#undef SM80_16x8x64_S32S4S4S32_TN
#undef SM80_16x8x32_S32S4S4S32_TN
#undef SM80_16x8x32_S32S8U8S32_TN
#undef SM80_16x8x16_S32S8U8S32_TN
#undef SM80_16x8x32_S32S8S8S32_TN
#undef SM80_16x8x16_S32S8S8S32_TN
#undef SM80_16x8x32_S32U8S8S32_TN
#undef SM80_16x8x32_S32U8U8S32_TN
#undef SM80_16x8x16_F32BF16BF16F32_TN
#undef SM80_16x8x8_F32BF16BF16F32_TN
#undef SM75_U32x1_LDSM_N
#undef SM75_U32x2_LDSM_N
#undef SM75_U32x4_LDSM_N
#undef SM75_U16x2_LDSM_T
#undef SM75_U16x4_LDSM_T
#undef SM75_U16x8_LDSM_T
#undef SM80_CP_ASYNC_CACHEALWAYS
#undef SM80_CP_ASYNC_CACHEGLOBAL
#undef SM80_CP_ASYNC_CACHEALWAYS_ZFILL
#undef SM80_CP_ASYNC_CACHEGLOBAL_ZFILL
#undef cp_async_fence
#undef cp_async_wait

// 2. The emulator's leaves.
namespace cute {

// CuTe passes registers one by one: four of A and two of B, or half as many.
#define W4AX_EMULATE_MMA_42(NAME, A, B, K, SUM)                                                                \
    struct NAME : nvidia_##NAME {                                                                              \
        static void fma(SUM& d0, SUM& d1, SUM& d2, SUM& d3, std::uint32_t const& a0, std::uint32_t const& a1,  \
                        std::uint32_t const& a2, std::uint32_t const& a3, std::uint32_t const& b0,             \
                        std::uint32_t const& b1, SUM const& c0, SUM const& c1, SUM const& c2, SUM const& c3) { \
            std::uint32_t const a[] = {a0, a1, a2, a3}, b[] = {b0, b1};                                        \
            SUM const c[] = {c0, c1, c2, c3};                                                                  \
            SUM d[4];                                                                                          \
            w4ax_emulate::mma<w4ax_emulate::Element::A, w4ax_emulate::Element::B, K>(#NAME, d, a, b, c);       \
            d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];                                                        \
        }                                                                                                      \
    };
#define W4AX_EMULATE_MMA_21(NAME, A, B, K, SUM)                                                                \
    struct NAME : nvidia_##NAME {                                                                              \
        static void fma(SUM& d0, SUM& d1, SUM& d2, SUM& d3, std::uint32_t const& a0, std::uint32_t const& a1,  \
                        std::uint32_t const& b0, SUM const& c0, SUM const& c1, SUM const& c2, SUM const& c3) { \
            std::uint32_t const a[] = {a0, a1}, b[] = {b0};                                                    \
            SUM const c[] = {c0, c1, c2, c3};                                                                  \
            SUM d[4];                                                                                          \
            w4ax_emulate::mma<w4ax_emulate::Element::A, w4ax_emulate::Element::B, K>(#NAME, d, a, b, c);       \
            d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];                                                        \
        }                                                                                                      \
    };
W4AX_EMULATE_MMA_42(SM80_16x8x64_S32S4U4S32_TN, s4, u4, 64, std::uint32_t)
W4AX_EMULATE_MMA_21(SM80_16x8x32_S32S4U4S32_TN, s4, u4, 32, std::uint32_t)
W4AX_EMULATE_MMA_42(SM80_16x8x64_S32S4S4S32_TN, s4, s4, 64, std::uint32_t)
W4AX_EMULATE_MMA_21(SM80_16x8x32_S32S4S4S32_TN, s4, s4, 32, std::uint32_t)
W4AX_EMULATE_MMA_42(SM80_16x8x32_S32S8U8S32_TN, s8, u8, 32, std::uint32_t)
W4AX_EMULATE_MMA_21(SM80_16x8x16_S32S8U8S32_TN, s8, u8, 16, std::uint32_t)
W4AX_EMULATE_MMA_42(SM80_16x8x32_S32S8S8S32_TN, s8, s8, 32, std::uint32_t)
W4AX_EMULATE_MMA_21(SM80_16x8x16_S32S8S8S32_TN, s8, s8, 16, std::uint32_t)
W4AX_EMULATE_MMA_42(SM80_16x8x32_S32U8S8S32_TN, u8, s8, 32, std::uint32_t)
W4AX_EMULATE_MMA_42(SM80_16x8x32_S32U8U8S32_TN, u8, u8, 32, std::uint32_t)
W4AX_EMULATE_MMA_42(SM80_16x8x16_F32BF16BF16F32_TN, bf16, bf16, 16, float)
W4AX_EMULATE_MMA_21(SM80_16x8x8_F32BF16BF16F32_TN, bf16, bf16, 8, float)
#undef W4AX_EMULATE_MMA_42
#undef W4AX_EMULATE_MMA_21

struct SM75_U32x1_LDSM_N : nvidia_SM75_U32x1_LDSM_N {
    static void copy(uint128_t const& row, std::uint32_t& d0) {
        std::uint32_t d[1];
        w4ax_emulate::ldmatrix<1, false>("SM75_U32x1_LDSM_N", &row, d);
        d0 = d[0];
    }
};
struct SM75_U32x2_LDSM_N : nvidia_SM75_U32x2_LDSM_N {
    static void copy(uint128_t const& row, std::uint32_t& d0, std::uint32_t& d1) {
        std::uint32_t d[2];
        w4ax_emulate::ldmatrix<2, false>("SM75_U32x2_LDSM_N", &row, d);
        d0 = d[0], d1 = d[1];
    }
};
struct SM75_U32x4_LDSM_N : nvidia_SM75_U32x4_LDSM_N {
    static void copy(uint128_t const& row, std::uint32_t& d0, std::uint32_t& d1, std::uint32_t& d2, std::uint32_t& d3) {
        std::uint32_t d[4];
        w4ax_emulate::ldmatrix<4, false>("SM75_U32x4_LDSM_N", &row, d);
        d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];
    }
};
struct SM75_U16x2_LDSM_T : nvidia_SM75_U16x2_LDSM_T {
    static void copy(uint128_t const& row, std::uint32_t& d0) {
        std::uint32_t d[1];
        w4ax_emulate::ldmatrix<1, true>("SM75_U16x2_LDSM_T", &row, d);
        d0 = d[0];
    }
};
struct SM75_U16x4_LDSM_T : nvidia_SM75_U16x4_LDSM_T {
    static void copy(uint128_t const& row, std::uint32_t& d0, std::uint32_t& d1) {
        std::uint32_t d[2];
        w4ax_emulate::ldmatrix<2, true>("SM75_U16x4_LDSM_T", &row, d);
        d0 = d[0], d1 = d[1];
    }
};
struct SM75_U16x8_LDSM_T : nvidia_SM75_U16x8_LDSM_T {
    static void copy(uint128_t const& row, std::uint32_t& d0, std::uint32_t& d1, std::uint32_t& d2, std::uint32_t& d3) {
        std::uint32_t d[4];
        w4ax_emulate::ldmatrix<4, true>("SM75_U16x8_LDSM_T", &row, d);
        d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];
    }
};

template <class TS, class TD = TS>
struct SM80_CP_ASYNC_CACHEALWAYS : nvidia_SM80_CP_ASYNC_CACHEALWAYS<TS, TD> {
    static void copy(TS const& source, TD& destination) {
        w4ax_emulate::cp_async(&destination, &source, sizeof(TS), sizeof(TS));
    }
};
template <class TS, class TD = TS>
struct SM80_CP_ASYNC_CACHEGLOBAL : nvidia_SM80_CP_ASYNC_CACHEGLOBAL<TS, TD> {
    static void copy(TS const& source, TD& destination) {
        w4ax_emulate::cp_async(&destination, &source, sizeof(TS), sizeof(TS));
    }
};
template <class TS, class TD = TS>
struct SM80_CP_ASYNC_CACHEALWAYS_ZFILL : nvidia_SM80_CP_ASYNC_CACHEALWAYS_ZFILL<TS, TD> {
    static void copy(TS const& source, TD& destination, bool valid) {
        w4ax_emulate::cp_async(&destination, &source, sizeof(TS), valid ? int(sizeof(TS)) : 0);
    }
};
template <class TS, class TD = TS>
struct SM80_CP_ASYNC_CACHEGLOBAL_ZFILL : nvidia_SM80_CP_ASYNC_CACHEGLOBAL_ZFILL<TS, TD> {
    static void copy(TS const& source, TD& destination, bool valid) {
        w4ax_emulate::cp_async(&destination, &source, sizeof(TS), valid ? int(sizeof(TS)) : 0);
    }
};

inline void cp_async_fence() { w4ax_emulate::commit_async_copies(); }

/// As in CuTe, 0 is cp.async.wait_all, which needs no preceding fence.
template <int N>
void cp_async_wait() {
    w4ax_emulate::cp_async_wait(N == 0 ? -1 : N);
}
template <int N>
void cp_async_wait(Int<N>) {
    cp_async_wait<N>();
}

}  // namespace cute

// 3. The rest of CuTe.
#include <cute/tensor.hpp>

#include <cute/atom/copy_atom.hpp>
#include <cute/atom/mma_atom.hpp>
