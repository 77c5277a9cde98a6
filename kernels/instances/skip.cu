// A file of its own: drivers without conditional nodes cannot load it.
#include "ops/skip.cuh"
#include "instances/instantiate.cuh"

W4AX_INSTANTIATE(skip)
