#include "gemm/decode_kernel.cuh"
#include "instances/instantiate.cuh"

W4AX_INSTANTIATE(decode_a4_packed)
