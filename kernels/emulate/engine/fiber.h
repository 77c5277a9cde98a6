// A stack of its own and the switch to it; the sanitizers are told of each switch.
#pragma once

#include <cstddef>

namespace w4ax_emulate {

class Fiber {
 public:
  /// The fiber of the code that is running already (the host's).
  Fiber() = default;
  Fiber(Fiber const&) = delete;
  Fiber& operator=(Fiber const&) = delete;
  ~Fiber();

  /// Makes a stack; `entry` starts on it at the first switch and must never return.
  void create(void (*entry)(), char const* name);
  bool created() const { return stack_ != nullptr; }

  /// Forgets what runs on the stack, without unwinding it; the next switch starts `entry` afresh.
  void restart();

  /// Leaves the running fiber `from` for this one.
  void enter_from(Fiber& from);

  /// The first thing that `entry` has to call.
  static void entered();

  /// Adopts the caller's thread: the host may call from another thread each time.
  void adopt_host();

  /// Frame pointer of a fiber that is not running, to walk its stack; null where it is not known.
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
  // For the sanitizers; unused in a plain build.
  [[maybe_unused]] void* asan_fake_stack_ = nullptr;
  [[maybe_unused]] void const* asan_host_bottom_ = nullptr;
  [[maybe_unused]] std::size_t asan_host_bytes_ = 0;
  [[maybe_unused]] void* tsan_fiber_ = nullptr;
};

}  // namespace w4ax_emulate
