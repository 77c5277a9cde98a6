// From the packed nibbles of a weight tile, and the packed codes of an activation tile, to mma fragments.
#pragma once

#include "common/device.cuh"
#include "common/layout.cuh"
#include "common/ptx.cuh"

namespace w4ax {

// A of mma m16n8k32 number h, 16 * qw as s8, of the lane's words 2h and 2h + 1: three instructions for eight weights.
W4AX_DEVICE void unpack_s8(uint32_t word0, uint32_t word1, uint32_t (&a)[4]) {
    a[0] = (word0 << 4) & 0xF0F0F0F0u;
    a[1] = (word1 << 4) & 0xF0F0F0F0u;
    a[2] = word0 & 0xF0F0F0F0u;
    a[3] = word1 & 0xF0F0F0F0u;
}

// bf16(136 + zw) twice: what unpack_bf16 takes away from 136 + qw.
W4AX_DEVICE uint32_t bf16_offset(int zero) { return (0x4308u + uint32_t(zero)) * 0x00010001u; }

// Two of a word's eight weights, nibbles j and j + 4, as bf16(qw - zw). With the sign bit turned, a nibble is qw + 8; as the
// low mantissa bits of bf16 128 it is 136 + qw. One shift (none for j = 0), one lop3, one subtraction, all exact.
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

// The 4-bit words (h = 0, 1) of 2-bit codes.
W4AX_DEVICE void expand_2bit(uint32_t codes, uint32_t (&words)[2]) {
    words[0] = codes & 0x33333333u;
    words[1] = (codes >> 2) & 0x33333333u;
}

// B of mma m16n8k32 from the 4-bit word of its half.
W4AX_DEVICE void expand_4bit(uint32_t word, uint32_t (&b)[2]) {
    b[0] = word & 0x0F0F0F0Fu;
    b[1] = (word >> 4) & 0x0F0F0F0Fu;
}

}  // namespace w4ax
