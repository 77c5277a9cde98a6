// The parameter structures that the kernels are launched with.
#pragma once

#include "api/w4ax_kernels.h"
#include "common/layout.cuh"

#include <cstdint>

namespace w4ax {

struct GemmParams {
    void const* tiles;          // weight tiles [ceil(N/16)][ceil(K/64)], see layout.cuh
    void const* scales;         // [ceil(N/16)][groups][16] of scale_type
    int8_t const* zeros;        // [ceil(N/16)][groups][16], or null when symmetric or two-level
    void const* sums;           // [ceil(N/16)][groups][16] of int16_t; per channel of int32_t
    StepWord const* steps;      // [ceil(N/16)][step_groups][16] of two-level weights, or null
    void const* x;              // BF16 [M, K], or quantized tiles
    TokenParams const* tokens;  // of quantized x: [ceil(M/8)][groups][8]
    int64_t x_stride;           // elements from row to row of BF16 x
    uint16_t* y;                // BF16 [M, N]
    int64_t y_stride;           // elements from row to row
    float const* bias;          // [N], or null
    int m, n, k;
    int n_tiles, k_tiles, groups;
    int group;                    // group size; 0: per channel, or two-level
    int step_groups, step_shift;  // of two-level weights: groups, and the logarithm of their size
    int bits;                     // activation width: a 4-bit kernel takes 2-bit activations too
    int scale_type;               // w4axk_scale_type
    bool x_aligned;               // rows of x are aligned to 4 bytes (decode) or 16 bytes (prefill)
    bool y_aligned;               // rows of y are aligned to 16 bytes
};

// A matrix in global memory as TMA describes it: 128 opaque bytes, a CUtensorMap or the emulator's counterpart.
struct alignas(128) TensorMap {
    uint64_t opaque[16];
};

// A GEMM of the wgmma family.
struct WgmmaParams {
    GemmParams gemm;
    TensorMap x;  // BF16 [M, K]; unused for quantized x, which are core matrices
};

// A GEMM whose width the latch holds. `gemm` describes the call at 16 bits.
struct RoutedParams {
    GemmParams gemm;
    void const* codes;        // quantized x at the latched width, if the mode is W4AXK_PACKED
    uint64_t const* latched;  // see latch.cuh; null: the plain kernel takes the width from gemm.bits
};

// Such a GEMM of the wgmma family.
struct RoutedWgmmaParams {
    RoutedParams routed;
    TensorMap x;  // BF16 [M, K]
};

struct QuantizeParams {
    void const* x;        // BF16 [M, K]
    int64_t x_stride;     // elements from row to row
    void* codes;          // quantized tiles, see layout.cuh
    TokenParams* tokens;  // [ceil(M/8)][groups][8]
    int m, k;
    int k_tiles, groups;
    int group;                // group size; 0: per token
    int bits;                 // activation width
    bool x_aligned;           // rows of x are aligned to 4 bytes
    uint64_t const* latched;  // null, or the latched width, which replaces `bits`
    bool core_matrices;       // write core matrices of bytes at every width, for the wgmma family
};

// Quantization of groups: k of a block.
constexpr int kQuantizeBlockK = 4 * kTileK;

struct GatherParams {
    uint16_t const* x;      // BF16 [M, K]
    int64_t x_stride;       // elements from row to row
    uint32_t const* order;  // [K]
    uint16_t* y;            // BF16 [M, K]
    int64_t y_stride;       // elements from row to row
    int m, k;
    bool y_pairs;  // rows of y are aligned to 4 bytes
};

constexpr int kGatherThreads = 256;  // of a block
constexpr int kGatherTokens = 8;     // of a thread, which reads its part of the order once for all of them

struct LatchParams {
    w4axk_latch_state* state;
    uint64_t const* flag;  // null with a forced width only
    uint64_t* executed;
    uint64_t conditionals[4];
    int conditional_count;
    uint32_t spin_us;  // microseconds to wait for this step's flag word
    uint32_t forced;   // the width that runs; 0: read the flag
};

}  // namespace w4ax
