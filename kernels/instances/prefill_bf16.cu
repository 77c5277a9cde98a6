#include "instances/prefill_list.cuh"

namespace w4ax {
KernelList prefill_bf16() { return prefill_list<16, true>(); }
}  // namespace w4ax
