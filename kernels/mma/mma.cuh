// The three tensor-core paths behind one interface. Weights are the A operand (16 output channels), tokens the B operand (8).
//
// An engine multiplies a weight tile (16 x 64 k) by an activation tile (8 x 64 k) in kSteps mma, k ascending:
//   Words           what a lane holds of an activation tile as it is packed: 4, 2 or 8 words
//   unpack(...)     a lane's 16 bytes of weights -> A fragments
//   expand(...)     a lane's words of activations -> B fragments
//   kStart, sum(c)  what an accumulator starts from, and the exact group sum that it then holds
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
    static constexpr int kSteps = kSteps_;
    static constexpr int kRegistersA = std::extent_v<typename Op::ARegisters>;
    static constexpr int kRegistersB = std::extent_v<typename Op::BRegisters>;

    template <class TensorD, class TensorA, class TensorB>
    static W4AX_DEVICE void multiply(TensorD& rD, TensorA const& rA, TensorB const& rB) {
        MMA_Atom<Op>{}.call(rD, rA, rB, rD);
    }

    // Where a lane's four accumulators are: (channel of 16, token of 8).
    static W4AX_DEVICE auto coordinates() {
        return make_tiled_mma(Op{}).get_slice(lane_index()).partition_C(make_identity_tensor(Shape<_16, _8>{}))(_, 0, 0);  // (4)
    }
};

// s4 x u4. A group of 32 is half a tile and takes the mma of half its k.
template <int kGroup>
struct EngineS4 : EngineBase<conditional_t<kGroup == 32, SM80_16x8x32_S32S4U4S32_TN, SM80_16x8x64_S32S4U4S32_TN>, int32_t,
                             kGroup == 32 ? 2 : 1> {
    using Base = EngineBase<conditional_t<kGroup == 32, SM80_16x8x32_S32S4U4S32_TN, SM80_16x8x64_S32S4U4S32_TN>, int32_t,
                            kGroup == 32 ? 2 : 1>;
    static constexpr int kWords = 2;
    static constexpr int32_t kStart = int32_t(kRoundBits);
    static constexpr int kShift = 0;

    template <class TensorW, class TensorA>
    static W4AX_DEVICE void unpack(TensorW const& rW, uint32_t const (&)[2], TensorA&& rA) {
        CUTE_UNROLL
        for (int i = 0; i < 4; ++i) rA(i) = rW(i);
    }
    template <class TensorB>
    static W4AX_DEVICE void expand(uint32_t const (&words)[2], TensorB&& rB) {
        CUTE_UNROLL
        for (int i = 0; i < 2; ++i) rB(i) = words[i];
    }
    // |sum| <= 128 * 15 * 8: it fits the mantissa's low bits.
    static W4AX_DEVICE float sum(int32_t c) { return __fsub_rn(__int_as_float(c), kRound); }
};

// s8 x u8 on 16 * qw; the activations have 8 bits, or 4 bits and are expanded.
template <int kBits>
struct EngineS8 : EngineBase<SM80_16x8x32_S32S8U8S32_TN, int32_t, 2> {
    static constexpr int kWords = kBits / 2;
    static constexpr int32_t kStart = int32_t(kRoundBits);
    static constexpr int kShift = 4;

    template <class TensorW, class TensorA>
    static W4AX_DEVICE void unpack(TensorW const& rW, uint32_t const (&)[2], TensorA&& rA) {
        CUTE_UNROLL
        for (int h = 0; h < 2; ++h) {
            uint32_t a[4];
            unpack_s8(rW(2 * h), rW(2 * h + 1), a);
            CUTE_UNROLL
            for (int i = 0; i < 4; ++i) rA(i, h) = a[i];
        }
    }
    template <class TensorB>
    static W4AX_DEVICE void expand(uint32_t const (&words)[kWords], TensorB&& rB) {
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
    // |16 * sum| <= 16 * 128 * 255 * 8 < 2^22. The division by 16 is exact.
    static W4AX_DEVICE float sum(int32_t c) { return __fmaf_rn(__int_as_float(c), 0.0625f, -kRound * 0.0625f); }
};

// bf16 x bf16: number s of four takes k = 16s.. of the tile in natural order.
struct EngineBf16 : EngineBase<SM80_16x8x16_F32BF16BF16F32_TN, float, 4> {
    static constexpr int kWords = 8;  // pairs: word 2s + j is k = 16s + 8j + 2t and the next
    static constexpr float kStart = 0.0f;

    // `offset`: bf16_offset of the lane's rows g and g + 8.
    template <class TensorW, class TensorA>
    static W4AX_DEVICE void unpack(TensorW const& rW, uint32_t const (&offset)[2], TensorA&& rA) {
        CUTE_UNROLL
        for (int s = 0; s < 4; ++s) {
            CUTE_UNROLL
            for (int i = 0; i < 4; ++i) rA(i, s) = unpack_bf16(rW(2 * (s / 2) + i % 2), 2 * (s % 2) + i / 2, offset[i % 2]);
        }
    }
    template <class TensorB>
    static W4AX_DEVICE void expand(uint32_t const (&words)[8], TensorB&& rB) {
        CUTE_UNROLL
        for (int i = 0; i < 8; ++i) rB(i) = words[i];
    }
    static W4AX_DEVICE float sum(float c) { return c; }
};

// The engine of an activation width on the architecture that is compiled for: the same integers either way.
template <int kBits, int kGroup>
using Engine = conditional_t<kBits == 16, EngineBf16, conditional_t<kBits == 4 && kHasS4, EngineS4<kGroup>, EngineS8<kBits>>>;

}  // namespace w4ax
