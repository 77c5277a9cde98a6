// The C ABI of w4ax_kernels.h: checks, plans, launches. What is best for a shape is the host's to say (src/cuda/gemm/table/choices.csv): what it
// leaves open is decided by what fits.
#include "api/entry.cuh"
#include "common/layout.cuh"

#include <climits>

namespace w4ax {

namespace {

// Kernels count the bytes from row to row in 31 bits.
constexpr int64_t kMaxStride = W4AXK_MAX_STRIDE;

bool is_extent(uint32_t v) { return v >= 1 && v <= uint32_t(W4AXK_MAX_EXTENT); }
bool is_fixed_width(uint32_t v) { return v == W4AXK_A2 || v == W4AXK_A4 || v == W4AXK_A8 || v == W4AXK_BF16; }
bool is_grouping(uint32_t v) { return v == W4AXK_PER_CHANNEL || v == W4AXK_G32 || v == W4AXK_G64 || v == W4AXK_G128; }

// Rows of BF16 that start at multiples of `bytes`.
bool rows_aligned(void const* pointer, int64_t stride, int bytes) {
    return is_aligned(pointer, uintptr_t(bytes)) && stride * 2 % bytes == 0;
}

w4axk_status check_shape(uint32_t m, uint32_t k, uint32_t width, uint32_t group) {
    if (!is_extent(m) || !is_extent(k)) return W4AXK_BAD_SHAPE;
    if (!is_fixed_width(width) && width != W4AXK_LATCHED) return W4AXK_BAD_WIDTH;
    if (!is_grouping(group)) return W4AXK_BAD_GROUPING;
    if (group == W4AXK_PER_CHANNEL && k > uint32_t(W4AXK_MAX_CHANNEL_K)) return W4AXK_K_TOO_LARGE;
    return W4AXK_OK;
}

w4axk_status check_gemm(w4axk_gemm_args const& a) {
    w4axk_weight const& w = a.weight;
    w4axk_status const status = check_shape(a.m, w.k, a.width, w.group);
    if (status != W4AXK_OK) return status;
    if (!is_extent(w.n)) return W4AXK_BAD_SHAPE;
    if (w.scale_type > W4AXK_SCALE_BF16) return W4AXK_BAD_SCALE_TYPE;
    if (a.family > W4AXK_WGMMA) return W4AXK_BAD_FAMILY;
    if (a.family == W4AXK_DECODE && a.m > uint32_t(W4AXK_DECODE_MAX_M)) return W4AXK_BAD_FAMILY;
    if (a.mode > W4AXK_PACKED) return W4AXK_BAD_MODE;
    if (a.mode == W4AXK_PACKED && (a.width == W4AXK_BF16 || a.family == W4AXK_PLAIN)) return W4AXK_BAD_MODE;
    if (a.family == W4AXK_WGMMA) {
        if (a.width == W4AXK_LATCHED || (a.mode == W4AXK_FUSED && a.width != W4AXK_BF16)) return W4AXK_BAD_MODE;
        if (a.width == W4AXK_BF16 && !rows_aligned(a.x, a.x_stride, 16)) return W4AXK_MISALIGNED;
    }
    if ((a.flags & ~uint32_t(W4AXK_FLAG_PDL)) != 0 || a.reserved != 0) return W4AXK_BAD_FLAGS;
    bool const x_packed = a.mode == W4AXK_PACKED && a.width != W4AXK_LATCHED;
    if (!x_packed && (a.x_stride < int64_t(w.k) || a.x_stride > kMaxStride)) return W4AXK_BAD_STRIDE;
    if (a.y_stride < int64_t(w.n) || a.y_stride > kMaxStride) return W4AXK_BAD_STRIDE;
    if (!is_aligned(w.tiles, 128) || !is_aligned(w.scales, 16) || !is_aligned(w.zeros, 16) || !is_aligned(w.sums, 16) ||
        !is_aligned(a.x, x_packed ? 128 : 2) || (a.width == W4AXK_LATCHED && !is_aligned(a.latch, 16)) || !is_aligned(a.y, 2) || !is_aligned(a.bias, 4) ||
        !is_aligned(a.workspace, 128))
        return W4AXK_MISALIGNED;
    return W4AXK_OK;
}

// From this many tokens on, x is quantized once instead of in every block that reads it.
constexpr uint32_t kPackedFromM = 3;

// Families whose GEMMs read packed activations, or any of those.
bool is_reader(uint32_t family) { return family <= W4AXK_WGMMA && family != W4AXK_PLAIN; }

// What quantize_pack writes for a GEMM of that family. A latched width may be the widest.
ActivationLayout codes_layout(w4axk_family family, uint32_t m, uint32_t k, uint32_t width, uint32_t group) {
    if (family == W4AXK_WGMMA) return cores_layout(m, k, group);
    return packed_layout(m, k, width == W4AXK_LATCHED ? uint32_t(W4AXK_A8) : width, group);
}

// Blocks of a kernel for a shape.
int64_t block_count(Kernel const& kernel, uint32_t m, uint32_t n) {
    if (kernel.family == W4AXK_PLAIN) return (int64_t(m) * n + kernel.threads - 1) / kernel.threads;
    return int64_t(ceil_div(int(n), kernel.rows)) * ceil_div(int(m), kernel.tokens);
}

// The first variant whose blocks have room for all tokens, or else the last.
template <class KernelOf>
int first_with_room(int tiles, uint32_t m, KernelOf kernel_of) {
    for (int tile = 1; tile < tiles; ++tile) {
        Kernel const* const kernel = kernel_at(kernel_of(tile));
        if (kernel && int(m) <= kernel->tokens) return tile;
    }
    return tiles;
}

// Whether the kernels of the wgmma family can do it as it is asked for.
bool takes_wgmma(w4axk_gemm_args const& a, Device const& device) {
    if (!device.has_wgmma || a.tile != 0) return false;
    if (a.width == W4AXK_BF16) return rows_aligned(a.x, a.x_stride, 16);
    return a.width != W4AXK_LATCHED && a.mode == W4AXK_MODE_AUTO;
}

w4axk_status make_plan(w4axk_gemm_args const& a, w4axk_plan& plan) {
    w4axk_status const status = check_gemm(a);
    if (status != W4AXK_OK) return status;
    bool const routed = a.width == W4AXK_LATCHED;
    Device const* const device = find_device(a.device);
    auto const family = a.family != W4AXK_AUTO                ? w4axk_family(a.family)
                        : a.m <= uint32_t(W4AXK_DECODE_MAX_M) ? W4AXK_DECODE
                        : device && takes_wgmma(a, *device)   ? W4AXK_WGMMA
                                                              : W4AXK_PREFILL;
    // The routed kernels that quantize what they read are those of the fewest tokens.
    bool const fuses = a.m < kPackedFromM && !(routed && family == W4AXK_PREFILL) && family != W4AXK_WGMMA;
    bool const pack_first = a.mode == W4AXK_MODE_AUTO && a.width != W4AXK_BF16 && family != W4AXK_PLAIN && !fuses;
    plan = w4axk_plan{};
    if (pack_first || (routed && a.mode == W4AXK_PACKED))
        plan.workspace_bytes = codes_layout(family, a.m, a.weight.k, a.width, a.weight.group).bytes;
    plan.family = family;
    plan.mode = pack_first || a.mode == W4AXK_PACKED ? W4AXK_PACKED : W4AXK_FUSED;
    plan.launches = pack_first ? 2 : 1;
    if (a.tile > w4axk_tile_count(family)) return W4AXK_BAD_TILE;
    auto const kernel_of = [&](int tile) {
        return find_kernel(routed ? Role::RoutedGemm : Role::Gemm, family, int(a.width), int(a.weight.group),
                           plan.mode == W4AXK_FUSED, tile);
    };
    plan.tile = a.tile ? a.tile : uint32_t(first_with_room(int(w4axk_tile_count(family)), a.m, kernel_of));
    int const index = kernel_of(int(plan.tile));
    if (index < 0) return routed && a.mode == W4AXK_FUSED && a.m >= kPackedFromM ? W4AXK_BAD_MODE : W4AXK_BAD_TILE;
    Kernel const& kernel = *kernel_at(index);
    // A block of the decode family has all tokens.
    if (family == W4AXK_DECODE && int(a.m) > kernel.tokens) return W4AXK_BAD_TILE;
    plan.kernel = uint32_t(index);
    plan.tile_n = uint32_t(kernel.rows);
    plan.tile_m = uint32_t(kernel.tokens);
    int64_t const blocks = block_count(kernel, a.m, a.weight.n);
    if (blocks > INT_MAX) return W4AXK_BAD_SHAPE;
    plan.blocks = uint32_t(blocks);
    // Whichever of its readers asks for more: a routed prefill may take x as it is.
    bool const pairs_only = (pack_first && !routed) || family == W4AXK_DECODE;
    // Vectors that straddle K's end would bring in what lies behind a row.
    bool const x_vectors = pairs_only ? rows_aligned(a.x, a.x_stride, 4) : rows_aligned(a.x, a.x_stride, 16) && a.weight.k % 8 == 0;
    plan.slow_x = (a.mode != W4AXK_PACKED || routed) && (family == W4AXK_PLAIN || !x_vectors);
    plan.slow_y = (family == W4AXK_PREFILL || family == W4AXK_WGMMA) && !rows_aligned(a.y, a.y_stride, 16);
    return W4AXK_OK;
}

// Checked arguments -> one launch of the kernel. `codes`: what quantize_pack wrote, where the mode is packed.
w4axk_status launch_gemm(w4axk_gemm_args const& a, w4axk_plan const& plan, void const* codes, bool pdl, cudaStream_t stream) {
    Kernel const& kernel = *kernel_at(int(plan.kernel));
    w4axk_weight const& w = a.weight;
    bool const routed = a.width == W4AXK_LATCHED, packed = plan.mode == W4AXK_PACKED && !routed;
    GemmParams p = {};
    p.tiles = w.tiles;
    p.scales = w.scales;
    p.zeros = w.zeros;
    p.sums = w.sums;
    p.x = packed ? codes : a.x;
    bool const wgmma = plan.family == W4AXK_WGMMA;
    if (packed)
        p.tokens = reinterpret_cast<TokenGroup const*>(
            static_cast<unsigned char const*>(codes) +
            codes_layout(w4axk_family(plan.family), a.m, w.k, a.width, w.group).token_groups);
    p.x_stride = a.x_stride;
    p.y = static_cast<uint16_t*>(a.y);
    p.y_stride = a.y_stride;
    p.bias = a.bias;
    p.m = int(a.m);
    p.n = int(w.n);
    p.k = int(w.k);
    p.n_tiles = ceil_div(p.n, kTileN);
    p.k_tiles = ceil_div(p.k, kTileK);
    p.group = int(w.group);
    p.groups = group_count(p.k, p.group);
    p.bits = routed ? 16 : int(a.width);
    p.scale_type = int(w.scale_type);
    p.x_vectors = !packed && !plan.slow_x;
    p.y_vectors = !plan.slow_y;
    Launch const l = {&kernel, dim3(plan.blocks), kernel.shared_bytes(p.m), pdl, stream};
    if (wgmma) {
        WgmmaParams with_map = {p, {}};
        if (!packed) {
            w4axk_status const status = make_row_map(with_map.x, a.x, p.m, p.k, a.x_stride, kernel.tokens);
            if (status != W4AXK_OK) return status;
        }
        return status_of(launch(l, with_map));
    }
    if (!routed && kernel.family != W4AXK_PLAIN) return status_of(launch(l, p));
    return status_of(launch(l, RoutedParams{p, codes, routed ? &a.latch->latched : nullptr}));
}

w4axk_status check_quantize(w4axk_quantize_args const& a) {
    w4axk_status const status = check_shape(a.m, a.k, a.width, a.group);
    if (status != W4AXK_OK) return status;
    if (a.width == W4AXK_BF16) return W4AXK_BAD_WIDTH;
    bool const routed = a.width == W4AXK_LATCHED;
    if (!is_reader(a.family)) return W4AXK_BAD_FAMILY;
    if (a.family == W4AXK_WGMMA && routed) return W4AXK_BAD_MODE;
    if ((a.flags & ~uint32_t(W4AXK_FLAG_PDL)) != 0 || a.reserved != 0) return W4AXK_BAD_FLAGS;
    if (!a.x || !a.packed || (routed && !a.latch)) return W4AXK_NULL_POINTER;
    if (a.x_stride < int64_t(a.k) || a.x_stride > kMaxStride) return W4AXK_BAD_STRIDE;
    if (!is_aligned(a.x, 2) || !is_aligned(a.packed, 128) || (routed && !is_aligned(a.latch, 16))) return W4AXK_MISALIGNED;
    if (a.packed_bytes < codes_layout(w4axk_family(a.family), a.m, a.k, a.width, a.group).bytes) return W4AXK_WORKSPACE_TOO_SMALL;
    return W4AXK_OK;
}

w4axk_status launch_quantize(w4axk_quantize_args const& a, Device const& device, cudaStream_t stream) {
    auto const reader = w4axk_family(a.family);
    QuantizeParams p = {};
    p.x = a.x;
    p.x_stride = a.x_stride;
    p.codes = a.packed;
    if (a.width == W4AXK_LATCHED) p.latched = &a.latch->latched;
    p.cores = reader == W4AXK_WGMMA;
    p.tokens = reinterpret_cast<TokenGroup*>(
        static_cast<unsigned char*>(a.packed) + codes_layout(reader, a.m, a.k, a.width, a.group).token_groups);
    p.m = int(a.m);
    p.k = int(a.k);
    p.k_tiles = ceil_div(p.k, kTileK);
    p.group = int(a.group);
    p.groups = group_count(p.k, p.group);
    p.bits = int(a.width);
    p.x_vectors = rows_aligned(a.x, a.x_stride, 4);
    Kernel const& kernel = *kernel_at(find_kernel(Role::QuantizePack, W4AXK_AUTO, int(a.width), p.group, true, 1));
    // Whole rows: a block a token, pads included. Groups: a block 8 tokens and 256 k.
    constexpr int kBlockK = 256;
    dim3 const grid = p.group ? dim3(ceil_div(p.m, kTileM), ceil_div(p.k, kBlockK)) : dim3(ceil_div(p.m, kTileM) * kTileM);
    return status_of(launch(Launch{&kernel, grid, kernel.shared_bytes(p.m), may_overlap(a.flags, device, stream), stream}, p));
}

}  // namespace

}  // namespace w4ax

using namespace w4ax;

extern "C" {

uint32_t w4axk_abi_version(void) { return W4AXK_ABI_VERSION; }

const char* w4axk_status_text(uint32_t status) {
    switch (status) {
        case W4AXK_OK: return "success";
        case W4AXK_NULL_POINTER: return "a pointer that must not be null is null";
        case W4AXK_BAD_SHAPE: return "M, N or K is zero or too large";
        case W4AXK_BAD_STRIDE: return "a row stride is shorter than the row, or too large";
        case W4AXK_BAD_WIDTH: return "the activation width is not 2, 4, 8 or 16 bits, or 16 bits are to be packed";
        case W4AXK_BAD_GROUPING: return "the group size is not 32, 64, 128 or 0 (per channel)";
        case W4AXK_BAD_SCALE_TYPE: return "the type of the weight scales is unknown";
        case W4AXK_BAD_FAMILY: return "the kernel family is unknown, or the decode family is given too many tokens";
        case W4AXK_BAD_MODE: return "the activation mode is unknown or does not go with the width or family";
        case W4AXK_BAD_TILE: return "the kernel family has no such tile variant for this shape and device";
        case W4AXK_BAD_FLAGS: return "unknown flags, or a reserved field that is not zero";
        case W4AXK_MISALIGNED: return "a pointer is not aligned as it must be";
        case W4AXK_K_TOO_LARGE: return "K of per-channel weights is over 65536: integer sums could overflow";
        case W4AXK_WORKSPACE_TOO_SMALL: return "the workspace or packed buffer is missing or too small";
        case W4AXK_NO_DEVICE: return "there is no CUDA device, or no driver";
        case W4AXK_BAD_DEVICE: return "there is no CUDA device of this number";
        case W4AXK_DRIVER_TOO_OLD: return "the CUDA driver is too old for the runtime that the kernels were built with";
        case W4AXK_NO_KERNEL_IMAGE: return "the kernels were not built for the architecture of this device";
        case W4AXK_NOT_PRELOADED: return "the kernels have not been preloaded on this device";
        case W4AXK_WRONG_CONTEXT: return "the stream does not belong to the primary context of this device";
        case W4AXK_BAD_NODE: return "a graph's body holds a node that a conditional node cannot run";
        case W4AXK_CUDA_ERROR: return "the CUDA runtime reported an error";
        default: return "unknown status";
    }
}

uint32_t w4axk_tile_count(uint32_t family) {
    return family == W4AXK_DECODE ? kDecodeTiles : family == W4AXK_PREFILL ? kPrefillTiles : family == W4AXK_WGMMA ? kWgmmaTiles : family == W4AXK_PLAIN ? 1 : 0;
}

w4axk_status w4axk_packed_bytes(uint32_t m, uint32_t k, uint32_t width, uint32_t group, uint32_t family, uint64_t* bytes) {
    if (!bytes) return W4AXK_NULL_POINTER;
    w4axk_status const status = check_shape(m, k, width, group);
    if (status != W4AXK_OK) return status;
    if (width == W4AXK_BF16) return W4AXK_BAD_WIDTH;
    if (!is_reader(family)) return W4AXK_BAD_FAMILY;
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
    if (!a.weight.tiles || !a.weight.scales || !a.weight.sums || !a.x || !a.y || (a.width == W4AXK_LATCHED && !a.latch))
        return W4AXK_NULL_POINTER;
    w4axk_plan plan;
    w4axk_status const status = make_plan(a, plan);
    if (status != W4AXK_OK) return status;
    if (plan.workspace_bytes > 0 && (!a.workspace || a.workspace_bytes < plan.workspace_bytes))
        return W4AXK_WORKSPACE_TOO_SMALL;
    Device const* device = find_device(a.device);
    if (!device) return W4AXK_NOT_PRELOADED;
    // Before anything is launched.
    if (plan.family == W4AXK_WGMMA && !device->has_wgmma) return W4AXK_NO_KERNEL_IMAGE;
    if (kernel_at(int(plan.kernel))->shared_bytes(int(a.m)) > device->largest_shared_bytes) return W4AXK_BAD_TILE;
    return on_device(a.device, stream, [&](Device const& on, cudaStream_t in) {
        if (plan.launches == 1)
            return launch_gemm(a, plan, a.width == W4AXK_LATCHED ? a.workspace : a.x, may_overlap(a.flags, on, in), in);
        w4axk_quantize_args const quantize = {a.x,     a.x_stride,     a.workspace, a.workspace_bytes, a.m, a.weight.k,
                                              a.width, a.weight.group, plan.family, a.flags,           a.device, 0, a.latch};
        w4axk_status const packed = launch_quantize(quantize, on, in);
        // Ours to overlap: the GEMM fetches weights while quantize_pack runs.
        return packed == W4AXK_OK ? launch_gemm(a, plan, a.workspace, may_overlap(W4AXK_FLAG_PDL, on, in), in) : packed;
    });
}

w4axk_status w4axk_quantize_pack(const w4axk_quantize_args* args, void* stream) {
    if (!args) return W4AXK_NULL_POINTER;
    w4axk_status const status = check_quantize(*args);
    if (status != W4AXK_OK) return status;
    return on_device(args->device, stream,
                     [&](Device const& device, cudaStream_t on) { return launch_quantize(*args, device, on); });
}

w4axk_status w4axk_kernel_attributes(int32_t device, uint32_t kernel, w4axk_kernel_attributes_t* attributes) {
    if (!attributes) return W4AXK_NULL_POINTER;
    if (kernel >= w4axk_kernel_count()) return W4AXK_BAD_TILE;
    LoadedKernel const* const loaded = find_loaded(device, int(kernel));
    if (!loaded) return W4AXK_NOT_PRELOADED;
    if (!loaded->there) return W4AXK_DRIVER_TOO_OLD;
    Kernel const& k = *kernel_at(int(kernel));
    cudaFuncAttributes const& f = loaded->attributes;
    // The architecture that the source was compiled for, also where the driver compiled the PTX for a newer one.
    bool const s4 = k.bits == 4 && f.ptxVersion < 90, wgmma = k.family == W4AXK_WGMMA;
    // Without code for sm_90a the kernels of this family are empty.
    bool const multiplies = k.family == W4AXK_DECODE || k.family == W4AXK_PREFILL || (wgmma && find_device(device)->has_wgmma);
    attributes->family = k.family;
    bool const routed = k.role == Role::RoutedGemm;
    attributes->width = uint32_t(k.bits ? k.bits : routed ? int(W4AXK_LATCHED) : k.role == Role::QuantizePack ? 8 : 16);
    attributes->mma = !multiplies     ? W4AXK_MMA_NONE
                      : routed        ? W4AXK_MMA_ROUTED
                      : wgmma         ? (k.bits == 16 ? W4AXK_MMA_WGMMA_BF16 : W4AXK_MMA_WGMMA_S8)
                      : k.bits == 16  ? W4AXK_MMA_BF16
                      : s4            ? W4AXK_MMA_S4
                                      : W4AXK_MMA_S8;
    attributes->registers = uint32_t(f.numRegs);
    attributes->static_shared = uint32_t(f.sharedSizeBytes);
    attributes->dynamic_shared = uint32_t(k.largest_shared_bytes);
    attributes->local = uint32_t(f.localSizeBytes);
    attributes->threads = uint32_t(k.threads);
    attributes->binary_version = uint32_t(f.binaryVersion);
    attributes->ptx_version = uint32_t(f.ptxVersion);
    return W4AXK_OK;
}

w4axk_status w4axk_mma_of(int32_t device, uint32_t width, uint32_t family, uint32_t* mma) {
    if (!mma) return W4AXK_NULL_POINTER;
    if (!is_fixed_width(width)) return W4AXK_BAD_WIDTH;
    if (family < W4AXK_DECODE || family > W4AXK_WGMMA) return W4AXK_BAD_FAMILY;
    Device const* const on = find_device(device);
    if (family == W4AXK_WGMMA && on && !on->has_wgmma) return W4AXK_NO_KERNEL_IMAGE;
    // All kernels of a file are compiled for the same architectures: one stands for all.
    int const kernel = find_kernel(Role::Gemm, w4axk_family(family), int(width), W4AXK_G128, family != W4AXK_WGMMA || width == W4AXK_BF16, 1);
    w4axk_kernel_attributes_t attributes;
    w4axk_status const status = w4axk_kernel_attributes(device, uint32_t(kernel), &attributes);
    if (status == W4AXK_OK) *mma = attributes.mma;
    return status;
}

}  // extern "C"
