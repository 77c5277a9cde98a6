// Where everything lies: weight tiles, what stands beside them, and packed activations.
//
// Lane 4g + t of a warp: g in 0..8, t in 0..4, as in every mma fragment of 16x8 outputs.
//
// Weights: tiles of 16 output channels x 64 k, 512 bytes, [ceil(N/16)][ceil(K/64)]; lane 4g + t owns 16 bytes of a tile, its
// fragment of the A operand (src/weights/layout.rs has the order of the nibbles).
//
// Packed activations: tiles of 8 tokens x 64 k, [ceil(M/8)][ceil(K/64)], as the B operand takes them. Lane 4g + t owns the
// codes of token g for k = 32h + 16c + 8odd + 2t + e (h, c, odd, e in 0..2), "octets" of 8 codes for each h:
//   8 bits: 16 bytes; byte 8h + 4odd + 2e + c. Registers (2h, 2h+1) are the B fragment of mma m16n8k32 number h.
//   4 bits: 8 bytes; nibble 2(2e + c) + odd of word h. The words are the B fragment of m16n8k64, as they are.
//   2 bits: 4 bytes; the 4-bit words w0 | w1 << 2.
// After the tiles, from the next multiple of 128 bytes: a TokenGroup for [ceil(M/8)][groups][8 tokens].
// Codes of k beyond K and of tokens beyond M are 0, their TokenGroups are 0.
//
// For the wgmma family, which reads its B operand from shared memory, the same codes lie as core matrices ("cores"): whatever the
// width, a code is a byte, and a tile is four matrices of 8 tokens x 16 bytes, number 2h + odd; byte 4t + 2e + c of token g
// there is byte 2e + c of register 2h + odd above. The tiles are [ceil(K/64)][ceil(M/8)], so that what a block reads of a tile of
// k is in one piece, however many tokens it has. After them stands for each group, as f32 (TokenFactors),
// [groups][ceil(M/8)][scale, minus zero, minus sum][8 tokens]; per channel the TokenGroups as they are.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define W4AX_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define W4AX_HOST_DEVICE inline
#endif

namespace w4ax {

constexpr int kTileN = 16;         // output channels of a weight tile
constexpr int kTileM = 8;          // tokens of an activation tile
constexpr int kTileK = 64;         // k of either
constexpr int kWeightTileBytes = kTileN * kTileK / 2;
constexpr int kOctetsPerTile = 8;  // octets of one token in a tile: number 2t + h

W4AX_HOST_DEVICE constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Bytes of an activation tile.
W4AX_HOST_DEVICE constexpr int activation_tile_bytes(int bits) { return kTileM * kTileK * bits / 8; }

// k of the first code of an octet in its tile; the others are at +1 and at +8, +16, +24 of both.
W4AX_HOST_DEVICE constexpr int octet_k(int octet) { return 32 * (octet & 1) + 2 * (octet >> 1); }

// The groups of K; group 0 stands for per channel.
W4AX_HOST_DEVICE constexpr int group_count(int k, int group) { return group ? ceil_div(k, group) : 1; }

// Row `row` of 16 and group `group` in the arrays beside the weight tiles, [ceil(N/16)][groups][16].
W4AX_HOST_DEVICE int64_t row_group_index(int tile, int group, int groups, int row) {
    return (int64_t(tile) * groups + group) * kTileN + row;
}

// What packed activations carry for each token and group beside the codes.
struct alignas(8) TokenGroup {
    float scale;             // 0 if the group counts as all zero, NaN if it holds a NaN or an infinity
    uint32_t zero_and_sum;   // the code of zero in the low 8 bits, the sum of the codes (at most 255 * 65536) above
};

W4AX_HOST_DEVICE constexpr uint32_t zero_and_sum(int zero, int sum) { return uint32_t(zero) | uint32_t(sum) << 8; }
W4AX_HOST_DEVICE constexpr int zero_of(TokenGroup const& t) { return int(t.zero_and_sum & 0xFF); }
W4AX_HOST_DEVICE constexpr int sum_of(TokenGroup const& t) { return int(t.zero_and_sum >> 8); }

// The two parts of packed activations, in bytes from their start.
struct ActivationLayout {
    uint64_t token_groups;
    uint64_t bytes;
};

W4AX_HOST_DEVICE constexpr uint64_t packed_token_groups(uint64_t m_tiles, uint64_t k_tiles, uint64_t bits) {
    return (m_tiles * k_tiles * (kTileM * kTileK / 8) * bits + 127) / 128 * 128;
}

// Of the TokenFactors of a tile's 8 tokens and one group.
constexpr int kFactorBytes = 3 * kTileM * 4;

// Packed as core matrices.
inline ActivationLayout cores_layout(uint64_t m, uint64_t k, uint64_t group) {
    uint64_t const m_tiles = (m + kTileM - 1) / kTileM, k_tiles = (k + kTileK - 1) / kTileK;
    uint64_t const token_groups = packed_token_groups(m_tiles, k_tiles, 8);
    uint64_t const beside = group ? (k + group - 1) / group * kFactorBytes : kTileM * sizeof(TokenGroup);
    return {token_groups, token_groups + m_tiles * beside};
}

inline ActivationLayout packed_layout(uint64_t m, uint64_t k, uint64_t bits, uint64_t group) {
    uint64_t const m_tiles = (m + kTileM - 1) / kTileM, k_tiles = (k + kTileK - 1) / kTileK;
    uint64_t const groups = group ? (k + group - 1) / group : 1;
    uint64_t const token_groups = packed_token_groups(m_tiles, k_tiles, bits);
    return {token_groups, token_groups + m_tiles * groups * kTileM * sizeof(TokenGroup)};
}

}  // namespace w4ax
