// The latch's part of the C ABI of w4ax_kernels.h.
#include "api/entry.cuh"

namespace w4ax {

namespace {

w4axk_status check(w4axk_latch_args const& a) {
    // Again: the flag is not read, and nothing is told.
    bool const again = a.forced == W4AXK_LATCHED;
    if (!a.state || (!a.executed && !again) || (!a.flag && !a.forced)) return W4AXK_NULL_POINTER;
    if (!is_aligned(a.state, 16) || !is_aligned(a.flag, 8) || !is_aligned(a.executed, 8)) return W4AXK_MISALIGNED;
    switch (a.forced) {
        case 0:
        case W4AXK_A2:
        case W4AXK_A4:
        case W4AXK_A8:
        case W4AXK_BF16: break;
        case W4AXK_LATCHED:
            if (a.conditional_count == 0) return W4AXK_BAD_FLAGS;
            break;
        default: return W4AXK_BAD_WIDTH;
    }
    bool const counts = a.conditional_count == 0 || a.conditional_count == 1 || a.conditional_count == 4;
    if ((a.flags & ~uint32_t(W4AXK_FLAG_PDL)) != 0 || a.reserved != 0 || !counts || a.spin_us > uint32_t(W4AXK_MAX_SPIN_US))
        return W4AXK_BAD_FLAGS;
    return W4AXK_OK;
}

}  // namespace

}  // namespace w4ax

using namespace w4ax;

extern "C" w4axk_status w4axk_latch(const w4axk_latch_args* args, void* stream) {
    if (!args) return W4AXK_NULL_POINTER;
    w4axk_latch_args const& a = *args;
    w4axk_status const status = check(a);
    if (status != W4AXK_OK) return status;
    LatchParams p = {};
    p.state = a.state;
    p.flag = a.flag;
    p.executed = a.executed;
    for (int i = 0; i < 4; ++i) p.conditionals[i] = a.conditionals[i];
    p.conditional_count = int(a.conditional_count);
    p.spin_us = a.spin_us;
    p.forced = a.forced;
    Role const role = a.conditional_count ? Role::GraphLatch : Role::Latch;
    return launch_one(a, find_kernel(role, W4AXK_AUTO, 0, 0, true, 1), dim3(1), p, stream);
}
