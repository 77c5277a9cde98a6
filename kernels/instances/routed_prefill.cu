#include "instances/routed_list.cuh"

namespace w4ax {

KernelList routed_prefill() {
#define W4AX_TILES(group)                                                \
    routed_prefill_entry<RoutedPrefill<group, 1, 4, 4, 1, 4>>(1),        \
        routed_prefill_entry<RoutedPrefill<group, 2, 8, 4, 1, 3>>(2), \
        routed_prefill_entry<RoutedPrefill<group, 2, 8, 4, 2, 3>>(3)
    static Kernel const kernels[] = {W4AX_TILES(0), W4AX_TILES(32), W4AX_TILES(64), W4AX_TILES(128)};
#undef W4AX_TILES
    static_assert(sizeof kernels / sizeof kernels[0] == 4 * kPrefillTiles, "each grouping has each tile");
    return {kernels, 4 * kPrefillTiles};
}

}  // namespace w4ax
