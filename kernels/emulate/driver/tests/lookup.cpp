// cuGetProcAddress.
#include "test.h"

using namespace test;

TEST(proc_address_by_version, "driver=12040") {
    void* found = nullptr;
    CUdriverProcAddressQueryResult status;
    OK(cuGetProcAddress("cuGraphAddNode", &found, 12020, 0, &status));
    EXPECT(found && status == CU_GET_PROC_ADDRESS_SUCCESS);
    void* const old = found;
    OK(cuGetProcAddress("cuGraphAddNode", &found, 12030, 0, &status));
    EXPECT(found && found != old);
    OK(cuGetProcAddress("cuGraphAddNode", &found, 11000, 0, &status));
    EXPECT(!found && status == CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
    OK(cuGetProcAddress("cuCtxCreate", &found, 12040, 0, &status));
    OK(cuGetProcAddress("cuNothing", &found, 12000, 0, &status));
    EXPECT(!found && status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    REFUSED(CUDA_ERROR_INVALID_VALUE, "12040", cuGetProcAddress("cuInit", &found, 12080, 0, &status));
    OK(cuGetProcAddress("cuMemAlloc", &found, 12000, 0, &status));
    EXPECT(found == reinterpret_cast<void*>(&cuMemAlloc));
}
