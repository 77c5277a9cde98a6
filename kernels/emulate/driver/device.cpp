// Devices: their number, names and attributes.
#include <cstdio>
#include <cstring>

#include "driver.h"
#include "entry.h"
#include "fault.h"

namespace w4ax_driver {

namespace {

struct Model {
    int arch, multiprocessors, shared_per_multiprocessor, l2_bytes, threads_per_multiprocessor;
};
// Of well-known devices: A100, RTX 3090, Orin, L40, H100, B200, RTX 5090.
constexpr Model models[] = {
    {80, 108, 164 << 10, 40 << 20, 2048},  {86, 82, 100 << 10, 6 << 20, 1536},   {87, 16, 164 << 10, 4 << 20, 1536},
    {89, 142, 100 << 10, 96 << 20, 1536},  {90, 132, 228 << 10, 50 << 20, 2048}, {100, 148, 228 << 10, 126 << 20, 2048},
    {120, 170, 100 << 10, 96 << 20, 1536},
};

Model const& model() {
    for (auto const& one : models) {
        if (one.arch == play().arch) return one;
    }
    return models[0];
}

CUresult check_device(CUdevice device) {
    if (device >= 0 && device < play().devices) return CUDA_SUCCESS;
    return refuse(CUDA_ERROR_INVALID_DEVICE, "device %d of %d", device, play().devices);
}

bool attribute(CUdevice_attribute which, CUdevice device, int& value) {
    Model const& m = model();
    bool const hopper = m.arch >= 90;
    switch (which) {
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: value = 1024; break;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: value = 1024; break;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: value = 64; break;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: value = 0x7FFFFFFF; break;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: value = 65535; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: value = 48 << 10; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: value = m.shared_per_multiprocessor - 1024; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: value = m.shared_per_multiprocessor; break;
        case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK: value = 1024; break;
        case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY: value = 64 << 10; break;
        case CU_DEVICE_ATTRIBUTE_WARP_SIZE: value = 32; break;
        case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
        case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: value = 65536; break;
        case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: value = 1500000; break;
        case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: value = 1500000; break;
        case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: value = 256; break;
        case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: value = m.l2_bytes; break;
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: value = m.threads_per_multiprocessor; break;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR: value = m.arch == 80 || hopper ? 32 : 16; break;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
            value = play().multiprocessors ? play().multiprocessors : m.multiprocessors;
            break;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: value = m.arch / 10; break;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: value = m.arch % 10; break;
        case CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT: value = 512; break;
        case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT: value = 2; break;
        case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID: value = device + 1; break;
        case CU_DEVICE_ATTRIBUTE_INTEGRATED: value = m.arch == 87; break;
        case CU_DEVICE_ATTRIBUTE_GPU_OVERLAP:
        case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
        case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
        case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
        case CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM:
        case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: value = 1; break;
        case CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH: value = hopper; break;
        case CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED: value = hopper; break;
        case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH:
        case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY:
        case CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS:
        case CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS:
        case CU_DEVICE_ATTRIBUTE_TCC_DRIVER:
        case CU_DEVICE_ATTRIBUTE_ECC_ENABLED:
        case CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT:
        case CU_DEVICE_ATTRIBUTE_COMPUTE_MODE:
        case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID:
        case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID:
        case CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD:
        case CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD_GROUP_ID: value = 0; break;
        default: return false;
    }
    return true;
}

}  // namespace

int device_attribute(CUdevice_attribute which) {
    int value = 0;
    attribute(which, 0, value);
    return value;
}

}  // namespace w4ax_driver

using namespace w4ax_driver;

extern "C" {

CUresult cuInit(unsigned int flags) {
    W4AX_ENTRY(cuInit);
    if (flags) return refuse(CUDA_ERROR_INVALID_VALUE, "flags %u: expected 0", flags);
    driver().initialized = true;
    describe_faults();
    if (play().devices == 0) return refuse(CUDA_ERROR_NO_DEVICE, "W4AX_DEVICE_PLAY has no device");
    return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int* version) {
    W4AX_ENTRY(cuDriverGetVersion);
    W4AX_NOT_NULL(version);
    *version = play().driver;
    return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult error, char const** text) {
    W4AX_ENTRY(cuGetErrorName);
    W4AX_NOT_NULL(text);
    *text = error_name(error);
    return *text ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_VALUE, "the error %d is unknown", int(error));
}
CUresult cuGetErrorString(CUresult error, char const** text) {
    W4AX_ENTRY(cuGetErrorString);
    W4AX_NOT_NULL(text);
    *text = error_description(error);
    return *text ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_VALUE, "the error %d is unknown", int(error));
}
CUresult cuDeviceGetCount(int* count) {
    W4AX_ENTRY(cuDeviceGetCount);
    W4AX_NOT_NULL(count);
    *count = play().devices;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    W4AX_ENTRY(cuDeviceGet);
    W4AX_NOT_NULL(device);
    W4AX_TRY(check_device(ordinal));
    *device = ordinal;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
    W4AX_ENTRY(cuDeviceGetName);
    W4AX_NOT_NULL(name);
    W4AX_TRY(check_device(device));
    if (length <= 0) return refuse(CUDA_ERROR_INVALID_VALUE, "a name of %d bytes", length);
    std::snprintf(name, std::size_t(length), "W4AX software device sm_%d", play().arch);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
    W4AX_ENTRY(cuDeviceGetUuid_v2);
    W4AX_NOT_NULL(uuid);
    W4AX_TRY(check_device(device));
    std::memset(uuid, 0, sizeof *uuid);
    std::snprintf(uuid->bytes, sizeof uuid->bytes, "w4ax-device-%d", device);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }
CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
    W4AX_ENTRY(cuDeviceTotalMem_v2);
    W4AX_NOT_NULL(bytes);
    W4AX_TRY(check_device(device));
    *bytes = play().memory_bytes;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice device) {
    W4AX_ENTRY(cuDeviceGetAttribute);
    W4AX_NOT_NULL(value);
    W4AX_TRY(check_device(device));
    if (attribute(which, device, *value)) return CUDA_SUCCESS;
    return refuse(CUDA_ERROR_INVALID_VALUE, "the software driver does not know attribute %d", int(which));
}
CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice device) {
    W4AX_ENTRY(cuDeviceComputeCapability);
    W4AX_NOT_NULL(major);
    W4AX_NOT_NULL(minor);
    W4AX_TRY(check_device(device));
    *major = play().arch / 10;
    *minor = play().arch % 10;
    return CUDA_SUCCESS;
}
CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
    W4AX_ENTRY(cuDeviceCanAccessPeer);
    W4AX_NOT_NULL(can);
    W4AX_TRY(check_device(device));
    W4AX_TRY(check_device(peer));
    *can = 0;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetPCIBusId(char* id, int length, CUdevice device) {
    W4AX_ENTRY(cuDeviceGetPCIBusId);
    W4AX_NOT_NULL(id);
    W4AX_TRY(check_device(device));
    if (length < 13) return refuse(CUDA_ERROR_INVALID_VALUE, "a PCI bus id of %d bytes: expected 13 or more", length);
    std::snprintf(id, std::size_t(length), "0000:%02x:00.0", device + 1);
    return CUDA_SUCCESS;
}

}  // extern "C"
