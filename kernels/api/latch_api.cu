// The entry point of the latch, declared in w4ax_kernels.h.
#include "api/entry.cuh"

namespace w4ax {

namespace {

w4axk_status check(w4axk_latch_args const& a) {
    // A further graph of the same step: the latch neither reads the flag nor reports.
    bool const latched_before = a.forced == W4AXK_LATCHED;
    if (!a.state || (!a.executed && !latched_before) || (!a.flag && !a.forced)) return W4AXK_NULL_POINTER;
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
    bool const count_is_valid = a.conditional_count == 0 || a.conditional_count == 1 || a.conditional_count == 4;
    if (!flags_are_valid(a) || !count_is_valid || a.spin_us > uint32_t(W4AXK_MAX_SPIN_US)) return W4AXK_BAD_FLAGS;
    return W4AXK_OK;
}

w4axk_status launch_latch(w4axk_latch_args const& a, void* stream) {
    LatchParams const p = {
        .state = a.state,
        .flag = a.flag,
        .executed = a.executed,
        .conditionals = {a.conditionals[0], a.conditionals[1], a.conditionals[2], a.conditionals[3]},
        .conditional_count = int(a.conditional_count),
        .spin_us = a.spin_us,
        .forced = a.forced,
    };
    Role const role = a.conditional_count ? Role::GraphLatch : Role::Latch;
    return launch_one(a, find_kernel(role), dim3(1), p, stream);
}

}  // namespace

}  // namespace w4ax

extern "C" w4axk_status w4axk_latch(const w4axk_latch_args* args, void* stream) {
    using namespace w4ax;
    return check_and_launch(args, check, [&](w4axk_latch_args const& a) { return launch_latch(a, stream); });
}
