// Sets the compute capability of the device to the architecture that the kernels are compiled for.
#include "emulate/engine/engine.h"

namespace {
struct Setting {
    Setting() { w4ax_emulate::options.compute_capability = W4AX_EMULATE_ARCH / 10; }
} setting;
}  // namespace
