#include "play.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <sys/syscall.h>
#include <unistd.h>

namespace w4ax_driver {

namespace {

[[noreturn]] void malformed(std::string const& setting, char const* expected) {
    std::fprintf(stderr, "W4AX_DEVICE_PLAY: unknown setting \"%s\": expected %s\n", setting.c_str(), expected);
    std::fflush(stderr);
    syscall(SYS_exit_group, 87);  // TSan would object to _exit within a call
    std::abort();
}

std::uint64_t number(std::string const& setting, std::string const& text) {
    char* end = nullptr;
    errno = 0;
    unsigned long long const value = std::strtoull(text.c_str(), &end, 10);
    if (text.empty() || *end || errno || text[0] == '-') malformed(setting, "a number");
    return value;
}

Play::Fail parse_fail(std::string const& setting, std::string const& value) {
    std::size_t const first = value.find(':');
    if (first == std::string::npos || first == 0) malformed(setting, "fail=FUNCTION:N or fail=FUNCTION:N:RESULT");
    std::size_t const second = value.find(':', first + 1);
    Play::Fail fail;
    fail.function = value.substr(0, first);
    if (fail.function != "launch" && !is_exported(fail.function)) malformed(setting, "an exported function or launch");
    fail.call = number(setting, value.substr(first + 1, second == std::string::npos ? second : second - first - 1));
    if (fail.call == 0) malformed(setting, "calls that are counted from 1");
    bool const allocates = fail.function.find("Alloc") != std::string::npos;
    fail.result = fail.function == "launch" ? CUDA_ERROR_LAUNCH_FAILED
                  : allocates               ? CUDA_ERROR_OUT_OF_MEMORY
                                            : CUDA_ERROR_UNKNOWN;
    if (second != std::string::npos && !error_of_name(value.substr(second + 1), fail.result)) {
        malformed(setting, "the name of a CUresult");
    }
    return fail;
}

Play parse() {
    Play play;
    char const* text = std::getenv("W4AX_DEVICE_PLAY");
    std::string const all = text ? text : "";
    for (std::size_t at = 0; at < all.size();) {
        std::size_t end = all.find(',', at);
        if (end == std::string::npos) end = all.size();
        std::string const setting = all.substr(at, end - at);
        at = end + 1;
        if (setting.empty()) continue;
        std::size_t const equals = setting.find('=');
        std::string const key = setting.substr(0, equals);
        std::string const value = equals == std::string::npos ? "" : setting.substr(equals + 1);
        if (key == "fail") {
            play.fails.push_back(parse_fail(setting, value));
            continue;
        }
        std::uint64_t const n = number(setting, value);
        if (key == "arch") {
            bool known = false;
            for (int arch : {80, 86, 87, 89, 90, 100, 120}) known |= n == std::uint64_t(arch);
            if (!known) malformed(setting, "arch=80, 86, 87, 89, 90, 100 or 120");
            play.arch = int(n);
        } else if (key == "devices") {
            if (n > 16) malformed(setting, "at most 16 devices");
            play.devices = int(n);
        } else if (key == "driver") {
            if (n < 11000 || n > 20000) malformed(setting, "a version such as 12030");
            play.driver = int(n);
        } else if (key == "seed") {
            play.seed = n;
        } else if (key == "memory") {
            play.memory_bytes = n << 20;
        } else if (key == "sms") {
            if (n < 1 || n > 1024) malformed(setting, "1 to 1024 multiprocessors");
            play.multiprocessors = int(n);
        } else {
            malformed(setting, "arch, devices, driver, fail, seed, memory or sms");
        }
    }
    return play;
}

}  // namespace

Play const& play() {
    static Play const* const parsed = new Play(parse());
    return *parsed;
}

Play::Fail const* injected(std::string const& function, std::uint64_t call) {
    for (auto const& fail : play().fails) {
        if (fail.function == function && fail.call == call) return &fail;
    }
    return nullptr;
}

}  // namespace w4ax_driver
