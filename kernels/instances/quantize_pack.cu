#include "ops/quantize_pack.cuh"

#include "runtime/registry.cuh"

namespace w4ax {

namespace {
int no_shared(int) { return 0; }
int row_shared(int) { return kPackThreads / 32 * 8; }
}  // namespace

KernelList quantize_pack_kernels() {
    static Kernel const kernels[] = {
        {reinterpret_cast<void const*>(&quantize_pack_rows), Role::QuantizePack, W4AXK_AUTO, 0, 0, true, 1, 0, 1, kPackThreads, row_shared, row_shared(1)},
        {reinterpret_cast<void const*>(&quantize_pack_groups<32>), Role::QuantizePack, W4AXK_AUTO, 0, 32, true, 1, 0, kTileM, kPackThreads, no_shared, 0},
        {reinterpret_cast<void const*>(&quantize_pack_groups<64>), Role::QuantizePack, W4AXK_AUTO, 0, 64, true, 1, 0, kTileM, kPackThreads, no_shared, 0},
        {reinterpret_cast<void const*>(&quantize_pack_groups<128>), Role::QuantizePack, W4AXK_AUTO, 0, 128, true, 1, 0, kTileM, kPackThreads, no_shared, 0},
    };
    return {kernels, 4};
}

}  // namespace w4ax
