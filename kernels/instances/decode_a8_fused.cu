#include "instances/decode_list.cuh"

namespace w4ax {
KernelList decode_a8_fused() { return decode_list<8, true>(); }
}  // namespace w4ax
