// The only file with raw PTX: what CuTe and CUDA's intrinsics lack. Under the emulator each function is declared here and
// implemented there.
#pragma once

#include "common/device.cuh"

namespace w4ax::ptx {

#ifdef W4AX_EMULATE

uint4 load_once(uint4 const* global);
uint64_t read_once_policy();
uint32_t flip_nibbles(uint32_t a, uint32_t flip);
uint32_t pack_bytes(int a, int b, int c, int d);
void wait_for_previous_grid();
void let_next_grid_start();
uint64_t load_acquire_system(uint64_t const* word);
void store_release_system(uint64_t* word, uint64_t value);
uint64_t nanoseconds();
void pause();
void set_graph_conditional(uint64_t handle, uint32_t value);

inline void load_once_if(bool there, uint4 const* global, uint64_t, uint4& v) {
    if (there) v = load_once(global);
}

#else

// First to leave L2. Made once: with each load it would be some six instructions.
W4AX_DEVICE uint64_t read_once_policy() {
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

// 16 bytes that nobody reads again: around L1. Where `there` is false v stays as it is. The condition is the instruction's own
// predicate: a branch around it lets the compiler copy the result after it, and so wait for it.
W4AX_DEVICE void load_once_if(bool there, uint4 const* global, uint64_t policy, uint4& v) {
    asm("{\n"
        ".reg .pred p;\n"
        "setp.ne.b32 p, %5, 0;\n"
        "@p ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %6;\n"
        "}"
        : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w)
        : "l"(global), "r"(int(there)), "l"(policy));
}

// Each saturated to 0..255; a in the lowest byte.
W4AX_DEVICE uint32_t pack_bytes(int a, int b, int c, int d) {
    uint32_t bytes;
    asm("cvt.pack.sat.u8.s32.b32 %0, %2, %1, 0;" : "=r"(bytes) : "r"(c), "r"(d));
    asm("cvt.pack.sat.u8.s32.b32 %0, %2, %1, %0;" : "+r"(bytes) : "r"(a), "r"(b));
    return bytes;
}

// (a & 0x000F000F) ^ flip in one instruction. lop3 takes one immediate only, and given two constants nvcc makes two
// instructions of it: here `flip` comes in a register.
W4AX_DEVICE uint32_t flip_nibbles(uint32_t a, uint32_t flip) {
    uint32_t d;
    asm("lop3.b32 %0, %1, 0x000F000F, %2, 0x6A;" : "=r"(d) : "r"(a), "r"(flip));
    return d;
}

// Programmatic dependent launch. Until the wait returns, the launch before this one may still run: only weights, which no
// launch writes, may be read. Every thread of every block executes the wait before it exits: a later launch takes this
// grid's end to mean that the grids before it have ended as well. No effect without the launch attribute.
W4AX_DEVICE void wait_for_previous_grid() {
#if W4AX_ARCH >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

W4AX_DEVICE void let_next_grid_start() {
#if W4AX_ARCH >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Words that the host stores and loads while the kernel runs: whole, and ordered with what the other side wrote before.
W4AX_DEVICE uint64_t load_acquire_system(uint64_t const* word) {
    uint64_t value;
    asm volatile("ld.acquire.sys.b64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
    return value;
}
W4AX_DEVICE void store_release_system(uint64_t* word, uint64_t value) {
    asm volatile("st.release.sys.b64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
}

// A clock that all multiprocessors share. It may tick in steps of a microsecond.
W4AX_DEVICE uint64_t nanoseconds() {
    uint64_t now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)::"memory");
    return now;
}

// Between two looks at a word: leaves the bus to others for a while.
W4AX_DEVICE void pause() { asm volatile("nanosleep.u32 100;"); }

// The driver's own function behind cudaGraphSetConditional.
W4AX_DEVICE void set_graph_conditional(uint64_t handle, uint32_t value) {
    cudaGraphSetConditional(static_cast<cudaGraphConditionalHandle>(handle), value);
}

#endif

}  // namespace w4ax::ptx
