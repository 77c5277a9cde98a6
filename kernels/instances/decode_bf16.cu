#include "instances/decode_list.cuh"

namespace w4ax {
KernelList decode_bf16() { return decode_list<16, true>(); }
}  // namespace w4ax
