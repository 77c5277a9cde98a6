// The entry point of the row operations, declared in w4ax_row_op.h.
#include "api/gemm_plan.cuh"
#include "api/w4ax_row_op.h"
#include "common/row_op_params.cuh"

#include <climits>
#include <cmath>

namespace w4ax {

namespace {

constexpr int kPlainThreads = 256;  // of a block of the reference kernels

bool is_rms_norm(w4axk_row_op_args const& a) { return a.op == W4AXK_RMS_NORM; }
bool writes_rows(w4axk_row_op_args const& a) { return a.width == W4AXK_BF16 || a.width == W4AXK_LATCHED; }
bool is_quantized(w4axk_row_op_args const& a) { return a.width != W4AXK_BF16; }

w4axk_status check_modes(w4axk_row_op_args const& a) {
    if (a.op > uint32_t(W4AXK_SILU_MUL) || a.kernel > uint32_t(W4AXK_ROW_OP_PLAIN)) return W4AXK_BAD_MODE;
    if (a.x_type > uint32_t(is_rms_norm(a) ? W4AXK_VALUE_F32 : W4AXK_VALUE_BF16)) return W4AXK_BAD_MODE;
    if (a.kernel == W4AXK_ROW_OP_PLAIN && is_quantized(a)) return W4AXK_BAD_MODE;
    if (a.addend && !is_rms_norm(a)) return W4AXK_BAD_MODE;
    // Also rejects a NaN.
    if (is_rms_norm(a) && !(a.eps > 0.0f && std::isfinite(a.eps))) return W4AXK_BAD_MODE;
    return W4AXK_OK;
}

w4axk_status check_output(w4axk_row_op_args const& a) {
    bool const routed = a.width == W4AXK_LATCHED;
    if ((writes_rows(a) && !a.y) || (is_quantized(a) && !a.packed) || (routed && !a.latch)) return W4AXK_NULL_POINTER;
    if (writes_rows(a) && !is_stride(a.y_stride, a.k)) return W4AXK_BAD_STRIDE;
    if ((writes_rows(a) && !is_aligned(a.y, 2)) || (is_quantized(a) && !is_aligned(a.packed, 128)) ||
        (routed && !is_aligned(a.latch, 16)))
        return W4AXK_MISALIGNED;
    if (!is_quantized(a)) return W4AXK_OK;
    uint64_t const bytes = codes_layout(w4axk_family(a.family), a.m, a.k, a.width, a.group).bytes;
    return a.packed_bytes < bytes ? W4AXK_WORKSPACE_TOO_SMALL : W4AXK_OK;
}

w4axk_status check(w4axk_row_op_args const& a) {
    w4axk_status status = check_shape(a.m, a.k, a.width, a.group);
    if (status != W4AXK_OK) return status;
    if (!reads_quantized(a.family)) return W4AXK_BAD_FAMILY;
    status = check_modes(a);
    if (status != W4AXK_OK) return status;
    if (!flags_are_valid(a)) return W4AXK_BAD_FLAGS;
    if (!a.x || !a.factor) return W4AXK_NULL_POINTER;
    bool const factor_fits = is_rms_norm(a) ? a.factor_stride == 0 : is_stride(a.factor_stride, a.k);
    bool const addend_fits = !a.addend || is_stride(a.addend_stride, a.k);
    if (!is_stride(a.x_stride, a.k) || !factor_fits || !addend_fits) return W4AXK_BAD_STRIDE;
    if (!is_aligned(a.x, a.x_type == W4AXK_VALUE_F32 ? 4 : 2) || !is_aligned(a.factor, 2) || !is_aligned(a.addend, 2))
        return W4AXK_MISALIGNED;
    if (a.kernel == W4AXK_ROW_OP_PLAIN && int64_t(a.m) * a.k > int64_t(INT_MAX) * kPlainThreads) return W4AXK_BAD_SHAPE;
    return check_output(a);
}

dim3 grid_of(w4axk_row_op_args const& a, Kernel const& kernel) {
    int const m = int(a.m), k = int(a.k), m_tiles = ceil_div(m, kTileM);
    if (a.kernel == W4AXK_ROW_OP_PLAIN) {
        int64_t const threads = is_rms_norm(a) ? int64_t(m) : int64_t(m) * k;
        return dim3(unsigned((threads + kPlainThreads - 1) / kPlainThreads));
    }
    // One block per token, padding included; or one block per 8 tokens and kQuantizeBlockK.
    return kernel.tokens == 1 ? dim3(m_tiles * kTileM) : dim3(m_tiles, ceil_div(k, kQuantizeBlockK));
}

w4axk_status launch_row_op(w4axk_row_op_args const& a, Device const& device, cudaStream_t stream) {
    auto const reader = w4axk_family(a.family);
    int const m = int(a.m), k = int(a.k), group = int(a.group), tile = a.kernel == W4AXK_ROW_OP_PLAIN ? 2 : 1;
    TokenParams* tokens = nullptr;
    if (is_quantized(a)) {
        uint64_t const offset = codes_layout(reader, a.m, a.k, a.width, a.group).token_params;
        tokens = reinterpret_cast<TokenParams*>(static_cast<unsigned char*>(a.packed) + offset);
    }
    RowOpParams const p = {
        .quantize =
            {
                .x = nullptr,
                .x_stride = 0,
                .codes = a.packed,
                .tokens = tokens,
                .m = m,
                .k = k,
                .k_tiles = ceil_div(k, kTileK),
                .groups = group_count(k, group),
                .group = group,
                .bits = int(a.width),
                .x_aligned = false,
                .latched = a.width == W4AXK_LATCHED ? &a.latch->latched : nullptr,
                .core_matrices = reader == W4AXK_WGMMA,
            },
        .x = a.x,
        .x_stride = a.x_stride,
        .factor = static_cast<uint16_t const*>(a.factor),
        .factor_stride = a.factor_stride,
        .addend = static_cast<uint16_t const*>(a.addend),
        .addend_stride = a.addend_stride,
        .y = static_cast<uint16_t*>(a.y),
        .y_stride = a.y_stride,
        .eps = a.eps,
        .x_f32 = a.x_type == W4AXK_VALUE_F32,
        // Pairs: 4 bytes of BF16, 8 of f32.
        .x_aligned = is_aligned(a.x, a.x_type == W4AXK_VALUE_F32 ? 8 : 4) && a.x_stride % 2 == 0,
        .factor_aligned = rows_aligned(a.factor, a.factor_stride, 4),
        .addend_aligned = rows_aligned(a.addend, a.addend_stride, 4),
        .y_aligned = rows_aligned(a.y, a.y_stride, 4),
    };
    Role const role = is_rms_norm(a) ? Role::RmsNorm : Role::SiluMul;
    int const index = find_kernel(role, W4AXK_AUTO, 0, tile == 1 ? group : 0, W4AXK_FUSED, tile);
    w4axk_status const status = load_kernel(device, index);
    if (status != W4AXK_OK) return status;
    Kernel const& kernel = *kernel_at(index);
    Launch const l = {
        .kernel = &kernel,
        .grid = grid_of(a, kernel),
        .shared_bytes = kernel.shared_bytes(m),
        .pdl = may_overlap(a.flags, device, stream),
        .stream = stream,
    };
    return status_of(launch(l, p));
}

}  // namespace

}  // namespace w4ax

extern "C" w4axk_status w4axk_row_op_launch(const w4axk_row_op_args* args, void* stream) {
    using namespace w4ax;
    return check_and_launch(args, check, [&](w4axk_row_op_args const& a) {
        return on_device(a.device, stream,
                         [&](Device const& device, cudaStream_t on) { return launch_row_op(a, device, on); });
    });
}
