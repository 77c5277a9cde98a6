// Helpers of the emulator's tests.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "emulate/device.h"
#include "emulate/emulate_api.h"

namespace test {

/// A seeded random number generator.
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed * 2 + 1) {}
    std::uint32_t bits() {
        state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
        return static_cast<std::uint32_t>(state_ >> 33);
    }
    int between(int low, int high) { return low + static_cast<int>(bits() % static_cast<unsigned>(high - low + 1)); }

private:
    std::uint64_t state_;
};

inline int failures = 0;

inline void expect(bool condition, char const* what) {
    if (condition) return;
    std::printf("FAILED: %s\n", what);
    ++failures;
}

/// Runs one grid. Returns the emulator's error text, "" if there was none.
template <class Body>
std::string run(dim3 grid, dim3 block, std::size_t dynamic_shared, Body body) {
    w4ax_emulate_clear_error();
    w4ax_emulate::launch({grid, block, dynamic_shared}, body);
    w4ax_emulate::synchronize();
    std::string const error = w4ax_emulate_last_error();
    w4ax_emulate_clear_error();
    return error;
}

/// One result for each thread of a block. A shared flag would be a race.
struct Verdicts {
    bool right[1024];
    Verdicts() { std::memset(right, 1, sizeof right); }
    bool& mine() { return right[w4ax_emulate::current->linear]; }
    bool all() const {
        for (bool one : right)
            if (!one) return false;
        return true;
    }
};

inline bool contains(std::string const& text, char const* part) { return text.find(part) != std::string::npos; }

inline int finish(char const* name) {
    std::printf("%s: %s\n", name, failures ? "FAILED" : "ok");
    return failures != 0;
}

}  // namespace test
