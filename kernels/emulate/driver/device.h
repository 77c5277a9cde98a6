#pragma once

#include <cuda.h>

namespace w4ax_driver {

/// An attribute of the devices; they are all alike.
int device_attribute(CUdevice_attribute which);

}  // namespace w4ax_driver
