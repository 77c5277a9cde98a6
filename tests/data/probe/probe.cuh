// A header that stands beside its source, as those of the kernels do.
#pragma once

namespace probe {
constexpr int kSteps = 4;
}
