// The kernels of w4ax_skip.h, and their part of the C ABI. A file of its own: a driver that knows no conditional nodes cannot
// load them.
#include "ops/skip.cuh"

#include "api/entry.cuh"
#include "runtime/roles.cuh"

namespace w4ax {

KernelList skip_kernels() {
    static Kernel const kernels[] = {
        {reinterpret_cast<void const*>(&skip_begin_kernel), kSkipBeginRole, W4AXK_AUTO, 0, 0, true, 1, 0, 0, kSkipThreads, [](int) { return 0; }, 0},
        {reinterpret_cast<void const*>(&skip_decide_kernel), kSkipDecideRole, W4AXK_AUTO, 0, 0, true, 1, 0, 0, kSkipThreads, [](int) { return 0; }, 0},
    };
    return {kernels, 2};
}

namespace {

bool are_flags(uint32_t flags, uint32_t reserved) { return (flags & ~uint32_t(W4AXK_FLAG_PDL)) == 0 && reserved == 0; }

w4axk_status check(w4axk_skip_begin_args const& a) {
    if (!a.state || !a.gaps || !a.allow) return W4AXK_NULL_POINTER;
    if (!is_aligned(a.state, 8) || !is_aligned(a.gaps, 16) || !is_aligned(a.allow, 8)) return W4AXK_MISALIGNED;
    if (a.gap_count < 1 || a.gap_count > uint32_t(W4AXK_MAX_SKIP_GAPS)) return W4AXK_BAD_SHAPE;
    for (uint32_t i = 0; i < a.gap_count; ++i)
        if (a.first[i] >= a.end[i] || a.end[i] > uint32_t(W4AXK_MAX_EXTENT)) return W4AXK_BAD_SHAPE;
    return are_flags(a.flags, a.reserved) ? W4AXK_OK : W4AXK_BAD_FLAGS;
}

w4axk_status check(w4axk_skip_decide_args const& a) {
    if (!a.state || !a.gap || !a.hidden || !a.out || !a.report) return W4AXK_NULL_POINTER;
    if (!is_aligned(a.state, 8) || !is_aligned(a.gap, 16) || !is_aligned(a.hidden, 2) || !is_aligned(a.out, 4) || !is_aligned(a.report, 8))
        return W4AXK_MISALIGNED;
    if (a.hidden_len < 1 || a.hidden_len > uint32_t(W4AXK_MAX_SKIP_HIDDEN) || a.layer >= uint32_t(W4AXK_MAX_EXTENT)) return W4AXK_BAD_SHAPE;
    // A NaN is neither.
    bool const threshold = a.threshold >= 0.0f && a.threshold <= 1.0f;
    return threshold && a.has_next <= 1 && are_flags(a.flags, a.reserved) ? W4AXK_OK : W4AXK_BAD_FLAGS;
}

template <class Args>
w4axk_status check_and_launch(Args const* args, Role role, void* stream) {
    if (!args) return W4AXK_NULL_POINTER;
    w4axk_status const status = check(*args);
    return status == W4AXK_OK ? launch_one(*args, find_kernel(role, W4AXK_AUTO, 0, 0, true, 1), dim3(1), *args, stream) : status;
}

}  // namespace

}  // namespace w4ax

extern "C" w4axk_status w4axk_skip_begin(const w4axk_skip_begin_args* args, void* stream) {
    return w4ax::check_and_launch(args, w4ax::kSkipBeginRole, stream);
}

extern "C" w4axk_status w4axk_skip_decide(const w4axk_skip_decide_args* args, void* stream) {
    return w4ax::check_and_launch(args, w4ax::kSkipDecideRole, stream);
}
