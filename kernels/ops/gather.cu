// The gather's kernels, and its part of the C ABI.
#include "ops/gather.cuh"

#include "api/entry.cuh"
#include "common/layout.cuh"
#include "runtime/roles.cuh"
#include "api/w4ax_order.h"

#include <climits>

namespace w4ax {

KernelList gather_kernels() {
    static Kernel const kernels[] = {
        {reinterpret_cast<void const*>(&gather_kernel), kGatherRole, W4AXK_AUTO, 0, 0, true, 1, 0, kGatherTokens, kGatherThreads, [](int) { return 0; }, 0},
        {reinterpret_cast<void const*>(&gather_plain_kernel), kGatherRole, W4AXK_AUTO, 0, 0, true, 2, 0, 1, kGatherThreads, [](int) { return 0; }, 0},
    };
    return {kernels, 2};
}

namespace {

bool is_extent(uint32_t v) { return v >= 1 && v <= uint32_t(W4AXK_MAX_EXTENT); }
bool is_stride(int64_t v, uint32_t k) { return v >= int64_t(k) && v <= int64_t(W4AXK_MAX_STRIDE); }

dim3 grid_of(w4axk_gather_args const& a, int64_t& blocks) {
    if (a.kernel == W4AXK_GATHER_PLAIN) {
        blocks = (int64_t(a.m) * a.k + kGatherThreads - 1) / kGatherThreads;
        return dim3(unsigned(blocks));
    }
    unsigned const along_k = unsigned(ceil_div(int(a.k), 2 * kGatherThreads)), along_m = unsigned(ceil_div(int(a.m), kGatherTokens));
    blocks = int64_t(along_k) * along_m;
    return dim3(along_k, along_m);
}

w4axk_status check(w4axk_gather_args const& a) {
    if (!is_extent(a.m) || !is_extent(a.k)) return W4AXK_BAD_SHAPE;
    if (a.kernel > uint32_t(W4AXK_GATHER_PLAIN)) return W4AXK_BAD_MODE;
    if ((a.flags & ~uint32_t(W4AXK_FLAG_PDL)) != 0 || a.reserved != 0) return W4AXK_BAD_FLAGS;
    if (!a.x || !a.order || !a.y) return W4AXK_NULL_POINTER;
    if (!is_stride(a.x_stride, a.k) || !is_stride(a.y_stride, a.k)) return W4AXK_BAD_STRIDE;
    if (!is_aligned(a.x, 2) || !is_aligned(a.order, 8) || !is_aligned(a.y, 2)) return W4AXK_MISALIGNED;
    int64_t blocks;
    dim3 const grid = grid_of(a, blocks);
    // CUDA's own limits of a grid: 65535 in its second dimension.
    return blocks > INT_MAX || grid.y > 65535 ? W4AXK_BAD_SHAPE : W4AXK_OK;
}

}  // namespace

}  // namespace w4ax

using namespace w4ax;

extern "C" w4axk_status w4axk_gather(const w4axk_gather_args* args, void* stream) {
    if (!args) return W4AXK_NULL_POINTER;
    w4axk_gather_args const& a = *args;
    w4axk_status const status = check(a);
    if (status != W4AXK_OK) return status;
    GatherParams p = {};
    p.x = static_cast<uint16_t const*>(a.x);
    p.x_stride = a.x_stride;
    p.order = a.order;
    p.y = static_cast<uint16_t*>(a.y);
    p.y_stride = a.y_stride;
    p.m = int(a.m);
    p.k = int(a.k);
    p.y_pairs = is_aligned(a.y, 4) && a.y_stride % 2 == 0;
    int64_t blocks;
    int const kernel = find_kernel(kGatherRole, W4AXK_AUTO, 0, 0, true, a.kernel == W4AXK_GATHER_PLAIN ? 2 : 1);
    return launch_one(a, kernel, grid_of(a, blocks), p, stream);
}
