// The entry points of skipped layers, declared in w4ax_skip.h.
#include "api/entry.cuh"
#include "api/w4ax_skip.h"

namespace w4ax {

namespace {

w4axk_status check_begin(w4axk_skip_begin_args const& a) {
    if (!a.state || !a.gaps || !a.allow) return W4AXK_NULL_POINTER;
    if (!is_aligned(a.state, 8) || !is_aligned(a.gaps, 16) || !is_aligned(a.allow, 8)) return W4AXK_MISALIGNED;
    if (a.gap_count < 1 || a.gap_count > uint32_t(W4AXK_MAX_SKIP_GAPS)) return W4AXK_BAD_SHAPE;
    for (uint32_t i = 0; i < a.gap_count; ++i)
        if (a.first[i] >= a.end[i] || a.end[i] > uint32_t(W4AXK_MAX_EXTENT)) return W4AXK_BAD_SHAPE;
    return flags_are_valid(a) ? W4AXK_OK : W4AXK_BAD_FLAGS;
}

w4axk_status check_decide(w4axk_skip_decide_args const& a) {
    if (!a.state || !a.gap || !a.hidden || !a.out || !a.report) return W4AXK_NULL_POINTER;
    if (!is_aligned(a.state, 8) || !is_aligned(a.gap, 16) || !is_aligned(a.hidden, 2) || !is_aligned(a.out, 4) ||
        !is_aligned(a.report, 8))
        return W4AXK_MISALIGNED;
    bool const is_hidden = a.hidden_len >= 1 && a.hidden_len <= uint32_t(W4AXK_MAX_SKIP_HIDDEN);
    if (!is_hidden || a.layer >= uint32_t(W4AXK_MAX_EXTENT)) return W4AXK_BAD_SHAPE;
    // A NaN fails both comparisons.
    bool const is_probability = a.threshold >= 0.0f && a.threshold <= 1.0f;
    return is_probability && a.has_next <= 1 && flags_are_valid(a) ? W4AXK_OK : W4AXK_BAD_FLAGS;
}

// The kernels take the arguments of the C ABI as they are.
template <class Args>
w4axk_status launch_skip(Args const& a, Role role, void* stream) {
    return launch_one(a, find_kernel(role), dim3(1), a, stream);
}

}  // namespace

}  // namespace w4ax

extern "C" w4axk_status w4axk_skip_begin(const w4axk_skip_begin_args* args, void* stream) {
    using namespace w4ax;
    return check_and_launch(args, check_begin, [&](auto const& a) { return launch_skip(a, Role::SkipBegin, stream); });
}

extern "C" w4axk_status w4axk_skip_decide(const w4axk_skip_decide_args* args, void* stream) {
    using namespace w4ax;
    return check_and_launch(args, check_decide,
                            [&](auto const& a) { return launch_skip(a, Role::SkipDecide, stream); });
}
