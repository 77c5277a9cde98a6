#include "instances/decode_list.cuh"

namespace w4ax {
KernelList decode_a8_packed() { return decode_list<8, false>(); }
}  // namespace w4ax
