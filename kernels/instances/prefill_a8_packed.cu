#include "instances/prefill_list.cuh"

namespace w4ax {
KernelList prefill_a8_packed() { return prefill_list<8, false>(); }
}  // namespace w4ax
