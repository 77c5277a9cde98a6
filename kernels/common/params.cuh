// What the kernels are launched with.
#pragma once

#include "common/layout.cuh"
#include "api/w4ax_kernels.h"

#include <cstdint>

namespace w4ax {

struct GemmParams {
    void const* tiles;            // weights, see layout.cuh
    void const* scales;           // of scale_type
    int8_t const* zeros;          // null when symmetric
    void const* sums;             // int16_t, int32_t per channel
    void const* x;                // BF16 [m, k], or packed codes
    TokenGroup const* tokens;     // packed only
    int64_t x_stride;             // elements
    uint16_t* y;                  // BF16 [m, n]
    int64_t y_stride;             // elements
    float const* bias;            // or null
    int m, n, k;
    int n_tiles, k_tiles, groups;
    int group;                    // 0: per channel
    int bits;                     // of the activations: a 4-bit kernel takes 2-bit ones too
    int scale_type;               // w4axk_scale_type
    bool x_vectors;               // decode: rows of x are aligned to 4 bytes; prefill: to 16 bytes
    bool y_vectors;               // rows of y are aligned to 16 bytes
};

// A matrix in global memory as tensor copies see it: 128 opaque bytes, CUtensorMap's (under the emulator its own).
struct alignas(128) TensorMap {
    uint64_t opaque[16];
};

// A GEMM of the wgmma family.
struct WgmmaParams {
    GemmParams gemm;
    TensorMap x;                  // BF16 activations; quantized ones are packed as core matrices
};

// A GEMM whose width the latch says. `gemm` is as for 16 bits.
struct RoutedParams {
    GemmParams gemm;
    void const* codes;            // packed, where its mode is; of the latched width
    uint64_t const* latched;      // see latch.cuh; the plain kernel: null if gemm.bits says it
};

struct QuantizeParams {
    void const* x;                // BF16 [m, k]
    int64_t x_stride;             // elements
    void* codes;                  // packed, see layout.cuh
    TokenGroup* tokens;
    int m, k;
    int k_tiles, groups;
    int group;                    // 0: per token
    int bits;
    bool x_vectors;               // rows of x are aligned to 4 bytes
    uint64_t const* latched;      // null, or what says `bits`
    bool cores;                   // core matrices of bytes, for the wgmma family, whatever `bits` is
};

struct LatchParams {
    w4axk_latch_state* state;
    uint64_t const* flag;         // null with a forced width only
    uint64_t* executed;
    uint64_t conditionals[4];
    int conditional_count;
    uint32_t spin_us;
    uint32_t forced;              // 0: the flag says it
};

}  // namespace w4ax
