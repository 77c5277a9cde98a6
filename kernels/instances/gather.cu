#include "ops/gather.cuh"
#include "instances/instantiate.cuh"

W4AX_INSTANTIATE(gather)
