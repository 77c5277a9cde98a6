#include "instances/prefill_list.cuh"

namespace w4ax {
KernelList prefill_a4_packed() { return prefill_list<4, false>(); }
}  // namespace w4ax
