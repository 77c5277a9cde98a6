// What the driver plays, by the environment variable W4AX_DEVICE_PLAY: settings separated by commas.
//
//   arch=80|86|87|89|90|100|120   the compute capability of the devices (default 80)
//   devices=N                     their number (default 1; 0: a driver without a device)
//   driver=12030                  the CUDA version of the driver (default 13000). Newer functions do not exist:
//                                 cuGetProcAddress does not find them, and a call returns CUDA_ERROR_NOT_FOUND.
//                                 Conditional nodes exist from 12040 on, SWITCH and ELSE from 12080 on.
//   fail=FUNCTION:N[:RESULT]      the N-th call of a function fails, such as fail=cuMemAllocAsync:3 (default result
//                                 CUDA_ERROR_OUT_OF_MEMORY for allocations, CUDA_ERROR_UNKNOWN for other functions)
//   fail=launch:N[:RESULT]        the N-th launched kernel (those of graphs too, in the order of execution) fails
//                                 asynchronously (default CUDA_ERROR_LAUNCH_FAILED), and its context with it
//   seed=N                        seed of the order of independent nodes; not 0: random short delays in streams
//   memory=MB                     memory of a device (default 4096)
//   sms=N                         multiprocessors of a device (default: those of a well-known one)
//
// A setting that is unknown or malformed ends the process with code 87.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <string>
#include <vector>

namespace w4ax_driver {

struct Play {
    struct Fail {
        std::string function;
        std::uint64_t call;
        CUresult result;
    };
    int arch = 80;
    int devices = 1;
    int driver = 13000;
    std::uint64_t seed = 0;
    std::uint64_t memory_bytes = std::uint64_t(4096) << 20;
    int multiprocessors = 0;
    std::vector<Fail> fails;
};

Play const& play();
/// Whether the `call`-th call of a function is to fail.
Play::Fail const* injected(std::string const& function, std::uint64_t call);

/// Whether a function exists, by its symbol or by its name without a variant.
bool is_exported(std::string const& function);

char const* error_name(CUresult result);  // null if the number is unknown
char const* error_description(CUresult result);
bool error_of_name(std::string const& name, CUresult& result);

}  // namespace w4ax_driver
