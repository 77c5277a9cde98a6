// What the driver keeps for each thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "driver.h"

namespace w4ax_driver {

struct ThreadState {
    std::vector<std::uint64_t> contexts;  // the stack of current contexts
    char const* function = "";            // the call in progress
    std::string refusal;
    CUstreamCaptureMode capture_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    std::uint64_t number = 0;
    bool in_host_function = false;
    Exec* exec = nullptr;  // the graph that runs on this thread
};

ThreadState& thread_state();

}  // namespace w4ax_driver
