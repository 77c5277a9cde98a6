// The entry points of GEMMs and of quantization, declared in w4ax_kernels.h.
// The host's table of crossovers (src/cuda) selects the best kernel of a shape. What it leaves open is selected by
// make_plan among the kernels that fit.
#include "api/gemm_plan.cuh"
#include "common/params.cuh"

namespace w4ax {

namespace {

GemmParams gemm_params(w4axk_gemm_args const& a, w4axk_plan const& plan, void const* codes) {
    w4axk_weight const& w = a.weight;
    int const n = int(w.n), k = int(w.k), group = int(activation_group(w));
    bool const two_level = is_two_level(w);
    bool const routed = a.width == W4AXK_LATCHED, quantized = plan.mode == W4AXK_PACKED && !routed;
    TokenParams const* tokens = nullptr;
    if (quantized)
        tokens = reinterpret_cast<TokenParams const*>(
            static_cast<unsigned char const*>(codes) +
            codes_layout(w4axk_family(plan.family), a.m, w.k, a.width, uint32_t(group)).token_params);
    return {
        .tiles = w.tiles,
        .scales = w.scales,
        .zeros = two_level ? nullptr : w.zeros,
        .sums = w.sums,
        .steps = two_level ? w.steps : nullptr,
        .x = quantized ? codes : a.x,
        .tokens = tokens,
        .x_stride = a.x_stride,
        .y = static_cast<uint16_t*>(a.y),
        .y_stride = a.y_stride,
        .bias = a.bias,
        .m = int(a.m),
        .n = n,
        .k = k,
        .n_tiles = ceil_div(n, kTileN),
        .k_tiles = ceil_div(k, kTileK),
        .groups = group_count(k, group),
        .group = group,
        .step_groups = two_level ? group_count(k, int(w.group)) : 0,
        .step_shift = w.group == W4AXK_G32   ? 5
                      : w.group == W4AXK_G64 ? 6
                                             : 7,
        .bits = routed ? 16 : int(a.width),
        .scale_type = int(w.scale_type),
        .x_aligned = !quantized && !plan.slow_x,
        .y_aligned = !plan.slow_y,
    };
}

// Launches the kernel of a checked call. `codes`: the quantized activations, if the mode is W4AXK_PACKED.
w4axk_status launch_gemm(w4axk_gemm_args const& a, w4axk_plan const& plan, void const* codes, bool pdl,
                         cudaStream_t stream) {
    Kernel const& kernel = *kernel_at(int(plan.kernel));
    GemmParams const p = gemm_params(a, plan, codes);
    Launch const l = {
        .kernel = &kernel,
        .grid = dim3(plan.blocks),
        .shared_bytes = kernel.shared_bytes(p.m),
        .pdl = pdl,
        .stream = stream,
    };
    bool const routed = a.width == W4AXK_LATCHED;
    RoutedParams const r = {.gemm = p, .codes = codes, .latched = routed ? &a.latch->latched : nullptr};
    if (plan.family == W4AXK_WGMMA) {
        TensorMap x = {};
        // A routed kernel reads BF16 rows in steps of 16 bits.
        if (plan.mode != W4AXK_PACKED || routed) {
            w4axk_status const status = make_row_map(x, a.x, p.m, p.k, a.x_stride, kernel.tokens);
            if (status != W4AXK_OK) return status;
        }
        if (routed) return status_of(launch(l, RoutedWgmmaParams{.routed = r, .x = x}));
        return status_of(launch(l, WgmmaParams{.gemm = p, .x = x}));
    }
    if (!routed && kernel.family != W4AXK_PLAIN) return status_of(launch(l, p));
    return status_of(launch(l, r));
}

w4axk_status check_quantize(w4axk_quantize_args const& a) {
    w4axk_status const status = check_shape(a.m, a.k, a.width, a.group);
    if (status != W4AXK_OK) return status;
    if (a.width == W4AXK_BF16) return W4AXK_BAD_WIDTH;
    bool const routed = a.width == W4AXK_LATCHED;
    if (!reads_quantized(a.family)) return W4AXK_BAD_FAMILY;
    if (!flags_are_valid(a)) return W4AXK_BAD_FLAGS;
    if (!a.x || !a.packed || (routed && !a.latch)) return W4AXK_NULL_POINTER;
    if (!is_stride(a.x_stride, a.k)) return W4AXK_BAD_STRIDE;
    if (!is_aligned(a.x, 2) || !is_aligned(a.packed, 128) || (routed && !is_aligned(a.latch, 16)))
        return W4AXK_MISALIGNED;
    uint64_t const bytes = codes_layout(w4axk_family(a.family), a.m, a.k, a.width, a.group).bytes;
    return a.packed_bytes < bytes ? W4AXK_WORKSPACE_TOO_SMALL : W4AXK_OK;
}

w4axk_status launch_quantize(w4axk_quantize_args const& a, Device const& device, cudaStream_t stream) {
    auto const reader = w4axk_family(a.family);
    int const m = int(a.m), k = int(a.k), group = int(a.group);
    uint64_t const token_params = codes_layout(reader, a.m, a.k, a.width, a.group).token_params;
    QuantizeParams const p = {
        .x = a.x,
        .x_stride = a.x_stride,
        .codes = a.packed,
        .tokens = reinterpret_cast<TokenParams*>(static_cast<unsigned char*>(a.packed) + token_params),
        .m = m,
        .k = k,
        .k_tiles = ceil_div(k, kTileK),
        .groups = group_count(k, group),
        .group = group,
        .bits = int(a.width),
        .x_aligned = rows_aligned(a.x, a.x_stride, 4),
        .latched = a.width == W4AXK_LATCHED ? &a.latch->latched : nullptr,
        .core_matrices = reader == W4AXK_WGMMA,
    };
    int const index = find_kernel(Role::QuantizePack, W4AXK_AUTO, int(a.width), group, W4AXK_FUSED, 1);
    w4axk_status const status = load_kernel(device, index);
    if (status != W4AXK_OK) return status;
    Kernel const& kernel = *kernel_at(index);
    // Whole rows: one block per token, padding included. Groups: one block per 8 tokens and kQuantizeBlockK.
    int const m_tiles = ceil_div(m, kTileM);
    Launch const l = {
        .kernel = &kernel,
        .grid = group ? dim3(m_tiles, ceil_div(k, kQuantizeBlockK)) : dim3(m_tiles * kTileM),
        .shared_bytes = kernel.shared_bytes(m),
        .pdl = may_overlap(a.flags, device, stream),
        .stream = stream,
    };
    return status_of(launch(l, p));
}

}  // namespace

}  // namespace w4ax

using namespace w4ax;

extern "C" {

w4axk_status w4axk_packed_bytes(uint32_t m, uint32_t k, uint32_t width, uint32_t group, uint32_t family,
                                uint64_t* bytes) {
    if (!bytes) return W4AXK_NULL_POINTER;
    w4axk_status const status = check_shape(m, k, width, group);
    if (status != W4AXK_OK) return status;
    if (width == W4AXK_BF16) return W4AXK_BAD_WIDTH;
    if (!reads_quantized(family)) return W4AXK_BAD_FAMILY;
    *bytes = codes_layout(w4axk_family(family), m, k, width, group).bytes;
    return W4AXK_OK;
}

w4axk_status w4axk_plan_gemm(const w4axk_gemm_args* args, w4axk_plan* plan) {
    return args && plan ? make_plan(*args, *plan) : W4AXK_NULL_POINTER;
}

w4axk_status w4axk_workspace_bytes(const w4axk_gemm_args* args, uint64_t* bytes) {
    if (!args || !bytes) return W4AXK_NULL_POINTER;
    w4axk_plan plan;
    w4axk_status const status = make_plan(*args, plan);
    if (status == W4AXK_OK) *bytes = plan.workspace_bytes;
    return status;
}

w4axk_status w4axk_gemm(const w4axk_gemm_args* args, void* stream) {
    if (!args) return W4AXK_NULL_POINTER;
    w4axk_gemm_args const& a = *args;
    if (!a.weight.tiles || !a.weight.scales || !a.weight.sums || (is_two_level(a.weight) && !a.weight.steps) || !a.x ||
        !a.y || (a.width == W4AXK_LATCHED && !a.latch))
        return W4AXK_NULL_POINTER;
    w4axk_plan plan;
    w4axk_status const status = make_plan(a, plan);
    if (status != W4AXK_OK) return status;
    if (plan.workspace_bytes > 0 && (!a.workspace || a.workspace_bytes < plan.workspace_bytes))
        return W4AXK_WORKSPACE_TOO_SMALL;
    Device const* device = find_device(a.device);
    if (!device) return W4AXK_NOT_PRELOADED;
    // Checked before the first launch.
    if (plan.family == W4AXK_WGMMA && !device->has_wgmma) return W4AXK_NO_KERNEL_IMAGE;
    if (kernel_at(int(plan.kernel))->shared_bytes(int(a.m)) > device->max_shared_bytes) return W4AXK_BAD_TILE;
    return on_device(a.device, stream, [&](Device const& on, cudaStream_t in) {
        w4axk_status const loaded = load_kernel(on, int(plan.kernel));
        if (loaded != W4AXK_OK) return loaded;
        if (plan.launches == 1)
            return launch_gemm(a, plan, a.width == W4AXK_LATCHED ? a.workspace : a.x, may_overlap(a.flags, on, in), in);
        w4axk_quantize_args const quantize = {
            .x = a.x,
            .x_stride = a.x_stride,
            .packed = a.workspace,
            .packed_bytes = a.workspace_bytes,
            .m = a.m,
            .k = a.weight.k,
            .width = a.width,
            .group = activation_group(a.weight),
            .family = plan.family,
            .flags = a.flags,
            .device = a.device,
            .reserved = 0,
            .latch = a.latch,
        };
        w4axk_status const packed = launch_quantize(quantize, on, in);
        // The GEMM may always overlap quantize_pack: it loads weights meanwhile.
        bool const pdl = may_overlap(W4AXK_FLAG_PDL, on, in);
        return packed == W4AXK_OK ? launch_gemm(a, plan, a.workspace, pdl, in) : packed;
    });
}

w4axk_status w4axk_quantize_pack(const w4axk_quantize_args* args, void* stream) {
    return check_and_launch(args, check_quantize, [&](w4axk_quantize_args const& a) {
        return on_device(a.device, stream,
                         [&](Device const& device, cudaStream_t on) { return launch_quantize(a, device, on); });
    });
}

}  // extern "C"
