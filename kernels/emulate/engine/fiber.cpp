#include "emulate/engine/fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <pthread.h>
#include <sys/mman.h>

#include "emulate/engine/sanitizers.h"

#if !defined(__x86_64__) && !defined(W4AX_EMULATE_UCONTEXT)
#define W4AX_EMULATE_UCONTEXT  // slower (one system call per switch), but portable
#endif
#ifdef W4AX_EMULATE_UCONTEXT
#include <ucontext.h>
#else
// void emulate_switch(void** save, void* to): pushes the callee-saved registers on the old stack, pops those of the
// new one.
extern "C" void emulate_switch(void** save, void* to);
asm(R"(
.text
.globl emulate_switch
.hidden emulate_switch
.type emulate_switch,@function
emulate_switch:
  push %rbx; push %r12; push %r13; push %r14; push %r15; push %rbp
  mov %rsp,(%rdi)
  mov %rsi,%rsp
  pop %rbp; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx
  ret
.size emulate_switch,.-emulate_switch
)");
#endif

namespace w4ax_emulate {

namespace {
constexpr std::size_t guard_bytes = 4096;
}

Fiber::~Fiber() {
    if (!stack_) return;
#ifdef W4AX_EMULATE_TSAN
    if (tsan_fiber_) __tsan_destroy_fiber(tsan_fiber_);
#endif
#ifdef W4AX_EMULATE_UCONTEXT
    delete static_cast<ucontext_t*>(stack_pointer_);
#endif
    munmap(stack_ - guard_bytes, stack_bytes + guard_bytes);
}

void Fiber::create(void (*entry)(), char const* name) {
    void* map = mmap(nullptr, stack_bytes + guard_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        std::perror("emulator: cannot allocate a thread's stack");
        std::abort();
    }
    mprotect(map, guard_bytes, PROT_NONE);  // an overflow faults instead of writing to another stack
    stack_ = static_cast<char*>(map) + guard_bytes;
    entry_ = entry;
    name_ = name;
    prepare();
}

void Fiber::restart() {
    unpoison(stack_, stack_bytes);  // the abandoned frames left their red zones
    asan_fake_stack_ = nullptr;
#ifdef W4AX_EMULATE_UCONTEXT
    delete static_cast<ucontext_t*>(stack_pointer_);
#endif
#ifdef W4AX_EMULATE_TSAN
    __tsan_destroy_fiber(tsan_fiber_);  // its shadow call stack still has the abandoned frames
#endif
    prepare();
}

void Fiber::prepare() {
#ifdef W4AX_EMULATE_UCONTEXT
    auto* context = new ucontext_t;
    getcontext(context);
    context->uc_stack.ss_sp = stack_;
    context->uc_stack.ss_size = stack_bytes;
    context->uc_link = nullptr;
    makecontext(context, entry_, 0);
    stack_pointer_ = context;
#else
    void** top = reinterpret_cast<void**>(stack_ + stack_bytes);
    *--top = nullptr;  // entry's return address: ends a stack walk, and aligns the stack as after a call
    *--top = reinterpret_cast<void*>(entry_);
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    stack_pointer_ = top;
#endif
#ifdef W4AX_EMULATE_TSAN
    tsan_fiber_ = __tsan_create_fiber(0);
    __tsan_set_fiber_name(tsan_fiber_, name_);
#endif
}

void Fiber::adopt_host() {
#ifdef W4AX_EMULATE_TSAN
    tsan_fiber_ = __tsan_get_current_fiber();
#endif
#ifdef W4AX_EMULATE_ASAN
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    void* bottom = nullptr;
    pthread_attr_getstack(&attributes, &bottom, &asan_host_bytes_);
    pthread_attr_destroy(&attributes);
    asan_host_bottom_ = bottom;
#endif
#ifdef W4AX_EMULATE_UCONTEXT
    if (!stack_pointer_) stack_pointer_ = new ucontext_t;
#endif
}

void Fiber::entered() {
#ifdef W4AX_EMULATE_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void Fiber::enter_from(Fiber& from) {
#ifdef W4AX_EMULATE_ASAN
    __sanitizer_start_switch_fiber(&from.asan_fake_stack_, stack_ ? stack_ : asan_host_bottom_,
                                   stack_ ? stack_bytes : asan_host_bytes_);
#endif
#ifdef W4AX_EMULATE_TSAN
    // No synchronization: barriers order accesses, switches do not. So a race is found in any schedule.
    __tsan_switch_to_fiber(tsan_fiber_, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef W4AX_EMULATE_UCONTEXT
    swapcontext(static_cast<ucontext_t*>(from.stack_pointer_), static_cast<ucontext_t*>(stack_pointer_));
#else
    emulate_switch(&from.stack_pointer_, stack_pointer_);
#endif
#ifdef W4AX_EMULATE_ASAN
    __sanitizer_finish_switch_fiber(from.asan_fake_stack_, nullptr, nullptr);
#endif
}

void** Fiber::frame() const {
#ifdef W4AX_EMULATE_UCONTEXT
    return nullptr;
#else
    return stack_pointer_ ? *static_cast<void***>(stack_pointer_) : nullptr;  // rbp was pushed last
#endif
}

}  // namespace w4ax_emulate
