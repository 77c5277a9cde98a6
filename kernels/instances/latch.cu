#include "ops/latch.cuh"
#include "instances/instantiate.cuh"

W4AX_INSTANTIATE(latch)
