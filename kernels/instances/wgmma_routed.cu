// 64 x 80 is one of CuTe's extended shapes.
#define CUTE_SM90_EXTENDED_MMA_SHAPES_ENABLED
#include "gemm/routed_wgmma.cuh"
#include "instances/instantiate.cuh"

W4AX_INSTANTIATE(wgmma_routed)
