#include "instances/decode_list.cuh"

namespace w4ax {
KernelList decode_a4_fused() { return decode_list<4, true>(); }
}  // namespace w4ax
