#include "gemm/plain.cuh"
#include "instances/instantiate.cuh"

W4AX_INSTANTIATE(plain)
