// The leaf operations of sm_90a: mbarriers, bulk and tensor copies, warpgroup mma. On a GPU they are CuTe's, under the
// emulator its own. Section names refer to the PTX ISA: https://docs.nvidia.com/cuda/parallel-thread-execution/
#pragma once

#include "common/device.cuh"
#include "common/params.cuh"

#include <type_traits>
#include <utility>

// Only machine code for sm_90a has these instructions. PTX of compute_90 and every other architecture compile empty
// kernels, which the host never launches (Device::has_wgmma).
#if defined(W4AX_EMULATE)
#define W4AX_HAS_WGMMA (W4AX_EMULATE_ARCH == 900)
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define W4AX_HAS_WGMMA 1
#else
#define W4AX_HAS_WGMMA 0
#endif

#ifdef W4AX_EMULATE
#include "emulate/sm90.h"
#else
#include <cutlass/arch/barrier.h>
#include <cutlass/arch/reg_reconfig.h>
#endif

namespace w4ax::sm90 {

// The order of the B operand in shared memory, K-major, in core matrices of 8 tokens x 16 bytes (section "Asynchronous
// Warpgroup Level Matrix Shared Memory Layout").
enum class Order {
    CoreMatrices,  // a core matrix is 128 contiguous bytes; the strides are between core matrices along k and tokens
    Swizzled,      // rows of 128 bytes with swizzled 16-byte units (SWIZZLE_128B of TMA); the stride separates 8 rows
};

// The elements of A and B.
enum class Operands { S8U8, U8U8, Bf16 };

#ifndef W4AX_EMULATE

// A compiler fence, no instruction: CuTe's barriers lack the memory clobber that keeps loads and stores on their side.
W4AX_DEVICE void compiler_fence() { asm volatile("" ::: "memory"); }

// ---- barriers (section mbarrier): a phase completes when `arrivals` threads have arrived and all expected bytes have
// landed

W4AX_DEVICE void initialize_barrier(uint64_t* barrier, int arrivals) { cute::initialize_barrier(*barrier, arrivals); }
// Makes initialized barriers visible to asynchronous copies. The thread that has initialized them calls it.
W4AX_DEVICE void fence_barrier_init() { cutlass::arch::fence_barrier_init(); }
W4AX_DEVICE void arrive(uint64_t* barrier) {
    compiler_fence();  // after the arrival, the producer may overwrite what was read before
    cute::arrive_barrier(*barrier);
}
// Arrives, and adds to the bytes that the phase expects from copies.
W4AX_DEVICE void arrive_and_expect_tx(uint64_t* barrier, int bytes) {
    cute::set_barrier_transaction_bytes(*barrier, uint32_t(bytes));
}
// Waits until the phase of this parity (0 for the first) has completed.
W4AX_DEVICE void wait(uint64_t* barrier, int parity) {
    cute::wait_barrier(*barrier, parity);
    compiler_fence();  // the data that the barrier guards is read after it
}

// ---- copies from global memory (sections cp.async.bulk and cp.async.bulk.tensor)

// `bytes` and both addresses are multiples of 16.
W4AX_DEVICE void bulk_copy(void* sTo, void const* gFrom, int bytes, uint64_t* barrier) {
    cute::SM90_BULK_COPY_G2S::copy(gFrom, barrier, sTo, bytes);
}
// Copies the map's box at column k and row `row`: swizzled rows of 128 bytes, with zeros beyond the matrix. The barrier
// counts the bytes of the whole box.
W4AX_DEVICE void tma_load_2d(void* sTo, TensorMap const& map, int k, int row, uint64_t* barrier) {
    // Every block of channels reads the same activations, so the cache should keep them.
    constexpr auto kHint = uint64_t(cute::TMA::CacheHintSm90::EVICT_LAST);
    cute::SM90_TMA_LOAD_2D::copy(&map, barrier, kHint, sTo, k, row);
}

// ---- warp specialization

// Sets the registers of each thread, a multiple of 8 (section setmaxnreg). The whole warpgroup calls it. Registers that
// one warpgroup deallocates can be allocated by another.
template <int kRegisters>
W4AX_DEVICE void warpgroup_reg_dealloc() {
    cutlass::arch::warpgroup_reg_dealloc<kRegisters>();
}
template <int kRegisters>
W4AX_DEVICE void warpgroup_reg_alloc() {
    cutlass::arch::warpgroup_reg_alloc<kRegisters>();
}
// __syncthreads for a fixed set of kThreads threads.
template <int kThreads>
W4AX_DEVICE void named_barrier_sync() {
    compiler_fence();  // on both sides, as __syncthreads has it
    cutlass::arch::NamedBarrier::sync(kThreads, cutlass::arch::ReservedNamedBarriers::FirstUserBarrier);
    compiler_fence();
}

// ---- warpgroup mma: 64 channels (four warps with one weight tile each) x kTokens (section wgmma.mma_async)

// Returns a matrix descriptor (section "Matrix Descriptor"). Strides are in bytes.

W4AX_DEVICE uint64_t make_descriptor(void const* sB, int k_stride, int token_stride, Order order) {
    cute::GmmaDescriptor d;
    d.bitfield.start_address_ = uint16_t(cute::cast_smem_ptr_to_uint(sB) >> 4);
    d.bitfield.leading_byte_offset_ = uint16_t(k_stride >> 4);
    d.bitfield.stride_byte_offset_ = uint16_t(token_stride >> 4);
    d.bitfield.base_offset_ = 0;
    d.bitfield.layout_type_ = uint8_t(order == Order::Swizzled ? cute::SM90::GMMA::LayoutType::B128
                                                               : cute::SM90::GMMA::LayoutType::INTERLEAVE);
    return uint64_t(d);
}
// Advances a descriptor's address.
W4AX_DEVICE uint64_t advance(uint64_t descriptor, int bytes) { return descriptor + uint64_t(bytes >> 4); }

// Keeps the compiler from moving or reusing the registers of an mma in flight, which it takes for complete once issued.
template <class Tensor>
W4AX_DEVICE void fence_operands(Tensor& r) {
    CUTE_UNROLL
    for (int i = 0; i < int(size(r)); ++i) cute::warpgroup_fence_operand(r(i));
}

// Orders register writes of ordinary instructions before the mma that follow (section wgmma.fence).
template <class TensorC, class TensorA>
W4AX_DEVICE void warpgroup_arrive(TensorC& rC, TensorA& rA) {
    fence_operands(rC);
    fence_operands(rA);
    cute::warpgroup_arrive();
}
W4AX_DEVICE void warpgroup_commit_batch() { cute::warpgroup_commit_batch(); }
// Waits for all committed batches but the last kBatches. Until it returns, their registers must not be accessed.
template <int kBatches, class TensorC>
W4AX_DEVICE void warpgroup_wait(TensorC& rC) {
    cute::warpgroup_wait<kBatches>();
    fence_operands(rC);
}

template <Operands kOperands, int kTokens>
struct Op;
#define W4AX_OP(tokens)                                                                          \
    template <>                                                                                  \
    struct Op<Operands::S8U8, tokens> : cute::SM90::GMMA::MMA_64x##tokens##x32_S32S8U8_RS_TN {}; \
    template <>                                                                                  \
    struct Op<Operands::U8U8, tokens> : cute::SM90::GMMA::MMA_64x##tokens##x32_S32U8U8_RS_TN {}; \
    template <>                                                                                  \
    struct Op<Operands::Bf16, tokens>                                                            \
        : cute::SM90::GMMA::MMA_64x##tokens##x16_F32BF16BF16_RS<cute::SM90::GMMA::Major::K,      \
                                                                cute::SM90::GMMA::Major::K> {};
W4AX_OP(80)
W4AX_OP(128)
#undef W4AX_OP

template <Operands kOperands, int kTokens, class TensorC, class TensorA, int... kAt>
W4AX_DEVICE void multiply_each(TensorC& rC, TensorA const& rA, uint64_t b, std::integer_sequence<int, kAt...>) {
    Op<kOperands, kTokens>::fma(rA(0), rA(1), rA(2), rA(3), b, rC(kAt)..., cute::SM90::GMMA::ScaleOut::One);
}

// rC += A * B, asynchronously. A and C have the fragments of mma.m16n8: 4 registers of A per lane, 4 of C per 8 tokens.
template <Operands kOperands, int kTokens, class TensorC, class TensorA>
W4AX_DEVICE void multiply(TensorC& rC, TensorA const& rA, uint64_t b) {  // (4 * kTokens / 8) (4)
    multiply_each<kOperands, kTokens>(rC, rA, b, std::make_integer_sequence<int, kTokens / 2>{});
}

#else

inline void initialize_barrier(uint64_t* barrier, int arrivals) { w4ax_emulate::mbarrier_init(barrier, arrivals); }
inline void fence_barrier_init() { w4ax_emulate::fence_mbarrier_init(); }
inline void arrive(uint64_t* barrier) { w4ax_emulate::mbarrier_arrive(barrier, 0); }
inline void arrive_and_expect_tx(uint64_t* barrier, int bytes) { w4ax_emulate::mbarrier_arrive(barrier, bytes); }
inline void wait(uint64_t* barrier, int parity) { w4ax_emulate::mbarrier_wait(barrier, parity); }
inline void bulk_copy(void* sTo, void const* gFrom, int bytes, uint64_t* barrier) {
    w4ax_emulate::bulk_copy(sTo, gFrom, bytes, barrier);
}
inline void tma_load_2d(void* sTo, TensorMap const& map, int k, int row, uint64_t* barrier) {
    w4ax_emulate::tensor_copy(sTo, &map, k, row, barrier);
}
inline uint64_t make_descriptor(void const* sB, int k_stride, int token_stride, Order order) {
    return w4ax_emulate::make_descriptor(sB, k_stride, token_stride, order == Order::Swizzled);
}
inline uint64_t advance(uint64_t descriptor, int bytes) { return descriptor + uint64_t(bytes >> 4); }
template <int kRegisters>
void warpgroup_reg_dealloc() {}
template <int kRegisters>
void warpgroup_reg_alloc() {}
template <int kThreads>
void named_barrier_sync(char const* file = __builtin_FILE(), int line = __builtin_LINE()) {
    w4ax_emulate::barrier_sync(8, kThreads, file, line);
}
template <class TensorC, class TensorA>
void warpgroup_arrive(TensorC&, TensorA&) {
    w4ax_emulate::wgmma_fence();
}
inline void warpgroup_commit_batch() { w4ax_emulate::wgmma_commit_group(); }
template <int kBatches, class TensorC>
void warpgroup_wait(TensorC&) {
    w4ax_emulate::wgmma_wait_group(kBatches);
}
template <Operands kOperands, int kTokens, class TensorC, class TensorA>
void multiply(TensorC& rC, TensorA const& rA, uint64_t b) {  // (4 * kTokens / 8) (4)
    using w4ax_emulate::Element;
    constexpr Element kA = kOperands == Operands::Bf16   ? Element::bf16
                           : kOperands == Operands::U8U8 ? Element::u8
                                                         : Element::s8;
    w4ax_emulate::wgmma(&rA(0), &rC(0), b, kTokens, kA);
}

#endif

}  // namespace w4ax::sm90
