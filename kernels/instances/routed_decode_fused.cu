#include "instances/routed_list.cuh"

namespace w4ax {

// Of one token or two, which the smaller tiles take.
KernelList routed_decode_fused() {
#define W4AX_TILES(group) \
    routed_decode_entry<RoutedDecode<group, true, 1, 1>>(1), routed_decode_entry<RoutedDecode<group, true, 2, 1>>(2)
    static Kernel const kernels[] = {W4AX_TILES(0), W4AX_TILES(32), W4AX_TILES(64), W4AX_TILES(128)};
#undef W4AX_TILES
    return {kernels, int(sizeof kernels / sizeof kernels[0])};
}

}  // namespace w4ax
