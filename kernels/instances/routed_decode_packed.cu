#include "instances/routed_list.cuh"

namespace w4ax {

KernelList routed_decode_packed() {
#define W4AX_TILES(group)                                          \
    routed_decode_entry<RoutedDecode<group, false, 1, 1>>(1),      \
        routed_decode_entry<RoutedDecode<group, false, 2, 1>>(2), \
        routed_decode_entry<RoutedDecode<group, false, 2, 2>>(3)
    static Kernel const kernels[] = {W4AX_TILES(0), W4AX_TILES(32), W4AX_TILES(64), W4AX_TILES(128)};
#undef W4AX_TILES
    static_assert(sizeof kernels / sizeof kernels[0] == 4 * kDecodeTiles, "each grouping has each tile");
    return {kernels, 4 * kDecodeTiles};
}

}  // namespace w4ax
