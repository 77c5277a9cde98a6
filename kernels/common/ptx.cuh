// The only file with PTX: instructions that neither CuTe nor CUDA's intrinsics provide. kernels/emulate/ptx.h
// implements the same functions for the emulator. Section names refer to the PTX ISA:
// https://docs.nvidia.com/cuda/parallel-thread-execution/
#pragma once

#include "common/device.cuh"

namespace w4ax::ptx {

#ifdef W4AX_EMULATE

uint4 global_load(uint4 const* global);
uint64_t evict_first_policy();
uint32_t flip_nibbles(uint32_t a, uint32_t flip);
uint32_t flip_byte_nibbles(uint32_t a, uint32_t flip);
uint32_t pack_u8x4(int a, int b, int c, int d);
void wait_on_dependent_grids();
void launch_dependent_grids();
uint64_t load_acquire_sys(uint64_t const* word);
void store_release_sys(uint64_t* word, uint64_t value);
uint64_t nanoseconds();
void nanosleep();
void set_graph_conditional(uint64_t handle, uint32_t value);

inline void load_once_if(bool in_bounds, uint4 const* global, uint64_t, uint4& v) {
    if (in_bounds) v = global_load(global);
}
template <class Vector>
void load_if(bool in_bounds, Vector const* global, Vector& v) {
    if (in_bounds) v = *global;
}

#else

// Returns an L2 policy that evicts the loaded lines first (section createpolicy). A kernel creates it once: the
// compiler would spend about six instructions per load on it otherwise.
W4AX_DEVICE uint64_t evict_first_policy() {
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

// Prefetches to registers. If `in_bounds` is false, v keeps its value. The condition is the instruction's own
// predicate. A branch around the load would let the compiler copy the result right after it, and so wait for it.
//
// A load is issued where the source has it, before any wait for the previous launch and before the multiplications that
// follow: the assembly is volatile and clobbers memory. It is not a load of read-only data (section ld.global.nc):
// ptxas moves those behind a wait in spite of both.

// Loads 16 bytes that no thread reads again: they bypass L1 (section ld).
W4AX_DEVICE void load_once_if(bool in_bounds, uint4 const* global, uint64_t policy, uint4& v) {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "setp.ne.b32 p, %5, 0;\n"
        "@p ld.global.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %6;\n"
        "}"
        : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w)
        : "l"(global), "r"(int(in_bounds)), "l"(policy)
        : "memory");
}

// Loads 16 or 8 bytes that other warps may read too.
W4AX_DEVICE void load_if(bool in_bounds, uint4 const* global, uint4& v) {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "setp.ne.b32 p, %5, 0;\n"
        "@p ld.global.v4.u32 {%0, %1, %2, %3}, [%4];\n"
        "}"
        : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w)
        : "l"(global), "r"(int(in_bounds))
        : "memory");
}
W4AX_DEVICE void load_if(bool in_bounds, uint2 const* global, uint2& v) {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "setp.ne.b32 p, %3, 0;\n"
        "@p ld.global.v2.u32 {%0, %1}, [%2];\n"
        "}"
        : "+r"(v.x), "+r"(v.y)
        : "l"(global), "r"(int(in_bounds))
        : "memory");
}

// Packs four integers into bytes, each saturated to 0..255; a is the lowest byte (section cvt.pack).
W4AX_DEVICE uint32_t pack_u8x4(int a, int b, int c, int d) {
    uint32_t bytes;
    asm("cvt.pack.sat.u8.s32.b32 %0, %2, %1, 0;" : "=r"(bytes) : "r"(c), "r"(d));
    asm("cvt.pack.sat.u8.s32.b32 %0, %2, %1, %0;" : "+r"(bytes) : "r"(a), "r"(b));
    return bytes;
}

// Returns (a & 0x000F000F) ^ flip in one instruction (section lop3). lop3 takes one immediate only. nvcc splits an
// expression with two constants into two instructions, so `flip` is passed in a register.
W4AX_DEVICE uint32_t flip_nibbles(uint32_t a, uint32_t flip) {
    uint32_t d;
    asm("lop3.b32 %0, %1, 0x000F000F, %2, 0x6A;" : "=r"(d) : "r"(a), "r"(flip));
    return d;
}

// Likewise (a & 0x0F0F0F0F) ^ flip.
W4AX_DEVICE uint32_t flip_byte_nibbles(uint32_t a, uint32_t flip) {
    uint32_t d;
    asm("lop3.b32 %0, %1, 0x0F0F0F0F, %2, 0x6A;" : "=r"(d) : "r"(a), "r"(flip));
    return d;
}

// Programmatic dependent launch (section griddepcontrol). Until this wait returns, the launch before this one may still
// run, so only weights, which no launch writes, may be read. Every thread of every block waits before it exits: a later
// launch takes the end of this grid to mean that the grids before it have ended as well. Without the launch attribute
// the instruction has no effect.
W4AX_DEVICE void wait_on_dependent_grids() {
#if W4AX_ARCH >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

W4AX_DEVICE void launch_dependent_grids() {
#if W4AX_ARCH >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Accesses to words that the host loads and stores while the kernel runs (section Memory Consistency Model): a word is
// transferred as a whole, and it is ordered after what the other side wrote before it.
W4AX_DEVICE uint64_t load_acquire_sys(uint64_t const* word) {
    uint64_t value;
    asm volatile("ld.acquire.sys.b64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
    return value;
}
W4AX_DEVICE void store_release_sys(uint64_t* word, uint64_t value) {
    asm volatile("st.release.sys.b64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
}

// Returns a clock that all multiprocessors share, in nanoseconds. It may advance in steps of a microsecond.
W4AX_DEVICE uint64_t nanoseconds() {
    uint64_t now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)::"memory");
    return now;
}

// Suspends the thread between two polls of a word, which leaves the bus to other traffic.
W4AX_DEVICE void nanosleep() { asm volatile("nanosleep.u32 100;"); }

// Sets a conditional node's value through the driver's device function.
W4AX_DEVICE void set_graph_conditional(uint64_t handle, uint32_t value) {
    cudaGraphSetConditional(static_cast<cudaGraphConditionalHandle>(handle), value);
}

#endif

}  // namespace w4ax::ptx
