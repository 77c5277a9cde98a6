// The device claims to be what the kernels beside this object were compiled for.
#include "emulate/engine/engine.h"

namespace {
struct Claim {
  Claim() { w4ax_emulate::options.compute_capability = W4AX_EMULATE_ARCH / 10; }
} claim;
}  // namespace
