// What launches and kernel nodes share.
#pragma once

#include "driver.h"

namespace w4ax_driver {

/// Copies the single parameter of the operation's kernel.
CUresult take_parameter(void** parameters, void** extra, Operation& operation);

}  // namespace w4ax_driver
