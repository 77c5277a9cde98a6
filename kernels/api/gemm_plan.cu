#include "api/gemm_plan.cuh"

#include <climits>

namespace w4ax {

namespace {

// From this many tokens on, x is quantized once instead of in every block that reads it.
constexpr uint32_t kPackedFromM = 3;

bool is_grouping(uint32_t v) { return v == W4AXK_PER_CHANNEL || v == W4AXK_G32 || v == W4AXK_G64 || v == W4AXK_G128; }

bool weight_is_aligned(w4axk_weight const& w) {
    return is_aligned(w.tiles, 128) && is_aligned(w.scales, 16) && is_aligned(w.zeros, 16) && is_aligned(w.sums, 16) &&
           is_aligned(w.steps, 16);
}

bool args_are_aligned(w4axk_gemm_args const& a, bool x_quantized) {
    return is_aligned(a.x, x_quantized ? 128 : 2) && (a.width != W4AXK_LATCHED || is_aligned(a.latch, 16)) &&
           is_aligned(a.y, 2) && is_aligned(a.bias, 4) && is_aligned(a.workspace, 128);
}

w4axk_status check_gemm(w4axk_gemm_args const& a) {
    w4axk_weight const& w = a.weight;
    w4axk_status const status = check_shape(a.m, w.k, a.width, activation_group(w));
    if (status != W4AXK_OK) return status;
    if (!is_extent(w.n)) return W4AXK_BAD_SHAPE;
    if (!is_grouping(w.group)) return W4AXK_BAD_GROUPING;
    if (w.scheme > W4AXK_TWO_LEVEL || (is_two_level(w) && w.group == W4AXK_PER_CHANNEL)) return W4AXK_BAD_SCHEME;
    if (w.scale_type > W4AXK_SCALE_BF16) return W4AXK_BAD_SCALE_TYPE;
    if (a.family > W4AXK_WGMMA) return W4AXK_BAD_FAMILY;
    if (a.family == W4AXK_DECODE && a.m > uint32_t(W4AXK_DECODE_MAX_M)) return W4AXK_BAD_FAMILY;
    if (a.mode > W4AXK_PACKED) return W4AXK_BAD_MODE;
    if (a.mode == W4AXK_PACKED && (a.width == W4AXK_BF16 || a.family == W4AXK_PLAIN)) return W4AXK_BAD_MODE;
    if (a.family == W4AXK_WGMMA) {
        if (a.mode == W4AXK_FUSED && a.width != W4AXK_BF16) return W4AXK_BAD_MODE;
        bool const reads_rows = a.width == W4AXK_BF16 || a.width == W4AXK_LATCHED;
        if (reads_rows && !rows_aligned(a.x, a.x_stride, 16)) return W4AXK_MISALIGNED;
    }
    if (!flags_are_valid(a) || w.reserved != 0) return W4AXK_BAD_FLAGS;
    bool const x_quantized = a.mode == W4AXK_PACKED && a.width != W4AXK_LATCHED;
    if (!x_quantized && !is_stride(a.x_stride, w.k)) return W4AXK_BAD_STRIDE;
    if (!is_stride(a.y_stride, w.n)) return W4AXK_BAD_STRIDE;
    return weight_is_aligned(w) && args_are_aligned(a, x_quantized) ? W4AXK_OK : W4AXK_MISALIGNED;
}

// Returns the blocks of a kernel for a shape.
int64_t block_count(Kernel const& kernel, uint32_t m, uint32_t n) {
    if (kernel.family == W4AXK_PLAIN) return (int64_t(m) * n + kernel.threads - 1) / kernel.threads;
    return int64_t(ceil_div(int(n), kernel.rows)) * ceil_div(int(m), kernel.tokens);
}

// Returns the first tile variant whose blocks hold all tokens, or the last variant that exists if none does.
template <class KernelOf>
int smallest_tile(int tiles, uint32_t m, KernelOf kernel_of) {
    int last = tiles;
    for (int tile = 1; tile <= tiles; ++tile) {
        Kernel const* const kernel = kernel_at(kernel_of(tile));
        if (!kernel) continue;
        if (int(m) <= kernel->tokens) return tile;
        last = tile;
    }
    return last;
}

// Returns whether the wgmma family supports the call.
bool supports_wgmma(w4axk_gemm_args const& a, Device const& device) {
    if (!device.has_wgmma || a.tile != 0) return false;
    if (a.width == W4AXK_BF16) return rows_aligned(a.x, a.x_stride, 16);
    return a.mode == W4AXK_MODE_AUTO && (a.width != W4AXK_LATCHED || rows_aligned(a.x, a.x_stride, 16));
}

}  // namespace

w4axk_status check_shape(uint32_t m, uint32_t k, uint32_t width, uint32_t group) {
    if (!is_extent(m) || !is_extent(k)) return W4AXK_BAD_SHAPE;
    if (!is_fixed_width(width) && width != W4AXK_LATCHED) return W4AXK_BAD_WIDTH;
    if (!is_grouping(group)) return W4AXK_BAD_GROUPING;
    if (group == W4AXK_PER_CHANNEL && k > uint32_t(W4AXK_MAX_CHANNEL_K)) return W4AXK_K_TOO_LARGE;
    return W4AXK_OK;
}

w4axk_status make_plan(w4axk_gemm_args const& a, w4axk_plan& plan) {
    w4axk_status const status = check_gemm(a);
    if (status != W4AXK_OK) return status;
    bool const routed = a.width == W4AXK_LATCHED;
    Device const* const device = find_device(a.device);
    auto const family = a.family != W4AXK_AUTO                 ? w4axk_family(a.family)
                        : a.m <= uint32_t(W4AXK_DECODE_MAX_M)  ? W4AXK_DECODE
                        : device && supports_wgmma(a, *device) ? W4AXK_WGMMA
                                                               : W4AXK_PREFILL;
    // Routed kernels that quantize x themselves exist for the fewest tokens only.
    bool const fuses = a.m < kPackedFromM && !(routed && family == W4AXK_PREFILL) && family != W4AXK_WGMMA;
    bool const pack_first = a.mode == W4AXK_MODE_AUTO && a.width != W4AXK_BF16 && family != W4AXK_PLAIN && !fuses;
    plan = w4axk_plan{};
    if (pack_first || (routed && a.mode == W4AXK_PACKED))
        plan.workspace_bytes = codes_layout(family, a.m, a.weight.k, a.width, activation_group(a.weight)).bytes;
    plan.family = family;
    plan.mode = pack_first || a.mode == W4AXK_PACKED ? W4AXK_PACKED : W4AXK_FUSED;
    plan.launches = pack_first ? 2 : 1;
    if (a.tile > w4axk_tile_count(family)) return W4AXK_BAD_TILE;
    int const group = is_two_level(a.weight) ? kTwoLevelGroups : int(a.weight.group);
    auto const kernel_of = [&](int tile) {
        return find_kernel(routed ? Role::RoutedGemm : Role::Gemm, family, int(a.width), group, w4axk_mode(plan.mode),
                           tile);
    };
    plan.tile = a.tile ? a.tile : uint32_t(smallest_tile(int(w4axk_tile_count(family)), a.m, kernel_of));
    int const index = kernel_of(int(plan.tile));
    bool const fused_is_missing = routed && a.mode == W4AXK_FUSED && a.m >= kPackedFromM;
    if (index < 0) return fused_is_missing ? W4AXK_BAD_MODE : W4AXK_BAD_TILE;
    Kernel const& kernel = *kernel_at(index);
    // A block of the decode family holds all tokens.
    if (family == W4AXK_DECODE && int(a.m) > kernel.tokens)
        return fused_is_missing && a.tile == 0 ? W4AXK_BAD_MODE : W4AXK_BAD_TILE;
    plan.kernel = uint32_t(index);
    plan.tile_n = uint32_t(kernel.rows);
    plan.tile_m = uint32_t(kernel.tokens);
    int64_t const blocks = block_count(kernel, a.m, a.weight.n);
    if (blocks > INT_MAX) return W4AXK_BAD_SHAPE;
    plan.blocks = uint32_t(blocks);
    // The strictest reader of x decides: a routed prefill may read BF16 x itself.
    bool const pairs_only = (pack_first && !routed) || family == W4AXK_DECODE;
    // A 16-byte vector must not cross the end of K, since it would load values beyond the row.
    bool const x_aligned = pairs_only ? rows_aligned(a.x, a.x_stride, 4)
                                      : rows_aligned(a.x, a.x_stride, 16) && a.weight.k % 8 == 0;
    plan.slow_x = (a.mode != W4AXK_PACKED || routed) && (family == W4AXK_PLAIN || !x_aligned);
    plan.slow_y = (family == W4AXK_PREFILL || family == W4AXK_WGMMA) && !rows_aligned(a.y, a.y_stride, 16);
    return W4AXK_OK;
}

}  // namespace w4ax
