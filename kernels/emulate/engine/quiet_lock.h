// A lock that the sanitizers do not see. The emulator runs one grid at a time, also those of different streams: a lock
// that TSan knows would order them, and hide that a program does not. Only files that are not instrumented may use it.
#pragma once

#include <atomic>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace w4ax_emulate {

class QuietLock {
public:
    void lock() {
        // 0: free, 1: held, 2: held and waited for.
        int expected = 0;
        if (state_.compare_exchange_strong(expected, 1)) return;
        while (state_.exchange(2) != 0) syscall(SYS_futex, &state_, FUTEX_WAIT_PRIVATE, 2, nullptr, nullptr, 0);
    }
    void unlock() {
        if (state_.exchange(0) == 2) syscall(SYS_futex, &state_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
    }

private:
    std::atomic<int> state_{0};
};

}  // namespace w4ax_emulate
