#include "lock.h"

#ifndef W4AX_DRIVER_CHECK_ITSELF
// The sanitizers' functions, if the program is built with one of them.
extern "C" {
__attribute__((weak)) void AnnotateIgnoreSyncBegin(char const*, int);
__attribute__((weak)) void AnnotateIgnoreSyncEnd(char const*, int);
__attribute__((weak)) void AnnotateIgnoreReadsBegin(char const*, int);
__attribute__((weak)) void AnnotateIgnoreReadsEnd(char const*, int);
__attribute__((weak)) void AnnotateIgnoreWritesBegin(char const*, int);
__attribute__((weak)) void AnnotateIgnoreWritesEnd(char const*, int);
__attribute__((weak)) void __tsan_release(void*);
__attribute__((weak)) void __tsan_acquire(void*);
__attribute__((weak)) void __tsan_read_range(void const*, std::size_t);
__attribute__((weak)) void __tsan_write_range(void*, std::size_t);
__attribute__((weak)) void __asan_poison_memory_region(void const volatile*, std::size_t);
__attribute__((weak)) void __asan_unpoison_memory_region(void const volatile*, std::size_t);
__attribute__((weak)) void* __asan_region_is_poisoned(void*, std::size_t);
__attribute__((weak)) void __asan_loadN(void const*, std::size_t);
__attribute__((weak)) void __asan_storeN(void const*, std::size_t);
}
#endif

namespace w4ax_driver {

namespace {

// Never destroyed: the threads of streams outlive static destructors.
std::mutex& mutex() {
    static auto* const only = new std::mutex;
    return *only;
}
std::condition_variable& changed() {
    static auto* const only = new std::condition_variable;
    return *only;
}

thread_local int hidden = 0;  // whether this thread's lock, and what it does under it, is hidden from TSan

#ifdef W4AX_DRIVER_CHECK_ITSELF
void hide() { ++hidden; }
void reveal() { --hidden; }
#else
void hide() {
    if (hidden++ || !AnnotateIgnoreSyncBegin) return;
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
void reveal() {
    if (--hidden || !AnnotateIgnoreSyncBegin) return;
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
}
#endif

/// Reveals the thread to TSan for one statement under the lock.
class Revealed {
public:
    Revealed() : depth_(hidden) {
        for (int i = 0; i < depth_; ++i) reveal();
    }
    ~Revealed() {
        for (int i = 0; i < depth_; ++i) hide();
    }
    Revealed(Revealed const&) = delete;

private:
    int depth_;
};

}  // namespace

Lock::Lock() {
    hide();
    held_ = std::unique_lock<std::mutex>(mutex());
}
Lock::~Lock() {
    if (held_.owns_lock()) {
        held_.unlock();
        reveal();
    }
}
void Lock::unlock() {
    held_.unlock();
    reveal();
}
void Lock::lock() {
    hide();
    held_.lock();
}
void Lock::wait_once() { changed().wait(held_); }

void notify_change() { changed().notify_all(); }

#ifdef W4AX_DRIVER_CHECK_ITSELF

// The lock orders everything.
void release(void*) {}
void acquire(void*) {}
void touch(void const*, std::size_t, bool) {}
void poison(void const*, std::size_t) {}
void unpoison(void const*, std::size_t) {}

#else

void release(void* clock) {
    if (!__tsan_release) return;
    Revealed const revealed;
    __tsan_release(clock);
}
void acquire(void* clock) {
    if (!__tsan_acquire) return;
    Revealed const revealed;
    __tsan_acquire(clock);
}
void touch(void const* at, std::size_t bytes, bool writes) {
    if (__asan_region_is_poisoned && __asan_region_is_poisoned(const_cast<void*>(at), bytes)) {
        // Reports the access and ends the process.
        if (writes)
            __asan_storeN(at, bytes);
        else
            __asan_loadN(at, bytes);
    }
    if (!__tsan_read_range) return;
    Revealed const revealed;
    if (writes)
        __tsan_write_range(const_cast<void*>(at), bytes);
    else
        __tsan_read_range(at, bytes);
}
void poison(void const* at, std::size_t bytes) {
    if (__asan_poison_memory_region) __asan_poison_memory_region(at, bytes);
}
void unpoison(void const* at, std::size_t bytes) {
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(at, bytes);
}

#endif

}  // namespace w4ax_driver
