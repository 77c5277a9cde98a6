// A header in the folder of its source, as in kernels/.
#pragma once

namespace probe {
constexpr int kSteps = 4;
}
