// The tensor-core engines of the activation widths, behind one interface. A: weights, 16 output channels; B: 8 tokens.
//
// An engine multiplies a weight tile (16 x 64 k) by an activation tile (8 x 64 k) in kSteps mma instructions, k
// ascending.
//   kWords          words per lane of an activation tile as it is stored: 2, 4 or 8
//   unpack(...)     a lane's 16 bytes of weights -> A fragments
//   kUnpacksInPlace whether the A fragments are the weights' own registers
//   expand(...)     a lane's words of activations -> B fragments
//   kStart, sum(c)  the initial value of an accumulator, and the exact group sum of its final value
//   row_dot(c, q)   the exact sum of a whole row from an accumulator that began at 0; q: the sum of the token's codes
// Fragment layouts: PTX ISA, sections "Matrix Fragments for mma.m16n8k16 (floating point), .m16n8k32 and .m16n8k64":
// https://docs.nvidia.com/cuda/parallel-thread-execution/#warp-level-matrix-fragment-mma-16864
#pragma once

#include "common/device.cuh"
#include "common/layout.cuh"
#include "common/quantize.cuh"
#include "mma/unpack.cuh"

#include <type_traits>

namespace w4ax {

using namespace cute;

template <class Op_, class Accumulator_, int kSteps_>
struct EngineBase {
    using Op = Op_;
    using Accumulator = Accumulator_;
    static constexpr int kSteps = kSteps_;  // mma per tile of 64 k
    static constexpr int kRegistersA = std::extent_v<typename Op::ARegisters>;
    static constexpr int kRegistersB = std::extent_v<typename Op::BRegisters>;

    template <class TensorD, class TensorA, class TensorB>
    static W4AX_DEVICE void multiply(TensorD& rD, TensorA const& rA, TensorB const& rB) {  // (4) (A) (B)
        MMA_Atom<Op>{}.call(rD, rA, rB, rD);
    }

    // Returns the coordinates of a lane's four accumulators: (channel of 16, token of 8).
    static W4AX_DEVICE auto coordinates() {
        auto const thread = make_tiled_mma(Op{}).get_slice(lane_index());
        return thread.partition_C(make_identity_tensor(Shape<_16, _8>{}))(_, 0, 0);  // (4)
    }
};

// The mma of s4 x u4. A group of 32 is half a tile, so it takes the mma of half the k.
template <int kGroup>
using OpS4 = conditional_t<kGroup == 32, SM80_16x8x32_S32S4U4S32_TN, SM80_16x8x64_S32S4U4S32_TN>;

// s4 x u4 -> s32: mma.m16n8k64, or mma.m16n8k32 for groups of 32.
template <int kGroup>
struct EngineS4 : EngineBase<OpS4<kGroup>, int32_t, kGroup == 32 ? 2 : 1> {
    static constexpr int kWords = 2;
    static constexpr int32_t kStart = int32_t(kRoundBits);
    static constexpr int kShift = 0;  // the accumulators are sum << kShift
    static constexpr bool kUnpacksInPlace = true;
    static W4AX_DEVICE int32_t row_dot(int32_t c, int) { return c; }

    template <class TensorW, class TensorA>
    static W4AX_DEVICE void unpack(TensorW const& rW, uint32_t const (&)[2], TensorA&& rA) {  // (4) (A,step)
        CUTE_UNROLL
        for (int i = 0; i < 4; ++i) rA(i) = rW(i);
    }
    template <class TensorB>
    static W4AX_DEVICE void expand(uint32_t const (&words)[2], TensorB&& rB) {  // (B,step)
        CUTE_UNROLL
        for (int i = 0; i < 2; ++i) rB(i) = words[i];
    }
    // |sum| <= 128 * 15 * 8, which fits the low bits of the mantissa.
    static W4AX_DEVICE float sum(int32_t c) { return __fsub_rn(__int_as_float(c), kRound); }
};

// Expands words of activations of 8 bits, or of 4 bits, to the B fragments of two mma.m16n8k32.
template <int kBits, class TensorB>
W4AX_DEVICE void expand_bytes(uint32_t const (&words)[kBits / 2], TensorB&& rB) {  // (B,step)
    CUTE_UNROLL
    for (int h = 0; h < 2; ++h) {
        uint32_t b[2];
        if constexpr (kBits == 4) {
            expand_4bit(words[h], b);
        } else {
            b[0] = words[2 * h];
            b[1] = words[2 * h + 1];
        }
        rB(0, h) = b[0];
        rB(1, h) = b[1];
    }
}

// s8 x u8 -> s32: mma.m16n8k32 on 16 * qw. The activations have 8 bits, or 4 bits that are expanded.
template <int kBits>
struct EngineS8 : EngineBase<SM80_16x8x32_S32S8U8S32_TN, int32_t, 2> {
    static constexpr int kWords = kBits / 2;
    static constexpr int32_t kStart = int32_t(kRoundBits);
    static constexpr int kShift = 4;  // the accumulators are sum << kShift
    static constexpr bool kUnpacksInPlace = false;
    static W4AX_DEVICE int32_t row_dot(int32_t c, int) { return c >> kShift; }

    template <class TensorW, class TensorA>
    static W4AX_DEVICE void unpack(TensorW const& rW, uint32_t const (&)[2], TensorA&& rA) {  // (4) (A,step)
        CUTE_UNROLL
        for (int h = 0; h < 2; ++h) {
            uint32_t a[4];
            unpack_s8(rW(2 * h), rW(2 * h + 1), a);
            CUTE_UNROLL
            for (int i = 0; i < 4; ++i) rA(i, h) = a[i];
        }
    }
    template <class TensorB>
    static W4AX_DEVICE void expand(uint32_t const (&words)[kWords], TensorB&& rB) {  // (B,step)
        expand_bytes<kBits>(words, rB);
    }
    // |16 * sum| <= 16 * 128 * 255 * 8 < 2^22. The division by 16 is exact.
    static W4AX_DEVICE float sum(int32_t c) { return __fmaf_rn(__int_as_float(c), 0.0625f, -kRound * 0.0625f); }
};

// u8 x u8 -> s32: mma.m16n8k32 on 128 + w8 of two-level weights, for whole rows. Sums may wrap modulo 2^32.
template <int kBits>
struct EngineW8 : EngineBase<SM80_16x8x32_S32U8U8S32_TN, int32_t, 2> {
    static constexpr int kWords = kBits / 2;
    static constexpr int32_t kStart = 0;
    static constexpr bool kUnpacksInPlace = false;

    template <class TensorW, class TensorA>
    static W4AX_DEVICE void unpack(TensorW const& rW, TileSteps const& steps, TensorA&& rA) {  // (4) (A,step)
        CUTE_UNROLL
        for (int h = 0; h < 2; ++h) {
            uint32_t a[4];
            unpack_u8(rW(2 * h), rW(2 * h + 1), ByteStep(steps.word[h][0]), ByteStep(steps.word[h][1]), a);
            CUTE_UNROLL
            for (int i = 0; i < 4; ++i) rA(i, h) = a[i];
        }
    }
    template <class TensorB>
    static W4AX_DEVICE void expand(uint32_t const (&words)[kWords], TensorB&& rB) {  // (B,step)
        expand_bytes<kBits>(words, rB);
    }
    // Removes the 128 of each weight. The result is at most 255 * 127 * 65536 < 2^31.
    static W4AX_DEVICE int32_t row_dot(int32_t c, int code_sum) {
        return int32_t(uint32_t(c) - 128u * uint32_t(code_sum));
    }
};

// bf16 x bf16 -> f32: mma.m16n8k16 number s of four takes k = 16s.. of the tile in natural order.
struct EngineBf16 : EngineBase<SM80_16x8x16_F32BF16BF16F32_TN, float, 4> {
    static constexpr int kWords = 8;  // pairs: word 2s + j holds k = 16s + 8j + 2t and the next
    static constexpr float kStart = 0.0f;
    static constexpr bool kUnpacksInPlace = false;

    // `offset`: bf16_offset of the lane's rows g and g + 8.
    template <class TensorW, class TensorA>
    static W4AX_DEVICE void unpack(TensorW const& rW, uint32_t const (&offset)[2], TensorA&& rA) {  // (4) (A,step)
        CUTE_UNROLL
        for (int s = 0; s < 4; ++s) {
            CUTE_UNROLL
            for (int i = 0; i < 4; ++i)
                rA(i, s) = unpack_bf16(rW(2 * (s / 2) + i % 2), 2 * (s % 2) + i / 2, offset[i % 2]);
        }
    }
    template <class TensorB>
    static W4AX_DEVICE void expand(uint32_t const (&words)[8], TensorB&& rB) {  // (B,step)
        CUTE_UNROLL
        for (int i = 0; i < 8; ++i) rB(i) = words[i];
    }
    static W4AX_DEVICE float sum(float c) { return c; }
};

// As EngineBf16, on w8 of two-level weights.
struct EngineBf16W8 : EngineBf16 {
    template <class TensorW, class TensorA>
    static W4AX_DEVICE void unpack(TensorW const& rW, TileSteps const& steps, TensorA&& rA) {  // (4) (A,step)
        CUTE_UNROLL
        for (int h = 0; h < 2; ++h) {
            CUTE_UNROLL
            for (int row = 0; row < 2; ++row) {
                Bf16Step const step(steps.word[h][row]);
                CUTE_UNROLL
                for (int j = 0; j < 4; ++j)  // mma 2h + j / 2, register row + 2 * (j % 2)
                    rA(row + 2 * (j % 2), 2 * h + j / 2) = unpack_bf16_w8(rW(2 * h + row), j, step);
            }
        }
    }
};

// The engine of a kernel on the architecture that is compiled for. EngineS4 and EngineS8 give the same sums.
template <int kBits, int kGroup>
using GroupedEngine =
    conditional_t<kBits == 16, EngineBf16, conditional_t<kBits == 4 && kHasS4, EngineS4<kGroup>, EngineS8<kBits>>>;
template <int kBits>
using TwoLevelEngine = conditional_t<kBits == 16, EngineBf16W8, EngineW8<kBits>>;
template <class C>
using Engine = conditional_t<C::kTwoLevel, TwoLevelEngine<C::kBits>, GroupedEngine<C::kBits, C::kGroup>>;

}  // namespace w4ax
