#include "instances/decode_list.cuh"

namespace w4ax {
KernelList decode_a4_packed() { return decode_list<4, false>(); }
}  // namespace w4ax
