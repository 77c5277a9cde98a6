#include "instances/prefill_list.cuh"

namespace w4ax {
KernelList prefill_a8_fused() { return prefill_list<8, true>(); }
}  // namespace w4ax
