// The tests of the software driver. Each case runs in a process of its own, with its own W4AX_DEVICE_PLAY.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "../kernel_interface.h"

namespace test {

/// The drivers that a case runs with: every one; one that is not instrumented; the same, in the thread variant only.
enum class Only { all, unchecked, unchecked_thread };

struct Case {
    char const* name;
    char const* play;
    void (*body)();
    int exit_code;     // of its process
    char const* text;  // that its standard error holds; null: anything
    Only only;
};
std::vector<Case>& cases();

struct Register {
    Register(char const* name, void (*body)(), char const* play, int exit_code = 0, char const* text = nullptr,
             Only only = Only::all) {
        cases().push_back({name, play, body, exit_code, text, only});
    }
};
/// TEST(name, play[, exit code[, text[, only]]]) { ... }
#define TEST(name, ...)                                                      \
    static void name();                                                      \
    static test::Register const registered_##name(#name, name, __VA_ARGS__); \
    static void name()

extern int failures;
void expect_at(char const* file, int line, bool condition, std::string const& what);
#define EXPECT(condition) test::expect_at(__FILE__, __LINE__, (condition), #condition)
std::string describe(CUresult got, CUresult expected, char const* what);
#define RETURNS(expected, call)                                                                         \
    do {                                                                                                \
        CUresult const got_ = (call);                                                                   \
        test::expect_at(__FILE__, __LINE__, got_ == (expected), test::describe(got_, expected, #call)); \
    } while (false)
#define OK(call) RETURNS(CUDA_SUCCESS, call)
/// The call is refused with a result and a text that holds `part`.
#define REFUSED(expected, part, call)                                                            \
    do {                                                                                         \
        RETURNS(expected, call);                                                                 \
        test::expect_at(__FILE__, __LINE__, test::refused_with(part), test::refusal_text(part)); \
    } while (false)
bool refused_with(char const* part);
std::string refusal_text(char const* part);

// ---- The kernels

struct AddParams {
    std::uint32_t* values;
    std::uint64_t count;
    std::uint32_t add;
};
struct PollParams {
    std::uint32_t volatile* flag;
    std::uint32_t* out;
};
struct SetParams {
    CUgraphConditionalHandle handle;
    std::uint32_t const* value;
    int* result;  // host memory: what the driver returned
};
extern char const add_key, poll_key, set_key, fail_key, big_key, other_key, slow_key, raise_key;
/// The order in which kernels ran: each `add` kernel appends its `add`.
std::vector<std::uint32_t>& order();
extern w4ax_grid last_grid;
void register_kernels();

// ---- Set-up

/// The primary context of a device, current.
struct Device {
    explicit Device(int ordinal = 0);
    ~Device();
    CUcontext context;
    int ordinal;
};
CUstream make_stream(unsigned flags = CU_STREAM_NON_BLOCKING);
CUfunction function(char const& key);
CUdeviceptr zeros(std::size_t words);
std::uint32_t read(CUdeviceptr at, CUstream stream = nullptr);
CUresult launch_add(CUstream stream, CUdeviceptr at, std::uint64_t count, std::uint32_t add, bool programmatic = false);
CUresult launch(CUstream stream, char const& key, void* parameter, unsigned shared = 0);
void expect_clean();  // nothing is reported

}  // namespace test
