// A stack and the switch to it. Each switch is reported to the sanitizers.
#pragma once

#include <cstddef>

namespace w4ax_emulate {

class Fiber {
public:
    /// The fiber of the code that already runs: the host's.
    Fiber() = default;
    Fiber(Fiber const&) = delete;
    Fiber& operator=(Fiber const&) = delete;
    ~Fiber();

    /// Allocates a stack. `entry` starts on it at the first switch and must never return.
    void create(void (*entry)(), char const* name);
    bool created() const { return stack_ != nullptr; }

    /// Abandons what runs on the stack without unwinding it. The next switch starts `entry` again.
    void restart();

    /// Switches from the running fiber `from` to this one.
    void enter_from(Fiber& from);

    /// `entry` must call this first.
    static void entered();

    /// Makes this the caller's fiber: the host may call from a different thread each time.
    void adopt_host();

    /// Frame pointer of a fiber that is not running, to walk its stack. Null if unknown.
    void** frame() const;
    char const* stack_begin() const { return stack_; }
    char const* stack_end() const { return stack_ + stack_bytes; }

    static constexpr std::size_t stack_bytes = 256 << 10;

private:
    void prepare();

    void* stack_pointer_ = nullptr;  // or, with ucontext, the context
    char* stack_ = nullptr;
    void (*entry_)() = nullptr;
    char const* name_ = nullptr;
    // For the sanitizers, unused in a plain build.
    [[maybe_unused]] void* asan_fake_stack_ = nullptr;
    [[maybe_unused]] void const* asan_host_bottom_ = nullptr;
    [[maybe_unused]] std::size_t asan_host_bytes_ = 0;
    [[maybe_unused]] void* tsan_fiber_ = nullptr;
};

}  // namespace w4ax_emulate
