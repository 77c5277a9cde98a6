// Small kernels that tests/toolchain.rs compiles, to see that the build and the reading of machine code do what they say.
#include <cute/arch/mma_sm80.hpp>
#include <cute/tensor.hpp>

#include "probe.cuh"

namespace probe {

using namespace cute;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
using Mma = SM80_16x8x32_S32S8U8S32_TN;
#else
using Mma = SM80_16x8x64_S32S4U4S32_TN;
#endif

// One warp, one CuTe atom a step, one 128-bit load a step: IMMA.16864 with s4, IMMA.16832 with s8.
__global__ void multiply(uint4 const* weights, uint32_t const* tokens, uint32_t* out) {
    auto c = make_tensor<uint32_t>(Layout<_4>{});
    clear(c);
    for (int step = 0; step < kSteps; ++step) {
        uint4 const w = weights[step * 32 + threadIdx.x];
        auto a = make_tensor<uint32_t>(Layout<_4>{});
        auto b = make_tensor<uint32_t>(Layout<_2>{});
        a(0) = w.x, a(1) = w.y, a(2) = w.z, a(3) = w.w;
        b(0) = tokens[step * 64 + threadIdx.x], b(1) = tokens[step * 64 + 32 + threadIdx.x];
        Mma::fma(c(0), c(1), c(2), c(3), a(0), a(1), a(2), a(3), b(0), b(1), c(0), c(1), c(2), c(3));
    }
    for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = c(i);
}

// Contracted, the two roundings would be one FFMA.
__global__ void multiply_then_add(float const* x, float* y) {
    y[threadIdx.x] = x[0] * x[1] + x[2];
}

// More values alive than there are registers: spills.
__global__ void __launch_bounds__(1024) spill(float const* x, float* y) {
    float v[128];
    for (int i = 0; i < 128; ++i) v[i] = x[i * 1024 + threadIdx.x];
    __syncthreads();
    for (int i = 0; i < 128; ++i) y[i * 1024 + threadIdx.x] = v[i] * v[127 - i];
}

}  // namespace probe

extern "C" int probe_launch(uint4 const* weights, uint32_t const* tokens, uint32_t* out, cudaStream_t stream) {
    probe::multiply<<<1, 32, 0, stream>>>(weights, tokens, out);
    probe::multiply_then_add<<<1, 32, 0, stream>>>(nullptr, nullptr);
    probe::spill<<<1, 1024, 0, stream>>>(nullptr, nullptr);
    return cudaGetLastError();
}
