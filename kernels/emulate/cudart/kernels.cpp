// The kernels of one architecture, described for the software driver: how to run a grid, and the pointers inside of its
// parameter. Compiled once for each architecture, into the library of its kernels.
#include "emulate/cudart/module.h"

#include "api/w4ax_skip.h"
#include "common/params.cuh"
#include "common/row_op_params.cuh"
#include "emulate/cudart/conditionals.h"
#include "emulate/emulate_api.h"
#include "emulate/engine/launch.h"
#include "emulate/engine/quiet_lock.h"
#include "emulate/memory/bulk_copy.h"
#include "runtime/registry.cuh"

#include <cstdlib>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

using namespace w4ax;

namespace {

// ---- the parameters of kernels

struct Pointers {
    w4ax_pointer* out;
    int room, count;

    void add(char const* name, void const* address, uint64_t bytes, uint32_t alignment) {
        if (!address) return;
        if (count < room) out[count] = {name, address, bytes, alignment};
        ++count;
    }
};

uint64_t row_bytes(int rows, int columns, int64_t stride) { return 2 * (uint64_t(rows - 1) * stride + columns); }

void add_pointers(Pointers& to, Kernel const& kernel, GemmParams const& p) {
    uint64_t const tiles = uint64_t(p.n_tiles), params = tiles * p.groups * kTileN;
    to.add("tiles", p.tiles, tiles * p.k_tiles * kWeightTileBytes, 128);
    to.add("scales", p.scales, params * (p.scale_type == W4AXK_SCALE_F32 ? 4 : 2), 16);
    to.add("zeros", p.zeros, params, 16);
    to.add("sums", p.sums, params * (p.group ? 2 : 4), 16);
    if (!p.tokens) {
        to.add("x", p.x, row_bytes(p.m, p.k, p.x_stride), 2);
    } else {
        ActivationLayout const layout = kernel.family == W4AXK_WGMMA ? core_matrix_layout(p.m, p.k, p.group)
                                                                     : packed_layout(p.m, p.k, p.bits, p.group);
        to.add("quantized x", p.x, layout.bytes, 128);
        to.add("token parameters", p.tokens, layout.bytes - layout.token_params, 8);
    }
    to.add("y", p.y, row_bytes(p.m, p.n, p.y_stride), 2);
    to.add("bias", p.bias, uint64_t(p.n) * 4, 4);
}

void add_pointers(Pointers& to, Kernel const& kernel, WgmmaParams const& p) { add_pointers(to, kernel, p.gemm); }

void add_pointers(Pointers& to, Kernel const& kernel, RoutedParams const& p) {
    add_pointers(to, kernel, p.gemm);
    // Other kernels ignore it.
    if (kernel.role == Role::RoutedGemm && kernel.mode == W4AXK_PACKED)
        to.add("codes", p.codes, packed_layout(p.gemm.m, p.gemm.k, 8, p.gemm.group).bytes, 128);
    to.add("latch", p.latched, 8, 16);
}

void add_pointers(Pointers& to, Kernel const& kernel, RoutedWgmmaParams const& p) {
    add_pointers(to, kernel, p.routed.gemm);
    to.add("codes", p.routed.codes, core_matrix_layout(p.routed.gemm.m, p.routed.gemm.k, p.routed.gemm.group).bytes,
           128);
    to.add("latch", p.routed.latched, 8, 16);
}

// The output of a quantization.
void add_codes(Pointers& to, QuantizeParams const& p) {
    uint64_t const bits = p.latched ? 8 : p.bits;
    ActivationLayout const layout = p.core_matrices ? core_matrix_layout(p.m, p.k, p.group)
                                                    : packed_layout(p.m, p.k, bits, p.group);
    to.add("codes", p.codes, layout.bytes, 128);
    to.add("token parameters", p.tokens, layout.bytes - layout.token_params, 8);
    to.add("latch", p.latched, 8, 16);
}

void add_pointers(Pointers& to, Kernel const&, QuantizeParams const& p) {
    to.add("x", p.x, row_bytes(p.m, p.k, p.x_stride), 2);
    add_codes(to, p);
}

void add_pointers(Pointers& to, Kernel const&, RowOpParams const& p) {
    QuantizeParams const& q = p.quantize;
    int const size = p.x_f32 ? 4 : 2;
    to.add("x", p.x, row_bytes(q.m, q.k, p.x_stride) / 2 * size, size);
    to.add("factor", p.factor, p.factor_stride ? row_bytes(q.m, q.k, p.factor_stride) : uint64_t(q.k) * 2, 2);
    if (p.addend) to.add("addend", p.addend, row_bytes(q.m, q.k, p.addend_stride), 2);
    if (q.latched || q.bits == 16) to.add("y", p.y, row_bytes(q.m, q.k, p.y_stride), 2);
    if (q.latched || q.bits != 16) add_codes(to, q);
}

void add_pointers(Pointers& to, Kernel const&, LatchParams const& p) {
    to.add("latch", p.state, sizeof *p.state, 16);
    to.add("flag", p.flag, 8, 8);
    to.add("executed", p.executed, 8, 8);
}

void add_pointers(Pointers& to, Kernel const&, GatherParams const& p) {
    to.add("x", p.x, row_bytes(p.m, p.k, p.x_stride), 2);
    to.add("order", p.order, uint64_t(p.k) * 4, 8);
    to.add("y", p.y, row_bytes(p.m, p.k, p.y_stride), 2);
}

void add_pointers(Pointers& to, Kernel const&, w4axk_skip_begin_args const& p) {
    to.add("state", p.state, sizeof *p.state, 8);
    to.add("gaps", p.gaps, p.gap_count * sizeof *p.gaps, 16);
    to.add("allow", p.allow, p.gap_count * 8, 8);
}

void add_pointers(Pointers& to, Kernel const&, w4axk_skip_decide_args const& p) {
    to.add("state", p.state, sizeof *p.state, 8);
    to.add("gap", p.gap, sizeof *p.gap, 16);
    to.add("hidden", p.hidden, p.hidden_len * 2, 2);
    to.add("out", p.out, p.hidden_len * 4, 4);
    to.add("report", p.report, 8, 8);
}

// Calls `visit(Params{})` with the parameter type of a kernel: see Role in common/kernel.cuh.
template <class Visit>
auto with_params(Kernel const& kernel, Visit visit) {
    switch (kernel.role) {
        case Role::Gemm:
            if (kernel.family == W4AXK_PLAIN) return visit(static_cast<RoutedParams*>(nullptr));
            if (kernel.family == W4AXK_WGMMA) return visit(static_cast<WgmmaParams*>(nullptr));
            return visit(static_cast<GemmParams*>(nullptr));
        case Role::RoutedGemm:
            if (kernel.family == W4AXK_WGMMA) return visit(static_cast<RoutedWgmmaParams*>(nullptr));
            return visit(static_cast<RoutedParams*>(nullptr));
        case Role::QuantizePack: return visit(static_cast<QuantizeParams*>(nullptr));
        case Role::RmsNorm:
        case Role::SiluMul: return visit(static_cast<RowOpParams*>(nullptr));
        case Role::Latch:
        case Role::GraphLatch: return visit(static_cast<LatchParams*>(nullptr));
        case Role::Gather: return visit(static_cast<GatherParams*>(nullptr));
        case Role::SkipBegin: return visit(static_cast<w4axk_skip_begin_args*>(nullptr));
        case Role::SkipDecide: return visit(static_cast<w4axk_skip_decide_args*>(nullptr));
    }
    std::abort();  // a role that is not listed
}

// ---- grids

struct Described : w4ax_kernel {
    Kernel const* kernel;
};

// The emulator's errors and options are global.
w4ax_emulate::QuietLock running;
std::string* last_error = new std::string;  // never destroyed: streams may run until the process ends

CUresult run(w4ax_kernel const* described, w4ax_grid const* grid, char const** error) {
    Kernel const& kernel = *static_cast<Described const*>(described)->kernel;
    std::lock_guard<w4ax_emulate::QuietLock> const lock(running);
    w4ax_emulate::options.compute_capability = grid->compute_capability;
    w4ax_emulate::Grid launch;
    launch.grid = dim3(grid->grid[0], grid->grid[1], grid->grid[2]);
    launch.block = dim3(grid->block[0], grid->block[1], grid->block[2]);
    launch.dynamic_shared_bytes = grid->dynamic_shared_bytes;
    launch.overlaps_previous = grid->overlaps_previous != 0;
    cudaError_t result = with_params(kernel, [&](auto* type) {
        using Params = std::remove_pointer_t<decltype(type)>;
        auto const function = reinterpret_cast<void (*)(Params)>(const_cast<void*>(kernel.function));
        Params params;
        std::memcpy(&params, grid->parameter, sizeof params);
        return w4ax_emulate::launch(launch, [function, params] { function(params); });
    });
    if (w4ax_emulate::synchronize() != cudaSuccess) result = cudaErrorLaunchFailure;
    if (result == cudaSuccess) return CUDA_SUCCESS;
    *last_error = w4ax_emulate_last_error();
    w4ax_emulate_clear_error();
    *error = last_error->c_str();
    return CUDA_ERROR_LAUNCH_FAILED;
}

int pointers(w4ax_kernel const* described, void const* parameter, w4ax_pointer* out, int room) {
    Kernel const& kernel = *static_cast<Described const*>(described)->kernel;
    Pointers to = {out, room, 0};
    with_params(kernel, [&](auto* type) {
        std::remove_pointer_t<decltype(type)> params;
        std::memcpy(&params, parameter, sizeof params);
        add_pointers(to, kernel, params);
    });
    return to.count < room ? to.count : room;
}

// ---- the module

KernelList (*const lists[])() = {
#define W4AX_LIST(file) file##_kernels,
    W4AX_KERNEL_FILES(W4AX_LIST)
#undef W4AX_LIST
};

KernelList list(int file) { return lists[file](); }

Described describe(Kernel const& kernel) {
    Described described = {};
    described.function = kernel.function;
    with_params(kernel, [&](auto* type) { described.parameter_bytes = sizeof(std::remove_pointer_t<decltype(type)>); });
    described.max_threads = uint32_t(kernel.threads);
    // Not those of a real kernel. One of the wgmma family with fewer than 168 counts as empty (context.cu).
    described.registers = kernel.family == W4AXK_WGMMA && W4AX_EMULATE_ARCH == 900 ? 168 : 64;
    described.max_dynamic_shared_bytes = W4AX_EMULATE_ARCH == 900   ? 227 << 10
                                         : W4AX_EMULATE_ARCH == 800 ? 163 << 10
                                                                    : 99 << 10;
    described.sets_conditionals = sets_conditionals(kernel.role);
    described.run = run;
    described.pointers = pointers;
    described.kernel = &kernel;
    return described;
}

struct Everything {
    std::vector<Described> kernels;
    std::vector<w4ax_kernel const*> addresses;

    Everything() {
        for (int i = 0; i < kernel_count(); ++i) {
            kernels.push_back(describe(*kernel_at(i)));
            kernels.back().name = w4axk_kernel_name(uint32_t(i));
        }
        for (Described const& kernel : kernels) addresses.push_back(&kernel);
    }
};

decltype(&w4axDriverSetConditional) set_in_driver;
decltype(&w4axDriverLastRefusal) refusal_of_driver;

char const* set_conditional(uint64_t handle, uint32_t value) {
    return set_in_driver(handle, value) == CUDA_SUCCESS ? nullptr : refusal_of_driver();
}

void use_conditionals(decltype(&w4axDriverSetConditional) set, decltype(&w4axDriverLastRefusal) refusal) {
    set_in_driver = set;
    refusal_of_driver = refusal;
    w4ax_emulate::use_conditionals(set_conditional);
}

}  // namespace

extern "C" w4ax_cudart::Module const* w4ax_emulated_module(void) {
    static Everything const* const all = [] {
        // Another seed is another order of blocks and threads, and other times at which copies arrive.
        if (char const* const seed = std::getenv("W4AX_EMULATE_SEED")) {
            w4ax_emulate_set_seed(std::strtoull(seed, nullptr, 10));
        }
        return new Everything;
    }();
    static w4ax_cudart::Module const module = {W4AX_EMULATE_ARCH / 10,          all->addresses.data(),
                                               int(all->addresses.size()),      list,
                                               w4ax_emulate::encode_tensor_map, use_conditionals};
    return &module;
}
