// Runs the cases, each in a process of its own:  driver-tests-VARIANT [NAME...]
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "test.h"

namespace test {

int failures = 0;

std::vector<Case>& cases() {
    static std::vector<Case> all;
    return all;
}
void expect_at(char const* file, int line, bool condition, std::string const& what) {
    if (condition) return;
    char const* const slash = std::strrchr(file, '/');
    std::fprintf(stderr, "FAILED %s:%d: %s\n", slash ? slash + 1 : file, line, what.c_str());
    ++failures;
}

}  // namespace test

namespace {

bool is_thread_variant() {
#ifdef W4AX_EMULATE_TSAN
    return true;
#else
    return false;
#endif
}

std::string shell_output(std::string const& command, int& code) {
    std::string text;
    FILE* const pipe = popen((command + " 2>&1").c_str(), "r");
    if (!pipe) return "popen failed";
    char buffer[4096];
    while (std::size_t const got = std::fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, got);
    int const status = pclose(pipe);
    code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return text;
}

/// Runs one case in its own process. Returns whether it did as expected.
bool run(test::Case const& one, std::string const& program) {
    setenv("W4AX_DEVICE_PLAY", one.play, 1);
    int code = 0;
    std::string const text = shell_output("timeout 60 " + program + " --case " + one.name, code);
    bool const found = !one.text || text.find(one.text) != std::string::npos;
    if (code == one.exit_code && found) return true;
    std::printf("FAILED %s (play \"%s\"): exit code %d, expected %d%s%s\n%s\n", one.name, one.play, code, one.exit_code,
                one.text ? " and the text " : "", one.text ? one.text : "", text.c_str());
    return false;
}

}  // namespace

int main(int count, char** arguments) {
    if (count == 3 && std::strcmp(arguments[1], "--case") == 0) {
        for (auto const& one : test::cases()) {
            if (std::strcmp(one.name, arguments[2]) != 0) continue;
            test::register_kernels();
            one.body();
            return test::failures ? 1 : 0;
        }
        return 2;
    }
    // The checked driver orders everything by its lock, so that it hides the races of the program.
    bool const checked = std::getenv("W4AX_DRIVER_CHECKED") != nullptr;
    int ran = 0, failed = 0;
    for (auto const& one : test::cases()) {
        bool selected = count == 1;
        for (int i = 1; i < count; ++i) selected |= std::strcmp(arguments[i], one.name) == 0;
        if (!selected || (one.only != test::Only::all && checked)) continue;
        if (one.only == test::Only::unchecked_thread && !is_thread_variant()) continue;
        ++ran;
        failed += !run(one, arguments[0]);
    }
    std::printf("driver: %d cases, %d failed\n", ran, failed);
    return failed != 0 || ran == 0;
}
