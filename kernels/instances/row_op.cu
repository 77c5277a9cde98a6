#include "ops/row_op.cuh"
#include "instances/instantiate.cuh"

W4AX_INSTANTIATE(row_op)
