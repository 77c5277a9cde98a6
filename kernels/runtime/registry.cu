#include "runtime/registry.cuh"

#include <string>
#include <vector>

namespace w4ax {

namespace {

char const* family_name(w4axk_family family) {
    switch (family) {
        case W4AXK_DECODE: return "decode";
        case W4AXK_PREFILL: return "prefill";
        case W4AXK_WGMMA: return "wgmma";
        default: return "";
    }
}

// Returns a GEMM's name, such as "decode_a4_g128_fused_16x8".
std::string gemm_name(Kernel const& kernel, std::string const& group) {
    if (kernel.family == W4AXK_PLAIN) return "plain";
    bool const routed = kernel.role == Role::RoutedGemm;
    std::string name = family_name(kernel.family);
    name += routed ? "_routed" : kernel.bits == W4AXK_BF16 ? "_bf16" : "_a" + std::to_string(kernel.bits);
    name += group;
    // The other kernels have a single mode.
    if (kernel.bits != W4AXK_BF16 && kernel.family != W4AXK_WGMMA)
        name += kernel.mode == W4AXK_FUSED ? "_fused" : "_packed";
    return name + "_" + std::to_string(kernel.rows) + "x" + std::to_string(kernel.tokens);
}

std::string name_of(Kernel const& kernel) {
    std::string const group = kernel.group ? "_g" + std::to_string(kernel.group) : "_channel";
    switch (kernel.role) {
        case Role::Gemm:
        case Role::RoutedGemm: return gemm_name(kernel, group);
        case Role::QuantizePack: return "quantize_pack" + group;
        case Role::RmsNorm: return kernel.tile == 1 ? "rms_norm" + group : "rms_norm_plain";
        case Role::SiluMul: return kernel.tile == 1 ? "silu_mul" + group : "silu_mul_plain";
        case Role::Latch: return "latch";
        case Role::GraphLatch: return "latch_graph";
        case Role::Gather: return kernel.tile == 1 ? "gather" : "gather_plain";
        case Role::SkipBegin: return "skip_begin";
        case Role::SkipDecide: return "skip_decide";
    }
    return "";
}

struct Registry {
    std::vector<Kernel const*> kernels;
    std::vector<std::string> names;

    Registry() {
#define W4AX_ADD_KERNELS(file) add(file##_kernels());
        W4AX_KERNEL_FILES(W4AX_ADD_KERNELS)
#undef W4AX_ADD_KERNELS
    }

    void add(KernelList list) {
        for (int i = 0; i < list.count; ++i) {
            kernels.push_back(list.first + i);
            names.push_back(name_of(list.first[i]));
        }
    }
};

Registry const& registry() {
    static Registry const r;
    return r;
}

}  // namespace

int kernel_count() { return int(registry().kernels.size()); }

Kernel const* kernel_at(int index) {
    return index >= 0 && index < kernel_count() ? registry().kernels[index] : nullptr;
}

int find_kernel(Role role, w4axk_family family, int bits, int group, w4axk_mode mode, int tile) {
    // The plain kernel reads the latched width itself, so there is no routed variant.
    if (family == W4AXK_PLAIN) role = Role::Gemm;
    // 4-bit kernels take 2-bit activations too. The wgmma family stores a code in a byte at every width.
    if (bits < W4AXK_A8) bits = family == W4AXK_WGMMA ? W4AXK_A8 : W4AXK_A4;
    for (int i = 0; i < kernel_count(); ++i) {
        Kernel const& k = *registry().kernels[i];
        bool const any_width = k.bits == 0, any_group = family == W4AXK_PLAIN;
        if (k.role == role && k.family == family && (any_width || k.bits == bits) && (any_group || k.group == group) &&
            k.mode == mode && k.tile == tile)
            return i;
    }
    return -1;
}

}  // namespace w4ax

extern "C" uint32_t w4axk_kernel_count(void) { return uint32_t(w4ax::kernel_count()); }

extern "C" const char* w4axk_kernel_name(uint32_t kernel) {
    return kernel < w4axk_kernel_count() ? w4ax::registry().names[kernel].c_str() : nullptr;
}
