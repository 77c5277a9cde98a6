// 64 x 80 is one of CuTe's extended shapes.
#define CUTE_SM90_EXTENDED_MMA_SHAPES_ENABLED
#include "instances/wgmma_list.cuh"

namespace w4ax {
KernelList wgmma_a8() { return wgmma_list<8>(); }
}  // namespace w4ax
