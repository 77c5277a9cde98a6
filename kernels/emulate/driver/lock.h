// The lock of the driver, and its orders for ThreadSanitizer.
//
// One lock protects all of the driver's state. It must not hide races of the program: the driver is compiled without
// instrumentation, its lock is invisible to TSan, and `release` and `acquire` state the orders that CUDA guarantees.
// With W4AX_DRIVER_CHECK_ITSELF the driver is instrumented and its lock is visible: TSan then checks the driver.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace w4ax_driver {

class Lock {
public:
    Lock();
    ~Lock();
    Lock(Lock const&) = delete;
    Lock& operator=(Lock const&) = delete;
    /// Waits until `condition`, which changes under the lock, holds.
    template <class Condition>
    void wait(Condition condition) {
        while (!condition()) wait_once();
    }
    void unlock();
    void lock();

private:
    void wait_once();
    std::unique_lock<std::mutex> held_;
};

/// Wakes every thread that waits for a change.
void notify_change();

/// What happens before `release(clock)` happens before what follows `acquire(clock)`. Callable with and without the
/// lock.
void release(void* clock);
void acquire(void* clock);

/// Attributes an access to the current thread: TSan and ASan check it as if the program had made it.
void touch(void const* at, std::size_t bytes, bool writes);

void poison(void const* at, std::size_t bytes);
void unpoison(void const* at, std::size_t bytes);

}  // namespace w4ax_driver
