#include "gemm/routed.cuh"
#include "instances/instantiate.cuh"

W4AX_INSTANTIATE(routed_decode_packed)
