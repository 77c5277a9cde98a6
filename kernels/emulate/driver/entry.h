// The table of exported functions.
#pragma once

#include <cstdint>

namespace w4ax_driver {

struct Entry {
    char const* symbol;  // such as cuMemAlloc_v2
    char const* name;    // without the variant: cuMemAlloc
    int since;           // the CUDA version that introduced the variant
    void* function;
    std::uint64_t calls = 0;
    bool is_allocation = false;
};

}  // namespace w4ax_driver
