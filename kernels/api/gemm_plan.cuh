// Checks the arguments of a GEMM and decides what a call does.
#pragma once

#include "api/entry.cuh"
#include "common/layout.cuh"
#include "runtime/context.cuh"

namespace w4ax {

inline bool is_fixed_width(uint32_t v) { return v == W4AXK_A2 || v == W4AXK_A4 || v == W4AXK_A8 || v == W4AXK_BF16; }

// Returns whether BF16 rows start at multiples of `bytes`.
inline bool rows_aligned(void const* pointer, int64_t stride, int bytes) {
    return is_aligned(pointer, uintptr_t(bytes)) && stride * 2 % bytes == 0;
}

// Returns whether the GEMMs of a family can read quantized activations.
inline bool reads_quantized(uint32_t family) { return family <= W4AXK_WGMMA && family != W4AXK_PLAIN; }

// Returns the layout of quantized activations for a family. A latched width counts as the widest.
inline ActivationLayout codes_layout(w4axk_family family, uint32_t m, uint32_t k, uint32_t width, uint32_t group) {
    if (family == W4AXK_WGMMA) return core_matrix_layout(m, k, group);
    return packed_layout(m, k, width == W4AXK_LATCHED ? uint32_t(W4AXK_A8) : width, group);
}

inline bool is_two_level(w4axk_weight const& w) { return w.scheme == W4AXK_TWO_LEVEL; }

// Returns the w4axk_grouping by which activations are quantized for a weight.
inline uint32_t activation_group(w4axk_weight const& w) {
    return is_two_level(w) ? uint32_t(W4AXK_PER_CHANNEL) : w.group;
}

w4axk_status check_shape(uint32_t m, uint32_t k, uint32_t width, uint32_t group);

w4axk_status make_plan(w4axk_gemm_args const& a, w4axk_plan& plan);

}  // namespace w4ax
