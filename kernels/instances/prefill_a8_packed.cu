#include "gemm/prefill_kernel.cuh"
#include "instances/instantiate.cuh"

W4AX_INSTANTIATE(prefill_a8_packed)
