// Kernels that no GEMM list names, and what the registry and the loader know of them. Not in registry.cuh, which every GEMM
// includes: a new kernel here compiles none of those again.
#pragma once

#include "runtime/registry.cuh"

namespace w4ax {

// Numbered on from the last Role.
constexpr Role kGatherRole = Role(int(Role::GraphLatch) + 1);  // takes GatherParams
constexpr Role kSkipBeginRole = Role(int(kGatherRole) + 1);    // takes w4axk_skip_begin_args
constexpr Role kSkipDecideRole = Role(int(kGatherRole) + 2);   // takes w4axk_skip_decide_args

// Whether a kernel sets conditional nodes of a graph, by a function that drivers before CUDA 12.4 do not have.
constexpr bool sets_conditionals(Role role) { return role == Role::GraphLatch || role == kSkipBeginRole || role == kSkipDecideRole; }

KernelList gather_kernels();
KernelList skip_kernels();

}  // namespace w4ax
