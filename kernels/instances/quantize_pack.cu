#include "ops/quantize_pack.cuh"
#include "instances/instantiate.cuh"

W4AX_INSTANTIATE(quantize_pack)
