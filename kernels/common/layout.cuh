// Memory layouts that host and device share: weight tiles, their parameters, and quantized activations.
//
// Lanes are written 4g + t (g = 0..7, t = 0..3), as in the fragments of mma.m16n8:
// https://docs.nvidia.com/cuda/parallel-thread-execution/#warp-level-matrix-fragment-mma-16864
//
// Weights: [ceil(N/16)][ceil(K/64)] tiles of 16 output channels x 64 k, 512 bytes each. Lane 4g + t owns 16 bytes of a
// tile: its fragment of the A operand. src/weights/layout.rs defines the order of the nibbles.
//
// Group steps of two-level weights: [ceil(N/16)][groups][16 channels] of 16 bits: sg in bits 4..0, (zg + 8) * sg in
// bits 15..7. With u = qw + 8, the value of a stored nibble with its sign bit flipped, w8 = u * sg - (zg + 8) * sg.
//
// Quantized activations: [ceil(M/8)][ceil(K/64)] tiles of 8 tokens x 64 k, in the order of the B operand. Lane 4g + t
// owns the codes of token g for k = 32h + 16c + 8odd + 2t + e (h, c, odd, e = 0..1). The 8 codes of one h are an
// "octet".
//   8 bits: 16 bytes. Byte 8h + 4odd + 2e + c. Registers (2h, 2h+1) are the B fragment of mma.m16n8k32 number h.
//   4 bits:  8 bytes. Nibble 2(2e + c) + odd of word h. The two words are the B fragment of mma.m16n8k64.
//   2 bits:  4 bytes. The two 4-bit words combined: w0 | w1 << 2.
// TokenParams [ceil(M/8)][groups][8 tokens] follow the tiles at the next multiple of 128 bytes. The codes and
// parameters of k beyond K and of tokens beyond M are 0.
//
// The wgmma family reads its B operand from shared memory, so it uses core matrices of 8 tokens x 16 bytes:
// https://docs.nvidia.com/cuda/parallel-thread-execution/#asynchronous-warpgroup-level-matrix-shared-memory-layout
// A code is one byte at every width. A tile is four core matrices, number 2h + odd; byte 4t + 2e + c of row g is byte
// 2e + c of register 2h + odd above. The tiles are [ceil(K/64)][ceil(M/8)]: the tiles of one block are contiguous for
// each k-tile. With groups, f32 TokenFactors [groups][ceil(M/8)][scale, minus zero, minus sum][8 tokens] follow the
// tiles; per channel, TokenParams follow them.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define W4AX_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define W4AX_HOST_DEVICE inline
#endif

namespace w4ax {

constexpr int kTileN = 16;                             // output channels of a weight tile
constexpr int kTileM = 8;                              // tokens of an activation tile
constexpr int kTileK = 64;                             // k of a weight tile and of an activation tile
constexpr int kWeightTileBytes = kTileN * kTileK / 2;  // 4-bit weights
constexpr int kOctetsPerTile = 8;                      // octets of one token in a tile, number 2t + h

// The value of a kernel's template parameter for the group size that selects two-level weights: one scale per channel,
// and steps of groups of any size, which the kernel reads from its parameters.
constexpr int kTwoLevelGroups = -1;

using StepWord = uint16_t;                                       // of one channel and group, see above
constexpr int kGroupStepBytes = kTileN * int(sizeof(StepWord));  // the steps of a weight tile's channels in one group
constexpr int kTileStepGroups = 2;                               // groups of steps in a tile's 64 k, at most

W4AX_HOST_DEVICE constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Returns the size of an activation tile in bytes.
W4AX_HOST_DEVICE constexpr int activation_tile_bytes(int bits) { return kTileM * kTileK * bits / 8; }

// Returns the k of an octet's first code in its tile. Its other codes are at +1, and at +8, +16 and +24 of both.
W4AX_HOST_DEVICE constexpr int octet_k(int octet) { return 32 * (octet & 1) + 2 * (octet >> 1); }

// Returns the number of groups of K. Group size 0 means per channel: one group.
W4AX_HOST_DEVICE constexpr int group_count(int k, int group) { return group ? ceil_div(k, group) : 1; }

// Returns the index into the weight parameters [ceil(N/16)][groups][16].
W4AX_HOST_DEVICE int64_t group_params_index(int tile, int group, int groups, int row) {
    return (int64_t(tile) * groups + group) * kTileN + row;
}

// The parameters of one token and group of quantized activations.
struct alignas(8) TokenParams {
    float scale;            // 0 if the group counts as all zero, NaN if it holds a NaN or an infinity
    uint32_t zero_and_sum;  // bits 7..0: the code of zero; bits 31..8: the sum of the codes, at most 255 * 65536
};

W4AX_HOST_DEVICE constexpr uint32_t zero_and_sum(int zero, int sum) { return uint32_t(zero) | uint32_t(sum) << 8; }
W4AX_HOST_DEVICE constexpr int zero_of(TokenParams const& t) { return int(t.zero_and_sum & 0xFF); }
W4AX_HOST_DEVICE constexpr int sum_of(TokenParams const& t) { return int(t.zero_and_sum >> 8); }

// Byte offsets of quantized activations, from their start.
struct ActivationLayout {
    uint64_t token_params;  // where the token parameters begin
    uint64_t bytes;         // the size of everything
};

W4AX_HOST_DEVICE constexpr uint64_t token_params_offset(uint64_t m_tiles, uint64_t k_tiles, uint64_t bits) {
    return (m_tiles * k_tiles * (kTileM * kTileK / 8) * bits + 127) / 128 * 128;
}

constexpr int kFactorBytes = 3 * kTileM * 4;  // TokenFactors of 8 tokens and one group

// Returns where the token parameters begin in the layout as core matrices, at every width.
W4AX_HOST_DEVICE constexpr uint64_t core_matrix_token_params(uint64_t m, uint64_t k) {
    return token_params_offset((m + kTileM - 1) / kTileM, (k + kTileK - 1) / kTileK, 8);
}

// Returns the layout as core matrices, for the wgmma family.
inline ActivationLayout core_matrix_layout(uint64_t m, uint64_t k, uint64_t group) {
    uint64_t const m_tiles = (m + kTileM - 1) / kTileM, token_params = core_matrix_token_params(m, k);
    uint64_t const params_bytes = group ? (k + group - 1) / group * kFactorBytes : kTileM * sizeof(TokenParams);
    return {token_params, token_params + m_tiles * params_bytes};
}

// Returns the layout as fragments, for the decode and prefill families.
inline ActivationLayout packed_layout(uint64_t m, uint64_t k, uint64_t bits, uint64_t group) {
    uint64_t const m_tiles = (m + kTileM - 1) / kTileM, k_tiles = (k + kTileK - 1) / kTileK;
    uint64_t const groups = group ? (k + group - 1) / group : 1;
    uint64_t const token_params = token_params_offset(m_tiles, k_tiles, bits);
    return {token_params, token_params + m_tiles * groups * kTileM * sizeof(TokenParams)};
}

}  // namespace w4ax
