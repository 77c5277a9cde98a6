#include "gemm/plain.cuh"

#include "runtime/registry.cuh"

namespace w4ax {

KernelList plain_kernels() {
    static Kernel const kernels[] = {
        {reinterpret_cast<void const*>(&plain_kernel), Role::Gemm, W4AXK_PLAIN, 0, 0, true, 1, 1, 1, kPlainThreads, [](int) { return 0; }, 0},
    };
    return {kernels, 1};
}

}  // namespace w4ax
