#pragma once

namespace w4ax_driver {

/// From now on, an access to memory that traps is described before it ends the process.
void describe_faults();

}  // namespace w4ax_driver
