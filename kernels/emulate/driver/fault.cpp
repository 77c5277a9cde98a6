// An access of a kernel to memory that traps ends the process, as the sanitizers do. This names the memory first.
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

#include "driver.h"
#include "fault.h"

extern "C" {
__attribute__((weak)) void __asan_init();
__attribute__((weak)) void __tsan_init();
}

namespace w4ax_driver {

namespace {

struct sigaction previous;

void on_fault(int signal, siginfo_t* info, void* machine) {
    // Without the lock: the process ends anyway.
    auto const address = reinterpret_cast<std::uint64_t>(info->si_addr);
    auto const near = driver().memory.upper_bound(address + 4096);
    if (near != driver().memory.begin()) {
        Allocation const& memory = *std::prev(near)->second;
        constexpr std::uint64_t guard = 4096;
        if (address + guard >= memory.mapped && address < memory.mapped + memory.mapped_bytes + guard) {
            char const* const state = memory.state == Allocation::State::freed      ? "freed "
                                      : memory.state == Allocation::State::reserved ? "not yet allocated "
                                                                                    : "";
            char text[256];
            int const count = std::snprintf(
                text, sizeof text,
                "The software CUDA driver: an access at %#llx, %+lld bytes from the beginning of %s"
                "memory of %llu bytes of %s\n",
                static_cast<unsigned long long>(address), static_cast<long long>(address - memory.base), state,
                static_cast<unsigned long long>(memory.bytes), memory.origin.c_str());
            if (write(2, text, std::size_t(count)) < 0) _exit(128 + SIGSEGV);
        }
    }
    // TSan's handler, and its sigaction, wait for ever if the access was an atomic one.
    if (__tsan_init) syscall(SYS_exit_group, 128 + SIGSEGV);
    if ((previous.sa_flags & SA_SIGINFO) && previous.sa_sigaction) {
        previous.sa_sigaction(signal, info, machine);
        return;
    }
    struct sigaction plain = {};
    plain.sa_handler = SIG_DFL;
    sigaction(signal, &plain, nullptr);  // the access is repeated, and ends the process
}

}  // namespace

void describe_faults() {
    static bool installed = false;
    if (installed || __asan_init) return;  // ASan reports the access itself
    installed = true;
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, &previous);
}

}  // namespace w4ax_driver
