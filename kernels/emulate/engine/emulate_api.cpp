#include "emulate/emulate_api.h"

#include "emulate/engine/engine.h"
#include "emulate/engine/launch.h"
#include "emulate/memory/bulk_copy.h"

namespace w4ax_emulate {
Options options;
Counters counters;
void count_global_read(std::uint64_t bytes) { counters.global_bytes_read += bytes; }
static_assert(sizeof(Counters) == sizeof(w4ax_emulate_counters), "the C ABI has the same counters");
}  // namespace w4ax_emulate

extern "C" {

void w4ax_emulate_set_seed(uint64_t seed) { w4ax_emulate::set_seed(seed); }
void w4ax_emulate_set_cp_async(int mode) {
    w4ax_emulate::options.async_copies = static_cast<w4ax_emulate::AsyncCopies>(mode);
}
void w4ax_emulate_set_schedule(int mode) { w4ax_emulate::options.schedule = static_cast<w4ax_emulate::Schedule>(mode); }
void w4ax_emulate_set_bf16_sum(int mode) { w4ax_emulate::options.bf16_sum = static_cast<w4ax_emulate::Bf16Sum>(mode); }
void w4ax_emulate_set_compute_capability(int capability) { w4ax_emulate::options.compute_capability = capability; }
void w4ax_emulate_add_constant(void const* at, uint64_t bytes) { w4ax_emulate::add_constant(at, bytes); }
void w4ax_emulate_clear_constants(void) { w4ax_emulate::clear_constants(); }
int w4ax_emulate_synchronize(void) { return w4ax_emulate::synchronize() != cudaSuccess; }
void w4ax_emulate_get_counters(w4ax_emulate_counters* out) {
    __builtin_memcpy(out, &w4ax_emulate::counters, sizeof *out);
}
void w4ax_emulate_reset_counters(void) { w4ax_emulate::counters = {}; }

char const* w4ax_emulate_sanitizer(void) {
#if defined(W4AX_EMULATE_ASAN)
    return "address";
#elif defined(W4AX_EMULATE_TSAN)
    return "thread";
#elif defined(W4AX_EMULATE_MSAN)
    return "memory";
#else
    return "none";
#endif
}

}  // extern "C"
