// The operations of sm_90a that kernels/mma/sm90.cuh uses: mbarriers, bulk and tensor copies, wgmma.
#pragma once

#include "emulate/memory/bulk_copy.h"
#include "emulate/mma/wgmma.h"
#include "emulate/sync/mbarrier.h"
