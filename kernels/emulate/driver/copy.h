// The shapes of copies, as streams and graphs take them.
#pragma once

#include "driver.h"

namespace w4ax_driver {

CUresult shape_of(CUDA_MEMCPY3D const& from, CopyShape& copy);

}  // namespace w4ax_driver
