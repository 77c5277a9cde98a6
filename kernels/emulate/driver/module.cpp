// The kernels of the program: their registration, attributes and launches.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "device.h"
#include "driver.h"
#include "entry.h"
#include "module.h"

namespace w4ax_driver {

namespace {

struct Image {
    w4ax_kernel const* kernel;
    int compute_capability;
};
// By the kernel's key. A program may register code for several architectures.
std::multimap<void const*, Image>& images() {
    static auto* const only = new std::multimap<void const*, Image>;
    return *only;
}

/// The emulator has three kinds of code: of sm_80 to sm_89, of sm_90, and of later ones.
bool runs_on(int image, int arch) {
    if (image >= 100) return arch >= 100;
    return image == 90 ? arch == 90 : arch >= image && arch < 90;
}

constexpr int conditional_nodes_driver = 12040;

/// Takes over the launch attributes that change what the emulator does, and refuses those that the device lacks.
CUresult take_attribute(CUlaunchAttribute const& attribute, Operation& operation) {
    int const arch = play().arch;
    auto const& value = attribute.value;
    switch (attribute.id) {
        case CU_LAUNCH_ATTRIBUTE_IGNORE:
        case CU_LAUNCH_ATTRIBUTE_PRIORITY:
        case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
        case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: return CUDA_SUCCESS;
        case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
            if (!value.programmaticStreamSerializationAllowed) return CUDA_SUCCESS;
            if (arch < 90) {
                return refuse(CUDA_ERROR_NOT_SUPPORTED, "programmatic stream serialization on sm_%d: expected sm_90",
                              arch);
            }
            operation.programmatic = true;
            return CUDA_SUCCESS;
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
            if (value.clusterDim.x * value.clusterDim.y * value.clusterDim.z <= 1) return CUDA_SUCCESS;
            if (arch < 90) return refuse(CUDA_ERROR_NOT_SUPPORTED, "clusters on sm_%d: expected sm_90", arch);
            return refuse(CUDA_ERROR_NOT_SUPPORTED, "the emulator has no clusters");
        default:
            return refuse(CUDA_ERROR_NOT_SUPPORTED, "the software driver has no launch attribute %d",
                          int(attribute.id));
    }
}

CUresult take_config(CUlaunchConfig const& config, Operation& operation) {
    operation.grid[0] = config.gridDimX;
    operation.grid[1] = config.gridDimY;
    operation.grid[2] = config.gridDimZ;
    operation.block[0] = config.blockDimX;
    operation.block[1] = config.blockDimY;
    operation.block[2] = config.blockDimZ;
    operation.dynamic_shared = config.sharedMemBytes;
    if (config.numAttrs && !config.attrs) return refuse(CUDA_ERROR_INVALID_VALUE, "the attributes are null");
    for (unsigned i = 0; i < config.numAttrs; ++i) W4AX_TRY(take_attribute(config.attrs[i], operation));
    return CUDA_SUCCESS;
}

CUresult launch(CUlaunchConfig const& config, CUfunction handle, void** parameters, void** extra) {
    Ref<Stream> stream;
    W4AX_TRY(find_stream(config.hStream, stream));
    W4AX_TRY(check_failure(*stream->context));
    Operation operation;
    operation.work = Work::kernel;
    W4AX_TRY(find_function(handle, operation.function));
    if (operation.function->context != stream->context) {
        return refuse(CUDA_ERROR_INVALID_HANDLE, "the kernel %s and the stream belong to different contexts",
                      operation.function->kernel->name);
    }
    Ref<Context> context;
    W4AX_TRY(current(context));
    if (context != stream->context) {
        return refuse(CUDA_ERROR_INVALID_HANDLE, "the stream belongs to another context than the current one");
    }
    W4AX_TRY(take_config(config, operation));
    W4AX_TRY(take_parameter(parameters, extra, operation));
    W4AX_TRY(check_launch(*operation.function, operation));
    return submit(stream, std::move(operation));
}

CUresult find_function_in(Ref<Context> const& context, void const* key, Ref<Function>& function) {
    Ref<Function>& known = context->functions[key];
    if (!known) {
        W4AX_TRY(check_unsafe());  // loads a module
        auto const [first, last] = images().equal_range(key);
        if (first == last) return refuse(CUDA_ERROR_NOT_FOUND, "no kernel is registered for %p", key);
        Image const* image = nullptr;
        for (auto at = first; at != last; ++at) {
            bool const fits = runs_on(at->second.compute_capability, play().arch);
            if (fits && (!image || at->second.compute_capability > image->compute_capability)) image = &at->second;
        }
        if (!image) {
            return refuse(CUDA_ERROR_NO_BINARY_FOR_GPU, "%s has code for sm_%d, but the device is sm_%d",
                          first->second.kernel->name, first->second.compute_capability, play().arch);
        }
        if (image->kernel->sets_conditionals && play().driver < conditional_nodes_driver) {
            return refuse(CUDA_ERROR_NOT_FOUND, "%s sets conditional handles, which exist from CUDA 12.4 on",
                          image->kernel->name);
        }
        known = std::make_shared<Function>();
        known->handle = new_handle(HandleKind::function);
        known->kernel = image->kernel;
        known->context = context;
        known->image = image->compute_capability;
        driver().functions[known->handle] = known;
    }
    function = known;
    return CUDA_SUCCESS;
}

}  // namespace

CUresult take_parameter(void** parameters, void** extra, Operation& operation) {
    w4ax_kernel const& kernel = *operation.function->kernel;
    if (extra) return refuse(CUDA_ERROR_NOT_SUPPORTED, "the software driver takes no parameters by `extra`");
    if (kernel.parameter_bytes == 0) return CUDA_SUCCESS;
    if (!parameters || !parameters[0])
        return refuse(CUDA_ERROR_INVALID_VALUE, "the parameter of %s is null", kernel.name);
    constexpr std::size_t alignment = 128;
    std::size_t const room = (kernel.parameter_bytes + alignment - 1) / alignment * alignment;
    operation.parameter = Ref<char>(static_cast<char*>(std::aligned_alloc(alignment, room)), std::free);
    std::memcpy(operation.parameter.get(), parameters[0], kernel.parameter_bytes);
    return CUDA_SUCCESS;
}

CUresult check_launch(Function const& function, Operation const& operation) {
    w4ax_kernel const& kernel = *function.kernel;
    auto const* const grid = operation.grid;
    auto const* const block = operation.block;
    std::uint64_t const threads = std::uint64_t(block[0]) * block[1] * block[2];
    if (!grid[0] || !grid[1] || !grid[2] || grid[0] > 0x7FFFFFFFu || grid[1] > 65535 || grid[2] > 65535) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "%s: a grid of %u x %u x %u blocks", kernel.name, grid[0], grid[1],
                      grid[2]);
    }
    if (threads == 0 || block[0] > 1024 || block[1] > 1024 || block[2] > 64 || threads > 1024) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "%s: a block of %u x %u x %u threads", kernel.name, block[0], block[1],
                      block[2]);
    }
    std::uint64_t const registers = std::uint64_t(kernel.registers) * threads;
    if ((kernel.max_threads && threads > kernel.max_threads) || registers > 65536) {
        return refuse(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "%s: %llu threads of %u registers: at most %u threads",
                      kernel.name, static_cast<unsigned long long>(threads), kernel.registers, kernel.max_threads);
    }
    if (operation.dynamic_shared > std::uint64_t(function.allowed_dynamic_shared)) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "%s: %u bytes of dynamic shared memory: cuFuncSetAttribute allowed %d",
                      kernel.name, operation.dynamic_shared, function.allowed_dynamic_shared);
    }
    std::uint64_t const shared = std::uint64_t(operation.dynamic_shared) + kernel.static_shared_bytes;
    auto const most =
        std::uint64_t(std::max(48 << 10, device_attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)));
    if (shared > most) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "%s: %llu bytes of shared memory: a block has at most %llu",
                      kernel.name, static_cast<unsigned long long>(shared), static_cast<unsigned long long>(most));
    }
    return CUDA_SUCCESS;
}

}  // namespace w4ax_driver

using namespace w4ax_driver;

extern "C" {

CUresult w4axDriverRegisterKernels(int version, w4ax_kernel const* const* kernels, int count, int compute_capability) {
    W4AX_ENTRY(w4axDriverRegisterKernels);
    if (version != W4AX_DRIVER_INTERFACE) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "interface version %d: expected %d", version, W4AX_DRIVER_INTERFACE);
    }
    if (!kernels || count < 0) return refuse(CUDA_ERROR_INVALID_VALUE, "%d kernels at %p", count, (void const*)kernels);
    for (int i = 0; i < count; ++i) {
        if (!kernels[i] || !kernels[i]->function || !kernels[i]->run) {
            return refuse(CUDA_ERROR_INVALID_VALUE, "kernel %d is incomplete", i);
        }
        images().insert({kernels[i]->function, {kernels[i], compute_capability}});
    }
    return CUDA_SUCCESS;
}
CUresult w4axDriverGetFunction(CUfunction* made, void const* key) {
    W4AX_ENTRY(w4axDriverGetFunction);
    W4AX_NOT_NULL(made);
    Ref<Context> context;
    W4AX_TRY(current(context));
    Ref<Function> function;
    W4AX_TRY(find_function_in(context, key, function));
    *made = reinterpret_cast<CUfunction>(function->handle);
    return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
    W4AX_ENTRY(cuFuncGetAttribute);
    W4AX_NOT_NULL(value);
    Ref<Function> function;
    W4AX_TRY(find_function(handle, function));
    w4ax_kernel const& kernel = *function->kernel;
    switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
            *value = kernel.max_threads ? int(kernel.max_threads) : 1024;
            break;
        case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = int(kernel.static_shared_bytes); break;
        case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
        case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
        case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA: *value = 0; break;
        case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = int(kernel.registers); break;
        case CU_FUNC_ATTRIBUTE_PTX_VERSION:
        case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *value = function->image; break;
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = function->allowed_dynamic_shared; break;
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: *value = -1; break;
        default: return refuse(CUDA_ERROR_INVALID_VALUE, "attribute %d", int(attribute));
    }
    return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
    W4AX_ENTRY(cuFuncSetAttribute);
    Ref<Function> function;
    W4AX_TRY(find_function(handle, function));
    W4AX_TRY(check_failure(*function->context));
    if (attribute == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) return CUDA_SUCCESS;
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "attribute %d cannot be set", int(attribute));
    }
    int most = device_attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) -
               int(function->kernel->static_shared_bytes);
    int const declared = int(function->kernel->max_dynamic_shared_bytes);
    if (declared) most = std::min(most, declared);
    if (value < 0 || value > most) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "%s: %d bytes of dynamic shared memory: at most %d on sm_%d",
                      function->kernel->name, value, most, play().arch);
    }
    function->allowed_dynamic_shared = value;
    return CUDA_SUCCESS;
}
CUresult cuFuncSetCacheConfig(CUfunction handle, CUfunc_cache) {
    W4AX_ENTRY(cuFuncSetCacheConfig);
    Ref<Function> function;
    return find_function(handle, function);
}
CUresult cuLaunchKernelEx(CUlaunchConfig const* config, CUfunction function, void** parameters, void** extra) {
    W4AX_ENTRY(cuLaunchKernelEx);
    W4AX_NOT_NULL(config);
    return launch(*config, function, parameters, extra);
}
CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                        unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared,
                        CUstream stream, void** parameters, void** extra) {
    W4AX_ENTRY(cuLaunchKernel);
    CUlaunchConfig const config = {grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream, nullptr, 0};
    return launch(config, function, parameters, extra);
}
CUresult cuLaunchCooperativeKernel(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,
                                   unsigned int, unsigned int, CUstream, void**) {
    W4AX_ENTRY(cuLaunchCooperativeKernel);
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "the emulator has no cooperative launches");
}
CUresult cuModuleLoadData(CUmodule*, void const*) {
    W4AX_ENTRY(cuModuleLoadData);
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "the software driver loads no machine code: see w4axDriverRegisterKernels");
}
CUresult cuModuleUnload(CUmodule) {
    W4AX_ENTRY(cuModuleUnload);
    return refuse(CUDA_ERROR_INVALID_HANDLE, "the software driver loads no modules");
}
CUresult cuModuleGetFunction(CUfunction*, CUmodule, char const*) {
    W4AX_ENTRY(cuModuleGetFunction);
    return refuse(CUDA_ERROR_INVALID_HANDLE, "the software driver loads no modules");
}

}  // extern "C"
