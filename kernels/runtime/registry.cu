#include "runtime/roles.cuh"

#include <string>
#include <vector>

namespace w4ax {

namespace {

std::string name_of(Kernel const& kernel) {
    std::string const group = kernel.group ? "_g" + std::to_string(kernel.group) : "_channel";
    if (kernel.family == W4AXK_PLAIN) return "plain";
    if (kernel.role == kGatherRole) return kernel.tile == 1 ? "gather" : "gather_plain";
    if (kernel.role == kSkipBeginRole) return "skip_begin";
    if (kernel.role == kSkipDecideRole) return "skip_decide";
    switch (kernel.role) {
        case Role::QuantizePack: return "quantize_pack" + group;
        case Role::Latch: return "latch";
        case Role::GraphLatch: return "latch_graph";
        default: break;
    }
    std::string name = kernel.family == W4AXK_DECODE ? "decode_" : kernel.family == W4AXK_WGMMA ? "wgmma_" : "prefill_";
    name += kernel.role == Role::RoutedGemm ? "routed" : kernel.bits == 16 ? "bf16" : "a" + std::to_string(kernel.bits);
    name += group;
    if (kernel.bits != 16 && kernel.family != W4AXK_WGMMA) name += kernel.fused ? "_fused" : "_packed";
    return name + "_" + std::to_string(kernel.rows) + "x" + std::to_string(kernel.tokens);
}

struct Registry {
    std::vector<Kernel const*> kernels;
    std::vector<std::string> names;

    Registry() {
        for (KernelList const& list :
             {decode_a4_fused(), decode_a4_packed(), decode_a8_fused(), decode_a8_packed(), decode_bf16(), prefill_a4_fused(),
              prefill_a4_packed(), prefill_a8_fused(), prefill_a8_packed(), prefill_bf16(), quantize_pack_kernels(),
              plain_kernels(), wgmma_a8(), wgmma_bf16(), routed_decode_fused(), routed_decode_packed(), routed_prefill(), latch_kernels(),
              graph_latch_kernels(), gather_kernels(), skip_kernels()}) {
            for (int i = 0; i < list.count; ++i) {
                kernels.push_back(list.first + i);
                names.push_back(name_of(list.first[i]));
            }
        }
    }
};

Registry const& registry() {
    static Registry const r;
    return r;
}

}  // namespace

int kernel_count() { return int(registry().kernels.size()); }

Kernel const* kernel_at(int index) { return index >= 0 && index < kernel_count() ? registry().kernels[index] : nullptr; }

int find_kernel(Role role, w4axk_family family, int bits, int group, bool fused, int tile) {
    // The plain kernel is no other where it is routed.
    if (family == W4AXK_PLAIN) role = Role::Gemm;
    // Two bits go with the kernels of four; the wgmma family has codes in bytes only.
    if (bits < 8) bits = family == W4AXK_WGMMA ? 8 : 4;
    for (int i = 0; i < kernel_count(); ++i) {
        Kernel const& k = *registry().kernels[i];
        if (k.role == role && k.family == family && (k.bits == 0 || k.bits == bits) &&
            (k.group == group || family == W4AXK_PLAIN) && k.fused == fused && k.tile == tile)
            return i;
    }
    return -1;
}

}  // namespace w4ax

extern "C" uint32_t w4axk_kernel_count(void) { return uint32_t(w4ax::kernel_count()); }

extern "C" const char* w4axk_kernel_name(uint32_t kernel) {
    return kernel < w4axk_kernel_count() ? w4ax::registry().names[kernel].c_str() : nullptr;
}
