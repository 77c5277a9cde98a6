// A file of its own: drivers without conditional nodes cannot load it.
#include "ops/latch.cuh"
#include "instances/instantiate.cuh"

W4AX_INSTANTIATE(latch_graph)
