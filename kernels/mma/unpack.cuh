// Unpacks the nibbles of weight tiles and the codes of activation tiles into mma fragments.
#pragma once

#include "common/device.cuh"
#include "common/layout.cuh"
#include "common/ptx.cuh"
#include "common/quantize.cuh"

#include <climits>

namespace w4ax {

// Copies the four words of a 16-byte load to registers or to a tensor (4).
template <class Words>
W4AX_DEVICE void set_words(Words&& words, uint4 v) {
    words[0] = v.x;
    words[1] = v.y;
    words[2] = v.z;
    words[3] = v.w;
}

// Returns the A fragment of mma.m16n8k32 number h, 16 * qw as s8, from the lane's words 2h and 2h + 1. Takes three
// instructions for eight weights.
W4AX_DEVICE void unpack_s8(uint32_t word0, uint32_t word1, uint32_t (&a)[4]) {
    a[0] = (word0 << 4) & 0xF0F0F0F0u;
    a[1] = (word1 << 4) & 0xF0F0F0F0u;
    a[2] = word0 & 0xF0F0F0F0u;
    a[3] = word1 & 0xF0F0F0F0u;
}

// Returns bf16(136 + zw) in both halves: unpack_bf16 subtracts it from 136 + qw.
W4AX_DEVICE uint32_t bf16_offset(int zero) { return (0x4308u + uint32_t(zero)) * 0x00010001u; }

// Returns two of a word's eight weights, nibbles j and j + 4, as bf16(qw - zw). A nibble with its sign bit flipped is
// qw + 8. As the low mantissa bits of bf16 128 it makes 136 + qw. Takes one shift (none for j = 0), one lop3 and one
// subtraction, all exact.
W4AX_DEVICE uint32_t unpack_bf16(uint32_t word, int j, uint32_t offset) {
    uint32_t const biased = ptx::flip_nibbles(word >> (4 * j), 0x43084308u);
    __nv_bfloat162 v, o;
    memcpy(&v, &biased, sizeof v);
    memcpy(&o, &offset, sizeof o);
    v = __hsub2(v, o);
    uint32_t r;
    memcpy(&r, &v, sizeof r);
    return r;
}

// The group steps of a lane's rows g and g + 8, for the two halves of a k-tile (StepWord).
struct TileSteps {
    uint32_t word[2][2];  // [half][row]
};

// Loads the steps of a lane's rows from those of its weight tile, [groups][16 channels], for the k-tile from `k` on.
// Groups beyond `last` are replaced by it: a half of a tile beyond K has none, and its weights are multiplied by
// activations of zero.
W4AX_DEVICE TileSteps load_tile_steps(StepWord const* steps, int lane, int k, int step_shift, int last = INT_MAX) {
    TileSteps r;
    CUTE_UNROLL
    for (int half = 0; half < 2; ++half) {
        int const at = (k + half * (kTileK / 2)) >> step_shift, group = at < last ? at : last;
        CUTE_UNROLL
        for (int row = 0; row < 2; ++row) r.word[half][row] = steps[group * kTileN + lane / 4 + 8 * row];
    }
    return r;
}

// A channel's group step for unpack_u8: 128 + w8 = u * step + base for each byte u = qw + 8 of a word.
struct ByteStep {
    uint32_t step, base;
    // The bytes of the sum 128 + u * sg - (zg + 8) * sg are in 1..255. So no carry or borrow crosses a byte in the end,
    // and the sum modulo 2^32 is exact.
    W4AX_DEVICE explicit ByteStep(uint32_t word) : step(word & 31), base(0x80808080u - (word >> 7) * 0x01010101u) {}
    W4AX_DEVICE uint32_t operator()(uint32_t u) const { return u * step + base; }
};

// Returns the A fragment of mma.m16n8k32 number h, 128 + w8 as u8, from the lane's words 2h and 2h + 1. Takes five
// instructions for eight weights: one shift, two lop3, two multiply-adds.
W4AX_DEVICE void unpack_u8(uint32_t word0, uint32_t word1, ByteStep const& step0, ByteStep const& step1,
                           uint32_t (&a)[4]) {
    constexpr uint32_t kFlip = 0x08080808u;
    a[0] = step0(ptx::flip_byte_nibbles(word0, kFlip));
    a[1] = step1(ptx::flip_byte_nibbles(word1, kFlip));
    a[2] = step0(ptx::flip_byte_nibbles(word0 >> 4, kFlip));
    a[3] = step1(ptx::flip_byte_nibbles(word1 >> 4, kFlip));
}

// A channel's group step for unpack_bf16_w8: sg and -(zg + 8) * sg in both halves. Both are exact in BF16.
struct Bf16Step {
    uint32_t step, minus_zero;
    W4AX_DEVICE explicit Bf16Step(uint32_t word)
        : step(both_halves(int(word & 31))), minus_zero(both_halves(-int(word >> 7))) {}

private:
    static W4AX_DEVICE uint32_t both_halves(int v) { return __byte_perm(__float_as_uint(exact_float(v)), 0, 0x3232); }
};

// Returns two of a word's eight weights, nibbles j and j + 4, as bf16(w8). As in unpack_bf16, a flipped nibble makes
// 128 + u. u = qw + 8 and u * sg - (zg + 8) * sg are exact.
W4AX_DEVICE uint32_t unpack_bf16_w8(uint32_t word, int j, Bf16Step const& step) {
    __nv_bfloat162 const u = __hsub2(as_bf162(ptx::flip_nibbles(word >> (4 * j), 0x43084308u)), as_bf162(0x43004300u));
    return as_u32(__hfma2(u, as_bf162(step.step), as_bf162(step.minus_zero)));
}

// Expands the word of 2-bit codes to the 4-bit words h = 0, 1.
W4AX_DEVICE void expand_2bit(uint32_t codes, uint32_t (&words)[2]) {
    words[0] = codes & 0x33333333u;
    words[1] = (codes >> 2) & 0x33333333u;
}

// Expands a 4-bit word to the B fragment of mma.m16n8k32 number h.
W4AX_DEVICE void expand_4bit(uint32_t word, uint32_t (&b)[2]) {
    b[0] = word & 0x0F0F0F0Fu;
    b[1] = (word >> 4) & 0x0F0F0F0Fu;
}

// Loads the codes of one lane of an activation tile as the words of the kBits engine. kCodeBits is their width in
// memory.
template <int kBits, int kCodeBits = kBits>
W4AX_DEVICE void load_code_words(void const* tile, int lane, uint32_t (&words)[kBits / 2]) {
    if constexpr (kBits == 8) {
        set_words(words, static_cast<uint4 const*>(tile)[lane]);
    } else if constexpr (kCodeBits == 4) {
        uint2 const v = static_cast<uint2 const*>(tile)[lane];
        words[0] = v.x;
        words[1] = v.y;
    } else {
        expand_2bit(static_cast<uint32_t const*>(tile)[lane], words);
    }
}

}  // namespace w4ax
