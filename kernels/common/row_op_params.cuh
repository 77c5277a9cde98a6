// The parameters of the row operations (ops/row_op.cuh). Apart from params.cuh, so that a change here does not
// recompile the GEMMs.
#pragma once

#include "common/params.cuh"

namespace w4ax {

struct RowOpParams {
    QuantizeParams quantize;  // the output at 2, 4 and 8 bits, with M, K and the width; its x is unused
    void* x;                  // RMSNorm: BF16 or f32 [M, K], written if there is an addend. SiLU: the gate, BF16 [M, K]
    int64_t x_stride;         // elements from row to row
    uint16_t const* factor;   // RMSNorm: the weight, BF16 [K]. SiLU: up, BF16 [M, K]
    int64_t factor_stride;    // elements from row to row; 0 for a weight
    uint16_t const* addend;   // RMSNorm: BF16 [M, K], which is added to x first; null for none
    int64_t addend_stride;    // elements from row to row
    uint16_t* y;              // the output at 16 bits, BF16 [M, K]
    int64_t y_stride;         // elements from row to row
    float eps;                // RMSNorm
    bool x_f32;               // x is f32
    bool x_aligned;           // rows of x are aligned to two elements
    bool factor_aligned;      // rows of factor are aligned to 4 bytes
    bool addend_aligned;      // rows of the addend are aligned to 4 bytes
    bool y_aligned;           // rows of y are aligned to 4 bytes
};

}  // namespace w4ax
