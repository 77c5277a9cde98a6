// The leaf operations of sm_90a, all of them CuTe's on a GPU and the emulator's else: barriers in shared memory that count
// bytes as well as threads, bulk and tensor copies that complete on them, and warpgroup mma.
#pragma once

#include "common/device.cuh"
#include "common/params.cuh"

#include <type_traits>
#include <utility>

// Only machine code of sm_90a has them; PTX of compute_90 and every other architecture compiles empty kernels instead, which
// the host never launches (Device::has_wgmma).
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

// B of a warpgroup's mma in shared memory, k contiguous, in "core matrices" of 8 tokens x 16 bytes.
enum class Order {
    Cores,     // each core matrix is 128 contiguous bytes; strides from one to the next along k and along the tokens
    Swizzled,  // rows of 128 bytes, their 16-byte units exchanged by the row (a tensor copy's SWIZZLE_128B); 8 rows a stride
};

#ifndef W4AX_EMULATE

// CuTe's barriers do not tell the compiler that they order memory. No instruction: loads and stores stay on their side.
W4AX_DEVICE void keep_memory_order() { asm volatile("" ::: "memory"); }

// ---- barriers: a phase ends when `arrivals` threads have arrived and all announced bytes have landed

W4AX_DEVICE void init_barrier(uint64_t* barrier, int arrivals) { cute::initialize_barrier(*barrier, arrivals); }
// After the inits, by the thread that made them: copies, which run beside the threads, see the barriers too.
W4AX_DEVICE void publish_barriers() { cutlass::arch::fence_barrier_init(); }
W4AX_DEVICE void arrive(uint64_t* barrier) {
    keep_memory_order();  // what was read before may be overwritten from here on
    cute::arrive_barrier(*barrier);
}
// Arrives, and announces bytes that copies will bring.
W4AX_DEVICE void arrive_and_expect(uint64_t* barrier, int bytes) { cute::set_barrier_transaction_bytes(*barrier, uint32_t(bytes)); }
// Returns once the phase of that parity (0 for the first) has ended, with all that it ordered.
W4AX_DEVICE void wait(uint64_t* barrier, int parity) {
    cute::wait_barrier(*barrier, parity);
    keep_memory_order();  // what lies there is read from here on
}

// ---- copies from global memory

// `bytes` and both addresses are multiples of 16.
W4AX_DEVICE void copy_bulk(void* sTo, void const* gFrom, int bytes, uint64_t* barrier) {
    cute::SM90_BULK_COPY_G2S::copy(gFrom, barrier, sTo, bytes);
}
// The map's box at column k and row `row`, 128 bytes a row, swizzled; zeros where the matrix ends. Counts the whole box.
W4AX_DEVICE void copy_box(void* sTo, TensorMap const& map, int k, int row, uint64_t* barrier) {
    // Every block of channels reads the same activations: they are what the cache should keep.
    cute::SM90_TMA_LOAD_2D::copy(&map, barrier, uint64_t(cute::TMA::CacheHintSm90::EVICT_LAST), sTo, k, row);
}

// ---- warps of one block that do different work

// Registers of each thread from here on, a multiple of 8; the whole warpgroup calls it. What some give away others can take.
template <int kRegisters>
W4AX_DEVICE void give_registers() {
    cutlass::arch::warpgroup_reg_dealloc<kRegisters>();
}
template <int kRegisters>
W4AX_DEVICE void take_registers() {
    cutlass::arch::warpgroup_reg_alloc<kRegisters>();
}
// __syncthreads of so many threads, who are always the same.
template <int kThreads>
W4AX_DEVICE void sync_threads() {
    keep_memory_order();  // for either side, as __syncthreads does
    cutlass::arch::NamedBarrier::sync(kThreads, cutlass::arch::ReservedNamedBarriers::FirstUserBarrier);
    keep_memory_order();
}

// ---- mma of a warpgroup: 64 channels, four warps with a weight tile each, by kTokens

W4AX_DEVICE uint64_t describe(void const* sB, int k_stride, int token_stride, Order order) {
    cute::GmmaDescriptor d;
    d.bitfield.start_address_ = uint16_t(cute::cast_smem_ptr_to_uint(sB) >> 4);
    d.bitfield.leading_byte_offset_ = uint16_t(k_stride >> 4);
    d.bitfield.stride_byte_offset_ = uint16_t(token_stride >> 4);
    d.bitfield.base_offset_ = 0;
    d.bitfield.layout_type_ =
        uint8_t(order == Order::Swizzled ? cute::SM90::GMMA::LayoutType::B128 : cute::SM90::GMMA::LayoutType::INTERLEAVE);
    return uint64_t(d);
}
// The same `bytes` further.
W4AX_DEVICE uint64_t advance(uint64_t descriptor, int bytes) { return descriptor + uint64_t(bytes >> 4); }

// To the compiler an mma is done when it is issued. That it leaves the registers alone in between, it learns here.
template <class Tensor>
W4AX_DEVICE void hold(Tensor& r) {
    CUTE_UNROLL
    for (int i = 0; i < int(size(r)); ++i) cute::warpgroup_fence_operand(r(i));
}

// Before the first mma after registers that it reads or adds to were written by other instructions.
template <class TensorC, class TensorA>
W4AX_DEVICE void begin_mma(TensorC& rC, TensorA& rA) {
    hold(rC);
    hold(rA);
    cute::warpgroup_arrive();
}
W4AX_DEVICE void commit_mma() { cute::warpgroup_commit_batch(); }
// Until it returns, the registers of what was committed must not be touched.
template <class TensorC>
W4AX_DEVICE void wait_for_mma(TensorC& rC) {
    cute::warpgroup_wait<0>();
    hold(rC);
}

template <bool kQuantized, int kTokens>
struct Op;
#define W4AX_OP(tokens)                                                                            \
    template <>                                                                                    \
    struct Op<true, tokens> : cute::SM90::GMMA::MMA_64x##tokens##x32_S32S8U8_RS_TN {};             \
    template <>                                                                                    \
    struct Op<false, tokens>                                                                       \
        : cute::SM90::GMMA::MMA_64x##tokens##x16_F32BF16BF16_RS<cute::SM90::GMMA::Major::K,        \
                                                                cute::SM90::GMMA::Major::K> {};
W4AX_OP(80)
W4AX_OP(128)
#undef W4AX_OP

template <bool kQuantized, int kTokens, class TensorC, class TensorA, int... kAt>
W4AX_DEVICE void multiply_each(TensorC& rC, TensorA const& rA, uint64_t b, std::integer_sequence<int, kAt...>) {
    Op<kQuantized, kTokens>::fma(rA(0), rA(1), rA(2), rA(3), b, rC(kAt)..., cute::SM90::GMMA::ScaleOut::One);
}

// rC += A * B, A: 4 registers a lane as for mma.m16n8, C: 4 for each 8 tokens, likewise. Runs on: see begin, commit, wait.
template <bool kQuantized, int kTokens, class TensorC, class TensorA>
W4AX_DEVICE void multiply(TensorC& rC, TensorA const& rA, uint64_t b) {  // (4 * kTokens / 8) (4)
    multiply_each<kQuantized, kTokens>(rC, rA, b, std::make_integer_sequence<int, kTokens / 2>{});
}

#else

inline void init_barrier(uint64_t* barrier, int arrivals) { w4ax_emulate::barrier_init(barrier, arrivals); }
inline void publish_barriers() { w4ax_emulate::barrier_publish(); }
inline void arrive(uint64_t* barrier) { w4ax_emulate::barrier_arrive(barrier, 0); }
inline void arrive_and_expect(uint64_t* barrier, int bytes) { w4ax_emulate::barrier_arrive(barrier, bytes); }
inline void wait(uint64_t* barrier, int parity) { w4ax_emulate::barrier_wait(barrier, parity); }
inline void copy_bulk(void* sTo, void const* gFrom, int bytes, uint64_t* barrier) {
    w4ax_emulate::bulk_copy(sTo, gFrom, bytes, barrier);
}
inline void copy_box(void* sTo, TensorMap const& map, int k, int row, uint64_t* barrier) {
    w4ax_emulate::box_copy(sTo, &map, k, row, barrier);
}
inline uint64_t describe(void const* sB, int k_stride, int token_stride, Order order) {
    return w4ax_emulate::describe_matrix(sB, k_stride, token_stride, order == Order::Swizzled);
}
inline uint64_t advance(uint64_t descriptor, int bytes) { return descriptor + uint64_t(bytes >> 4); }
template <int kRegisters>
void give_registers() {}
template <int kRegisters>
void take_registers() {}
template <int kThreads>
void sync_threads(char const* file = __builtin_FILE(), int line = __builtin_LINE()) {
    w4ax_emulate::barrier_sync(8, kThreads, file, line);
}
template <class TensorC, class TensorA>
void begin_mma(TensorC&, TensorA&) {
    w4ax_emulate::warpgroup_begin();
}
inline void commit_mma() { w4ax_emulate::warpgroup_commit(); }
template <class TensorC>
void wait_for_mma(TensorC&) {
    w4ax_emulate::warpgroup_wait();
}
template <bool kQuantized, int kTokens, class TensorC, class TensorA>
void multiply(TensorC& rC, TensorA const& rA, uint64_t b) {  // (4 * kTokens / 8) (4)
    w4ax_emulate::warpgroup_mma(&rA(0), &rC(0), b, kTokens, !kQuantized);
}

#endif

}  // namespace w4ax::sm90
