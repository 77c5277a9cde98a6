#include "instances/prefill_list.cuh"

namespace w4ax {
KernelList prefill_a4_fused() { return prefill_list<4, true>(); }
}  // namespace w4ax
