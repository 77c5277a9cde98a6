// The entry points that describe the library and its kernels, declared in w4ax_kernels.h.
#include "api/gemm_plan.cuh"

namespace w4ax {

namespace {

// Returns the instruction that the code of a kernel multiplies with, as it is loaded on a device.
w4axk_mma mma_of(Kernel const& kernel, cudaFuncAttributes const& loaded, Device const& device) {
    if (kernel.role == Role::RoutedGemm) return W4AXK_MMA_ROUTED;
    switch (kernel.family) {
        case W4AXK_WGMMA:
            // Without code for sm_90a the kernels of this family are empty.
            if (!device.has_wgmma) return W4AXK_MMA_NONE;
            return kernel.bits == W4AXK_BF16 ? W4AXK_MMA_WGMMA_BF16 : W4AXK_MMA_WGMMA_S8;
        case W4AXK_DECODE:
        case W4AXK_PREFILL:
            if (kernel.bits == W4AXK_BF16) return W4AXK_MMA_BF16;
            // The PTX version is the architecture that the source was compiled for, even if the driver has compiled the
            // PTX for a newer one.
            return kernel.bits == W4AXK_A4 && kernel.group != kTwoLevelGroups && loaded.ptxVersion < 90 ? W4AXK_MMA_S4
                                                                                                        : W4AXK_MMA_S8;
        default: return W4AXK_MMA_NONE;
    }
}

// Returns the widest activations of a kernel.
uint32_t width_of(Kernel const& kernel) {
    if (kernel.bits) return uint32_t(kernel.bits);
    switch (kernel.role) {
        case Role::RoutedGemm: return W4AXK_LATCHED;
        case Role::QuantizePack: return W4AXK_A8;
        default: return W4AXK_BF16;
    }
}

}  // namespace

}  // namespace w4ax

using namespace w4ax;

extern "C" {

uint32_t w4axk_abi_version(void) { return W4AXK_ABI_VERSION; }

const char* w4axk_status_text(uint32_t status) {
    switch (status) {
        case W4AXK_OK: return "success";
        case W4AXK_NULL_POINTER: return "a required pointer is null";
        case W4AXK_BAD_SHAPE: return "M, N or K is zero or too large";
        case W4AXK_BAD_STRIDE: return "a row stride is shorter than the row or too large";
        case W4AXK_BAD_WIDTH:
            return "unsupported activation width: expected 2, 4, 8 or 16 bits (2, 4 or 8 to quantize)";
        case W4AXK_BAD_GROUPING: return "unsupported group size: expected 32, 64, 128 or 0 (per channel)";
        case W4AXK_BAD_SCALE_TYPE: return "unknown type of the weight scales";
        case W4AXK_BAD_FAMILY: return "unknown kernel family, or too many tokens for the decode family";
        case W4AXK_BAD_MODE: return "unknown activation mode, or one that the width or the family does not support";
        case W4AXK_BAD_TILE: return "the kernel family has no such tile variant for this shape and device";
        case W4AXK_BAD_FLAGS: return "unknown flags, or a reserved field that is not zero";
        case W4AXK_MISALIGNED: return "a pointer is not aligned as required";
        case W4AXK_K_TOO_LARGE:
            return "K of per-channel or two-level weights exceeds 65536: integer sums could overflow";
        case W4AXK_WORKSPACE_TOO_SMALL: return "the workspace or the quantized output is missing or too small";
        case W4AXK_NO_DEVICE: return "no CUDA device or no driver was found";
        case W4AXK_BAD_DEVICE: return "the number of the CUDA device is out of range";
        case W4AXK_DRIVER_TOO_OLD: return "the CUDA driver is too old for the runtime that the kernels were built with";
        case W4AXK_NO_KERNEL_IMAGE: return "the kernels were not built for the architecture of this device";
        case W4AXK_NOT_PRELOADED: return "the kernels have not been preloaded on this device";
        case W4AXK_WRONG_CONTEXT: return "the stream does not belong to the primary context of this device";
        case W4AXK_BAD_SCHEME: return "unknown scheme of the weights, or two-level weights without groups";
        case W4AXK_BAD_NODE: return "the body of a graph contains a node that a conditional node does not support";
        case W4AXK_CUDA_ERROR: return "the CUDA runtime reported an error";
        default: return "unknown status";
    }
}

uint32_t w4axk_tile_count(uint32_t family) {
    switch (family) {
        case W4AXK_DECODE: return kDecodeTiles;
        case W4AXK_PREFILL: return kPrefillTiles;
        case W4AXK_WGMMA: return kWgmmaTiles;
        case W4AXK_PLAIN: return 1;
        default: return 0;
    }
}

w4axk_status w4axk_kernel_attributes(int32_t device, uint32_t kernel, w4axk_kernel_attributes_t* attributes) {
    if (!attributes) return W4AXK_NULL_POINTER;
    if (kernel >= w4axk_kernel_count()) return W4AXK_BAD_TILE;
    Device const* const on = find_device(device);
    if (!on) return W4AXK_NOT_PRELOADED;
    LoadedKernel const* loaded;
    w4axk_status const status = load_kernel(*on, int(kernel), &loaded);
    if (status != W4AXK_OK) return status;
    Kernel const& k = *kernel_at(int(kernel));
    cudaFuncAttributes const& f = loaded->attributes;
    *attributes = {
        .family = uint32_t(k.family),
        .width = width_of(k),
        .mma = uint32_t(mma_of(k, f, *on)),
        .registers = uint32_t(f.numRegs),
        .static_shared = uint32_t(f.sharedSizeBytes),
        .dynamic_shared = uint32_t(k.max_shared_bytes),
        .local = uint32_t(f.localSizeBytes),
        .threads = uint32_t(k.threads),
        .binary_version = uint32_t(f.binaryVersion),
        .ptx_version = uint32_t(f.ptxVersion),
    };
    return W4AXK_OK;
}

w4axk_status w4axk_mma_of(int32_t device, uint32_t width, uint32_t family, uint32_t* mma) {
    if (!mma) return W4AXK_NULL_POINTER;
    if (!is_fixed_width(width)) return W4AXK_BAD_WIDTH;
    if (family < W4AXK_DECODE || family > W4AXK_WGMMA) return W4AXK_BAD_FAMILY;
    Device const* const on = find_device(device);
    if (family == W4AXK_WGMMA && on && !on->has_wgmma) return W4AXK_NO_KERNEL_IMAGE;
    // All kernels of a file are compiled for the same architectures, so one represents them.
    w4axk_mode const mode = family == W4AXK_WGMMA && width != W4AXK_BF16 ? W4AXK_PACKED : W4AXK_FUSED;
    int const kernel = find_kernel(Role::Gemm, w4axk_family(family), int(width), W4AXK_G128, mode, 1);
    w4axk_kernel_attributes_t attributes;
    w4axk_status const status = w4axk_kernel_attributes(device, uint32_t(kernel), &attributes);
    if (status == W4AXK_OK) *mma = attributes.mma;
    return status;
}

}  // extern "C"
