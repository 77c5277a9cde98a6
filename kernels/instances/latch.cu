#include "ops/latch.cuh"

#include "runtime/registry.cuh"

namespace w4ax {

KernelList latch_kernels() {
    static Kernel const kernels[] = {
        {reinterpret_cast<void const*>(&latch_kernel<false>), Role::Latch, W4AXK_AUTO, 0, 0, true, 1, 0, 0, kLatchThreads, [](int) { return 0; }, 0},
    };
    return {kernels, 1};
}

}  // namespace w4ax
