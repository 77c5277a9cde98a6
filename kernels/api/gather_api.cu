// The entry point of the gather, declared in w4ax_order.h.
#include "api/entry.cuh"
#include "api/w4ax_order.h"

#include <climits>

namespace w4ax {

namespace {

constexpr unsigned kMaxGridY = 65535;  // CUDA's limit of a grid's second dimension

struct GatherGrid {
    dim3 grid;
    int64_t blocks;
};

GatherGrid grid_of(w4axk_gather_args const& a) {
    if (a.kernel == W4AXK_GATHER_PLAIN) {
        int64_t const blocks = (int64_t(a.m) * a.k + kGatherThreads - 1) / kGatherThreads;
        return {dim3(unsigned(blocks)), blocks};
    }
    unsigned const along_k = unsigned(ceil_div(int(a.k), 2 * kGatherThreads));
    unsigned const along_m = unsigned(ceil_div(int(a.m), kGatherTokens));
    return {dim3(along_k, along_m), int64_t(along_k) * along_m};
}

w4axk_status check(w4axk_gather_args const& a) {
    if (!is_extent(a.m) || !is_extent(a.k)) return W4AXK_BAD_SHAPE;
    if (a.kernel > uint32_t(W4AXK_GATHER_PLAIN)) return W4AXK_BAD_MODE;
    if (!flags_are_valid(a)) return W4AXK_BAD_FLAGS;
    if (!a.x || !a.order || !a.y) return W4AXK_NULL_POINTER;
    if (!is_stride(a.x_stride, a.k) || !is_stride(a.y_stride, a.k)) return W4AXK_BAD_STRIDE;
    if (!is_aligned(a.x, 2) || !is_aligned(a.order, 8) || !is_aligned(a.y, 2)) return W4AXK_MISALIGNED;
    GatherGrid const g = grid_of(a);
    return g.blocks > INT_MAX || g.grid.y > kMaxGridY ? W4AXK_BAD_SHAPE : W4AXK_OK;
}

w4axk_status launch_gather(w4axk_gather_args const& a, void* stream) {
    GatherParams const p = {
        .x = static_cast<uint16_t const*>(a.x),
        .x_stride = a.x_stride,
        .order = a.order,
        .y = static_cast<uint16_t*>(a.y),
        .y_stride = a.y_stride,
        .m = int(a.m),
        .k = int(a.k),
        .y_pairs = is_aligned(a.y, 4) && a.y_stride % 2 == 0,
    };
    int const tile = a.kernel == W4AXK_GATHER_PLAIN ? 2 : 1;
    return launch_one(a, find_kernel(Role::Gather, tile), grid_of(a).grid, p, stream);
}

}  // namespace

}  // namespace w4ax

extern "C" w4axk_status w4axk_gather(const w4axk_gather_args* args, void* stream) {
    using namespace w4ax;
    return check_and_launch(args, check, [&](w4axk_gather_args const& a) { return launch_gather(a, stream); });
}
