// The C ABI of w4ax_kernels.h: checks, the table that picks a kernel, launches.
#include "context.cuh"
#include "launch.cuh"
#include "layout.cuh"
#include "registry.cuh"

#include <climits>

namespace w4ax {

namespace {

bool is_aligned(void const* pointer, uintptr_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }
bool is_extent(uint32_t v) { return v >= 1 && v <= uint32_t(W4AXK_MAX_EXTENT); }
bool is_width(uint32_t v) { return v == W4AXK_A2 || v == W4AXK_A4 || v == W4AXK_A8 || v == W4AXK_BF16; }
bool is_grouping(uint32_t v) { return v == W4AXK_PER_CHANNEL || v == W4AXK_G32 || v == W4AXK_G64 || v == W4AXK_G128; }

// Rows of BF16 that start at multiples of `bytes`.
bool rows_aligned(void const* pointer, int64_t stride, int bytes) {
    return is_aligned(pointer, uintptr_t(bytes)) && stride * 2 % bytes == 0;
}

w4axk_status check_shape(uint32_t m, uint32_t k, uint32_t width, uint32_t group) {
    if (!is_extent(m) || !is_extent(k)) return W4AXK_BAD_SHAPE;
    if (!is_width(width)) return W4AXK_BAD_WIDTH;
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
    if (a.family > W4AXK_PLAIN) return W4AXK_BAD_FAMILY;
    if (a.family == W4AXK_DECODE && a.m > uint32_t(W4AXK_DECODE_MAX_M)) return W4AXK_BAD_FAMILY;
    if (a.mode > W4AXK_PACKED) return W4AXK_BAD_MODE;
    if (a.mode == W4AXK_PACKED && (a.width == W4AXK_BF16 || a.family == W4AXK_PLAIN)) return W4AXK_BAD_MODE;
    if ((a.flags & ~uint32_t(W4AXK_FLAG_PDL)) != 0 || a.reserved != 0) return W4AXK_BAD_FLAGS;
    if (a.mode != W4AXK_PACKED && a.x_stride < int64_t(w.k)) return W4AXK_BAD_STRIDE;
    if (a.y_stride < int64_t(w.n)) return W4AXK_BAD_STRIDE;
    if (!is_aligned(w.tiles, 128) || !is_aligned(w.scales, 16) || !is_aligned(w.zeros, 16) || !is_aligned(w.sums, 16) ||
        !is_aligned(a.x, a.mode == W4AXK_PACKED ? 128 : 2) || !is_aligned(a.y, 2) || !is_aligned(a.bias, 4) ||
        !is_aligned(a.workspace, 128))
        return W4AXK_MISALIGNED;
    return W4AXK_OK;
}

// From this many tokens on, x is quantised once instead of in every block that reads it.
constexpr uint32_t kPackedFromM = 3;

// The tile variant for a shape. Larger blocks read the activations less often, smaller ones fill the device.
int pick_tile(w4axk_family family, uint32_t m, uint32_t n) {
    if (family == W4AXK_DECODE) return m > 8 ? 3 : n >= 8192 ? 2 : 1;
    if (family == W4AXK_PREFILL) return m <= 32 ? 1 : m <= 128 ? 2 : 3;
    return 1;
}

w4axk_status make_plan(w4axk_gemm_args const& a, w4axk_plan& plan) {
    w4axk_status const status = check_gemm(a);
    if (status != W4AXK_OK) return status;
    auto const family = a.family != W4AXK_AUTO ? w4axk_family(a.family)
                        : a.m <= uint32_t(W4AXK_DECODE_MAX_M) ? W4AXK_DECODE
                                                              : W4AXK_PREFILL;
    bool const pack_first = a.mode == W4AXK_MODE_AUTO && a.width != W4AXK_BF16 && family != W4AXK_PLAIN && a.m >= kPackedFromM;
    plan = w4axk_plan{};
    plan.workspace_bytes = pack_first ? packed_layout(a.m, a.weight.k, a.width, a.weight.group).bytes : 0;
    plan.family = family;
    plan.mode = pack_first || a.mode == W4AXK_PACKED ? W4AXK_PACKED : W4AXK_FUSED;
    plan.launches = pack_first ? 2 : 1;
    if (a.tile > w4axk_tile_count(family)) return W4AXK_BAD_TILE;
    plan.tile = a.tile ? a.tile : uint32_t(pick_tile(family, a.m, a.weight.n));
    int const index = find_kernel(family, int(a.width), int(a.weight.group), plan.mode == W4AXK_FUSED, int(plan.tile));
    if (index < 0) return W4AXK_BAD_TILE;
    Kernel const& kernel = *kernel_at(index);
    // A block of the decode family has all tokens.
    if (family == W4AXK_DECODE && int(a.m) > kernel.tokens) return W4AXK_BAD_TILE;
    plan.kernel = uint32_t(index);
    plan.tile_n = uint32_t(kernel.rows);
    plan.tile_m = uint32_t(kernel.tokens);
    int64_t const blocks = family == W4AXK_PLAIN
                               ? (int64_t(a.m) * a.weight.n + kernel.threads - 1) / kernel.threads
                               : int64_t(ceil_div(int(a.weight.n), kernel.rows)) * ceil_div(int(a.m), kernel.tokens);
    if (blocks > INT_MAX) return W4AXK_BAD_SHAPE;
    plan.blocks = uint32_t(blocks);
    bool const pairs_only = pack_first || family == W4AXK_DECODE;
    plan.slow_x = a.mode != W4AXK_PACKED && (family == W4AXK_PLAIN || !rows_aligned(a.x, a.x_stride, pairs_only ? 4 : 16));
    plan.slow_y = family == W4AXK_PREFILL && !rows_aligned(a.y, a.y_stride, 16);
    return W4AXK_OK;
}

// Checked arguments -> one launch of the kernel.
w4axk_status launch_gemm(w4axk_gemm_args const& a, w4axk_plan const& plan, void const* x, Device const& device, bool pdl,
                         cudaStream_t stream) {
    Kernel const& kernel = *kernel_at(int(plan.kernel));
    w4axk_weight const& w = a.weight;
    bool const packed = plan.mode == W4AXK_PACKED;
    GemmParams p = {};
    p.tiles = w.tiles;
    p.scales = w.scales;
    p.zeros = w.zeros;
    p.sums = w.sums;
    p.x = x;
    if (packed)
        p.tokens = reinterpret_cast<TokenGroup const*>(static_cast<unsigned char const*>(x) +
                                                       packed_layout(a.m, w.k, a.width, w.group).token_groups);
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
    p.bits = int(a.width);
    p.scale_type = int(w.scale_type);
    p.x_vectors = !packed && !plan.slow_x;
    p.y_vectors = !plan.slow_y;
    int const shared = kernel.shared_bytes(p.m);
    if (shared > device.largest_shared_bytes) return W4AXK_BAD_TILE;
    return status_of(launch(Launch{&kernel, dim3(plan.blocks), shared, pdl && device.has_pdl, stream}, p));
}

w4axk_status check_quantize(w4axk_quantize_args const& a) {
    w4axk_status const status = check_shape(a.m, a.k, a.width, a.group);
    if (status != W4AXK_OK) return status;
    if (a.width == W4AXK_BF16) return W4AXK_BAD_WIDTH;
    if ((a.flags & ~uint32_t(W4AXK_FLAG_PDL)) != 0) return W4AXK_BAD_FLAGS;
    if (!a.x || !a.packed) return W4AXK_NULL_POINTER;
    if (a.x_stride < int64_t(a.k)) return W4AXK_BAD_STRIDE;
    if (!is_aligned(a.x, 2) || !is_aligned(a.packed, 128)) return W4AXK_MISALIGNED;
    if (a.packed_bytes < packed_layout(a.m, a.k, a.width, a.group).bytes) return W4AXK_WORKSPACE_TOO_SMALL;
    return W4AXK_OK;
}

w4axk_status launch_quantize(w4axk_quantize_args const& a, Device const& device, cudaStream_t stream) {
    QuantizeParams p = {};
    p.x = a.x;
    p.x_stride = a.x_stride;
    p.codes = a.packed;
    p.tokens = reinterpret_cast<TokenGroup*>(static_cast<unsigned char*>(a.packed) +
                                             packed_layout(a.m, a.k, a.width, a.group).token_groups);
    p.m = int(a.m);
    p.k = int(a.k);
    p.k_tiles = ceil_div(p.k, kTileK);
    p.group = int(a.group);
    p.groups = group_count(p.k, p.group);
    p.bits = int(a.width);
    p.x_vectors = rows_aligned(a.x, a.x_stride, 4);
    Kernel const& kernel = *kernel_at(find_kernel(W4AXK_AUTO, int(a.width), p.group, true, 1));
    // Whole rows: a block a token, pads included. Groups: a block 8 tokens and 256 k.
    constexpr int kBlockK = 256;
    dim3 const grid = p.group ? dim3(ceil_div(p.m, kTileM), ceil_div(p.k, kBlockK)) : dim3(ceil_div(p.m, kTileM) * kTileM);
    bool const pdl = (a.flags & W4AXK_FLAG_PDL) != 0 && device.has_pdl;
    return status_of(launch(Launch{&kernel, grid, kernel.shared_bytes(p.m), pdl, stream}, p));
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
        case W4AXK_BAD_STRIDE: return "a row stride is shorter than the row";
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
        case W4AXK_CUDA_ERROR: return "the CUDA runtime reported an error";
        default: return "unknown status";
    }
}

uint32_t w4axk_tile_count(uint32_t family) {
    return family == W4AXK_DECODE ? kDecodeTiles : family == W4AXK_PREFILL ? kPrefillTiles : family == W4AXK_PLAIN ? 1 : 0;
}

w4axk_status w4axk_packed_bytes(uint32_t m, uint32_t k, uint32_t width, uint32_t group, uint64_t* bytes) {
    if (!bytes) return W4AXK_NULL_POINTER;
    w4axk_status const status = check_shape(m, k, width, group);
    if (status != W4AXK_OK) return status;
    if (width == W4AXK_BF16) return W4AXK_BAD_WIDTH;
    *bytes = packed_layout(m, k, width, group).bytes;
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
    if (!a.weight.tiles || !a.weight.scales || !a.weight.sums || !a.x || !a.y) return W4AXK_NULL_POINTER;
    w4axk_plan plan;
    w4axk_status status = make_plan(a, plan);
    if (status != W4AXK_OK) return status;
    if (plan.workspace_bytes > 0 && (!a.workspace || a.workspace_bytes < plan.workspace_bytes))
        return W4AXK_WORKSPACE_TOO_SMALL;
    Device const* device = find_device(a.device);
    if (!device) return W4AXK_NOT_PRELOADED;
    auto const on = static_cast<cudaStream_t>(stream);
    ContextGuard guard;
    status = guard.enter(*device, on);
    if (status != W4AXK_OK) return status;
    bool const pdl = (a.flags & W4AXK_FLAG_PDL) != 0;
    if (plan.launches == 1) return launch_gemm(a, plan, a.x, *device, pdl, on);
    w4axk_quantize_args const quantize = {a.x,     a.x_stride, a.workspace,    a.workspace_bytes, a.m,
                                          a.weight.k, a.width, a.weight.group, a.flags,           a.device};
    status = launch_quantize(quantize, *device, on);
    // Ours to overlap: the GEMM fetches weights while quantize_pack runs.
    return status == W4AXK_OK ? launch_gemm(a, plan, a.workspace, *device, true, on) : status;
}

w4axk_status w4axk_quantize_pack(const w4axk_quantize_args* args, void* stream) {
    if (!args) return W4AXK_NULL_POINTER;
    w4axk_status status = check_quantize(*args);
    if (status != W4AXK_OK) return status;
    Device const* device = find_device(args->device);
    if (!device) return W4AXK_NOT_PRELOADED;
    auto const on = static_cast<cudaStream_t>(stream);
    ContextGuard guard;
    status = guard.enter(*device, on);
    return status == W4AXK_OK ? launch_quantize(*args, *device, on) : status;
}

w4axk_status w4axk_kernel_attributes(int32_t device, uint32_t kernel, w4axk_kernel_attributes_t* attributes) {
    if (!attributes) return W4AXK_NULL_POINTER;
    if (kernel >= w4axk_kernel_count()) return W4AXK_BAD_TILE;
    LoadedKernel const* const loaded = find_loaded(device, int(kernel));
    if (!loaded) return W4AXK_NOT_PRELOADED;
    Kernel const& k = *kernel_at(int(kernel));
    cudaFuncAttributes const& f = loaded->attributes;
    // The architecture that the source was compiled for, also where the driver compiled the PTX for a newer one.
    bool const s4 = k.bits == 4 && f.ptxVersion < 90;
    bool const multiplies = k.family == W4AXK_DECODE || k.family == W4AXK_PREFILL;
    attributes->family = k.family;
    attributes->width = uint32_t(k.bits ? k.bits : k.family == W4AXK_PLAIN ? 16 : 8);
    attributes->mma = !multiplies ? W4AXK_MMA_NONE : k.bits == 16 ? W4AXK_MMA_BF16 : s4 ? W4AXK_MMA_S4 : W4AXK_MMA_S8;
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
    if (!is_width(width)) return W4AXK_BAD_WIDTH;
    if (family < W4AXK_DECODE || family > W4AXK_PLAIN) return W4AXK_BAD_FAMILY;
    // All kernels of a file are compiled for the same architectures: one stands for all.
    int const kernel = find_kernel(w4axk_family(family), int(width), W4AXK_G128, true, 1);
    w4axk_kernel_attributes_t attributes;
    w4axk_status const status = w4axk_kernel_attributes(device, uint32_t(kernel), &attributes);
    if (status == W4AXK_OK) *mma = attributes.mma;
    return status;
}

}  // extern "C"
