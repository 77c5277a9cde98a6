#include "emulate/cudart/module.h"

#include "emulate/cudart/driver.h"
#include "runtime/registry.cuh"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <string>

namespace w4ax_cudart {

namespace {

// The oldest architecture if there is no device: the kernels' names are those of every architecture.
int architecture() {
    Driver const* const driver = find_driver();
    int major = 8;
    CUdevice device;
    if (driver && driver->cuInit(0) == CUDA_SUCCESS && driver->cuDeviceGet(&device, 0) == CUDA_SUCCESS)
        driver->cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
    return major >= 10 ? 1200 : major == 9 ? 900 : 800;
}

Module const& load() {
    // Beside this library.
    Dl_info here = {};
    dladdr(reinterpret_cast<void*>(&load), &here);
    std::string path = here.dli_fname ? here.dli_fname : "";
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1);
    path += "libw4ax_emulated_kernels-" + std::to_string(architecture()) + ".so";
    void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    auto const find = library
                          ? reinterpret_cast<decltype(&w4ax_emulated_module)>(dlsym(library, "w4ax_emulated_module"))
                          : nullptr;
    if (find) return *find();
    std::fprintf(stderr, "w4ax: no emulated kernels for the device: %s\n", dlerror());
    std::abort();
}

}  // namespace

Module const& the_module() {
    static Module const& module = load();
    return module;
}

}  // namespace w4ax_cudart

// The functions that the registry collects the kernels from.
namespace w4ax {

enum KernelFile {
#define W4AX_NUMBER(file) kFile_##file,
    W4AX_KERNEL_FILES(W4AX_NUMBER)
#undef W4AX_NUMBER
};

#define W4AX_DEFINE(file) \
    KernelList file##_kernels() { return w4ax_cudart::the_module().list(kFile_##file); }
W4AX_KERNEL_FILES(W4AX_DEFINE)
#undef W4AX_DEFINE

}  // namespace w4ax
