#include "runtime/context.cuh"

#include <cuda.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#ifdef W4AX_EMULATE
#include "emulate/sm90.h"
#endif

namespace w4ax {

namespace {

constexpr int kMaxDevices = 64;
// CUDA 12.4 introduced conditional nodes. A kernel that sets one calls a function that older drivers do not have.
constexpr int kConditionalNodesDriver = 12040;

// The build script defines W4AX_SM90A if the build has code for sm_90a. Without it the wgmma kernels are empty on
// sm_90.
#if defined(W4AX_SM90A) || (defined(W4AX_EMULATE) && W4AX_EMULATE_ARCH == 900)
constexpr bool kBuiltForWgmma = true;
#else
constexpr bool kBuiltForWgmma = false;
#endif

// Registers per thread at the start of a wgmma kernel, before warpgroups exchange them (wgmma_kernel.cuh).
constexpr int kWgmmaRegisters = 168;
// Drivers before CUDA 12.5 do not report the context of a stream that is being captured.
constexpr int kCapturedContextDriver = 12050;

thread_local char const* last_error_text = "no error";
// Streams that are captured into bodies: few at any time, and nearly always none.
std::mutex bodies_mutex;
std::vector<cudaStream_t> bodies;
std::atomic<int> body_count{0};

#ifndef W4AX_EMULATE

// Driver functions without a counterpart in the runtime. They are looked up through the runtime, so that a machine
// without a driver can still load the library.
struct Driver {
    int version;
    CUresult (*stream_context)(CUstream, CUcontext*);
    CUresult (*push)(CUcontext);
    CUresult (*pop)(CUcontext*);
    CUresult (*retain_primary)(CUcontext*, CUdevice);
    CUresult (*device)(CUdevice*, int);
    CUresult (*kernel_node)(CUgraphNode, CUDA_KERNEL_NODE_PARAMS*);
    decltype(&cuTensorMapEncodeTiled) encode_map;
};
Driver driver;  // written once, by look_up_driver

template <class Function>
cudaError_t look_up(char const* name, Function& function) {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
    // The signatures above are those of CUDA 12.0. Newer variants of the same name take more arguments.
    cudaError_t const error = cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result);
#else
    cudaError_t const error = cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &result);
#endif
    if (error != cudaSuccess) return error;
    function = reinterpret_cast<Function>(found);
    return result == cudaDriverEntryPointSuccess && found ? cudaSuccess : cudaErrorInsufficientDriver;
}

cudaError_t find_functions(Driver& d) {
    cudaError_t error = cudaDriverGetVersion(&d.version);
    if (error == cudaSuccess) error = look_up("cuStreamGetCtx", d.stream_context);
    if (error == cudaSuccess) error = look_up("cuCtxPushCurrent", d.push);
    if (error == cudaSuccess) error = look_up("cuCtxPopCurrent", d.pop);
    if (error == cudaSuccess) error = look_up("cuDevicePrimaryCtxRetain", d.retain_primary);
    if (error == cudaSuccess) error = look_up("cuDeviceGet", d.device);
    if (error == cudaSuccess) error = look_up("cuGraphKernelNodeGetParams", d.kernel_node);
    if (error == cudaSuccess) error = look_up("cuTensorMapEncodeTiled", d.encode_map);
    return error;
}

// Fills `driver` at the first call. Launches on the first device read it while further devices are opened.
cudaError_t look_up_driver() {
    static std::once_flag once;
    static cudaError_t found = cudaSuccess;
    std::call_once(once, [] { found = find_functions(driver); });
    return found;
}

#endif

struct DeviceSlot {
    std::atomic<bool> ready{false};  // set last: the fields up to `primary` are constant from then on
    Device device;
    int driver_version;
#ifndef W4AX_EMULATE
    CUcontext primary;
#endif
    std::mutex loading;                       // held while a kernel is loaded
    std::unique_ptr<LoadedKernel[]> kernels;  // of kernel_count()
};
DeviceSlot slots[kMaxDevices];
std::mutex preload_mutex;

// What loading a kernel needs, for its lifetime: the primary context is current, and a capture does not prohibit calls
// that it could not record.
class LoadingGuard {
public:
#ifdef W4AX_EMULATE
    explicit LoadingGuard(DeviceSlot const&) {}
    bool entered() const { return true; }
#else
    // cudaFuncGetAttributes loads, and loading allocates and may synchronize the context. While this thread captures,
    // or any thread captures in global mode, the runtime refuses such calls and invalidates the capture, unless the
    // mode of this thread is relaxed. Nothing of them is recorded.
    explicit LoadingGuard(DeviceSlot const& slot) : entered_(driver.push(slot.primary) == CUDA_SUCCESS) {
        has_mode_ = cudaThreadExchangeStreamCaptureMode(&mode_) == cudaSuccess;
    }
    ~LoadingGuard() {
        if (has_mode_) cudaThreadExchangeStreamCaptureMode(&mode_);
        CUcontext popped;
        if (entered_) driver.pop(&popped);
    }
    bool entered() const { return entered_ && has_mode_; }

private:
    cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;  // after the exchange: the mode of the caller
    bool entered_, has_mode_;
#endif
};

// Loads a kernel and raises its limit of shared memory, in the current context.
cudaError_t load(Kernel const& kernel, Device const& device, cudaFuncAttributes& attributes) {
    // This call loads the kernel.
    cudaError_t const error = cudaFuncGetAttributes(&attributes, kernel.function);
    if (error != cudaSuccess) return error;
    int const shared = std::min(kernel.max_shared_bytes, device.max_shared_bytes);
    return cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
}

// Gets what does not change while the process runs.
w4axk_status describe_device(DeviceSlot& slot, int ordinal) {
    slot.device.ordinal = ordinal;
    int major = 0, minor = 0;
    cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&slot.device.max_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal);
    if (error == cudaSuccess) error = cudaDriverGetVersion(&slot.driver_version);
    if (error != cudaSuccess) return status_of(error);
    slot.device.has_pdl = major >= 9;
    slot.device.has_wgmma = kBuiltForWgmma && major == 9 && minor == 0;
    slot.kernels.reset(new (std::nothrow) LoadedKernel[kernel_count()]);
    return slot.kernels ? W4AXK_OK : status_of(cudaErrorMemoryAllocation);
}

// Loads the latch, the smallest kernel: it has an image for the device if the build has. On sm_90 also loads a wgmma
// kernel, to see whether its code is that of sm_90a.
w4axk_status load_first_kernels(DeviceSlot& slot) {
    w4axk_status status = load_kernel(slot.device, find_kernel(Role::Latch));
#ifndef W4AX_EMULATE
    if (status == W4AXK_OK && slot.device.has_wgmma) {
        LoadedKernel const* wgmma;
        int const kernel = find_kernel(Role::Gemm, W4AXK_WGMMA, W4AXK_A8, W4AXK_G128, W4AXK_PACKED, 1);
        status = load_kernel(slot.device, kernel, &wgmma);
        // With CUDA_FORCE_PTX_JIT, the driver loads the empty code of other architectures.
        if (status == W4AXK_OK) slot.device.has_wgmma = wgmma->attributes.numRegs >= kWgmmaRegisters;
    }
#endif
    return status;
}

w4axk_status count_devices(int* count) {
    *count = 0;
    cudaError_t const error = cudaGetDeviceCount(count);
#ifdef W4AX_OLDEST_DRIVER
    // Older drivers than this cannot decompress the kernels, although the runtime itself would accept them.
    int driver_version = 0;
    if (error == cudaSuccess && cudaDriverGetVersion(&driver_version) == cudaSuccess &&
        driver_version < W4AX_OLDEST_DRIVER) {
        *count = 0;
        return W4AXK_DRIVER_TOO_OLD;
    }
#endif
    if (error == cudaSuccess) return *count > 0 ? W4AXK_OK : W4AXK_NO_DEVICE;
    cudaGetLastError();  // the status reports the error; it must not surface at a later launch
    *count = 0;
    if (error == cudaErrorInsufficientDriver) {
        // The runtime reports this error without any driver too; then the version is 0.
        int version = 0;
        if (cudaDriverGetVersion(&version) != cudaSuccess || version == 0) return W4AXK_NO_DEVICE;
    }
    return status_of(error);
}

}  // namespace

w4axk_status status_of(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return W4AXK_OK;
        case cudaErrorNoDevice: return W4AXK_NO_DEVICE;
        case cudaErrorInvalidDevice: return W4AXK_BAD_DEVICE;
        case cudaErrorInsufficientDriver:
        case cudaErrorUnsupportedPtxVersion: return W4AXK_DRIVER_TOO_OLD;
        case cudaErrorNoKernelImageForDevice:
        case cudaErrorInvalidDeviceFunction: return W4AXK_NO_KERNEL_IMAGE;
        default: last_error_text = cudaGetErrorString(error); return W4AXK_CUDA_ERROR;
    }
}

Device const* find_device(int ordinal) {
    if (ordinal < 0 || ordinal >= kMaxDevices || !slots[ordinal].ready.load(std::memory_order_acquire)) return nullptr;
    return &slots[ordinal].device;
}

bool is_capturing_body(cudaStream_t stream) {
    // A relaxed load suffices: a thread that launches into a body is ordered after the thread that began the capture.
    if (body_count.load(std::memory_order_relaxed) == 0) return false;
    std::lock_guard<std::mutex> const lock(bodies_mutex);
    return std::find(bodies.begin(), bodies.end(), stream) != bodies.end();
}
void register_body(cudaStream_t stream) {
    std::lock_guard<std::mutex> const lock(bodies_mutex);
    bodies.push_back(stream);
    body_count.store(int(bodies.size()), std::memory_order_relaxed);
}
void unregister_body(cudaStream_t stream) {
    std::lock_guard<std::mutex> const lock(bodies_mutex);
    auto const at = std::find(bodies.begin(), bodies.end(), stream);
    if (at != bodies.end()) bodies.erase(at);
    body_count.store(int(bodies.size()), std::memory_order_relaxed);
}

w4axk_status load_kernel(Device const& device, int kernel, LoadedKernel const** loaded) {
    if (kernel < 0 || kernel >= kernel_count()) return W4AXK_BAD_TILE;
    DeviceSlot& slot = slots[device.ordinal];
    LoadedKernel& k = slot.kernels[kernel];
    if (loaded) *loaded = &k;
    if (k.ready.load(std::memory_order_acquire)) return W4AXK_OK;
    Kernel const& found = *kernel_at(kernel);
    if (sets_conditionals(found.role) && slot.driver_version < kConditionalNodesDriver) return W4AXK_DRIVER_TOO_OLD;
    std::lock_guard<std::mutex> const lock(slot.loading);
    if (k.ready.load(std::memory_order_relaxed)) return W4AXK_OK;
    LoadingGuard const guard(slot);
    cudaError_t const error = guard.entered() ? load(found, device, k.attributes) : cudaErrorDeviceUninitialized;
    if (error == cudaSuccess)
        k.ready.store(true, std::memory_order_release);
    else
        cudaGetLastError();  // the status reports the error; it must not surface at a later launch
    return status_of(error);
}

#ifdef W4AX_EMULATE

ContextGuard::~ContextGuard() {}
w4axk_status ContextGuard::enter(Device const&, cudaStream_t) { return W4AXK_OK; }

w4axk_status make_row_map(TensorMap& map, void const* x, int rows, int columns, int64_t stride, int box_rows) {
    w4ax_emulate::encode_tensor_map(&map, x, rows, columns, stride, box_rows);
    return W4AXK_OK;
}

#else

ContextGuard::~ContextGuard() {
    CUcontext popped;
    if (entered_) driver.pop(&popped);
}

w4axk_status ContextGuard::enter(Device const& device, cudaStream_t stream) {
    CUcontext const primary = slots[device.ordinal].primary;
    if (driver.push(primary) != CUDA_SUCCESS) return W4AXK_WRONG_CONTEXT;
    entered_ = true;
    // The default streams belong to the current context, which is this one now.
    if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread) return W4AXK_OK;
    if (driver.version < kCapturedContextDriver) {
        cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
        if (cudaStreamIsCapturing(stream, &capture) != cudaSuccess) cudaGetLastError();
        if (capture != cudaStreamCaptureStatusNone) return W4AXK_OK;
    }
    CUcontext context = nullptr;
    return driver.stream_context(stream, &context) == CUDA_SUCCESS && context == primary ? W4AXK_OK
                                                                                         : W4AXK_WRONG_CONTEXT;
}

w4axk_status make_row_map(TensorMap& map, void const* x, int rows, int columns, int64_t stride, int box_rows) {
    static_assert(sizeof map == sizeof(CUtensorMap) && alignof(TensorMap) >= alignof(CUtensorMap),
                  "TensorMap must hold a CUtensorMap");
    cuuint64_t const extents[] = {cuuint64_t(columns), cuuint64_t(rows)}, strides[] = {cuuint64_t(stride) * 2};
    cuuint32_t const box[] = {kTileK, cuuint32_t(box_rows)}, steps[] = {1, 1};
    // Elements beyond the matrix are filled with zeros.
    CUresult const result = driver.encode_map(reinterpret_cast<CUtensorMap*>(&map), CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
                                              const_cast<void*>(x), extents, strides, box, steps,
                                              CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                              CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return result == CUDA_SUCCESS ? W4AXK_OK : status_of(cudaErrorInvalidValue);
}

w4axk_status belongs_to_device(Device const& device, cudaGraphNode_t node, bool* belongs) {
    CUDA_KERNEL_NODE_PARAMS params = {};
    if (driver.kernel_node(node, &params) != CUDA_SUCCESS) return status_of(cudaErrorInvalidValue);
    // A kernel without a context is loaded in the context where it runs.
    *belongs = !params.ctx || params.ctx == slots[device.ordinal].primary;
    return W4AXK_OK;
}

#endif

}  // namespace w4ax

using namespace w4ax;

extern "C" const char* w4axk_last_cuda_error(void) { return last_error_text; }

extern "C" w4axk_status w4axk_device_count(int32_t* count) {
    if (!count) return W4AXK_NULL_POINTER;
    int found = 0;
    w4axk_status const status = count_devices(&found);
    *count = found;
    return status;
}

extern "C" w4axk_status w4axk_preload(int32_t ordinal) {
    int count = 0;
    w4axk_status status = count_devices(&count);
    if (status != W4AXK_OK) return status;
    if (ordinal < 0 || ordinal >= count || ordinal >= kMaxDevices) return W4AXK_BAD_DEVICE;
    std::lock_guard<std::mutex> const lock(preload_mutex);
    DeviceSlot& slot = slots[ordinal];
    if (slot.ready.load(std::memory_order_acquire)) return W4AXK_OK;
#ifndef W4AX_EMULATE
    cudaError_t const error = look_up_driver();
    if (error != cudaSuccess) return status_of(error);
    CUdevice device;
    if (driver.device(&device, ordinal) != CUDA_SUCCESS) return W4AXK_BAD_DEVICE;
    // Never released: launches compare the contexts of streams with it.
    if (driver.retain_primary(&slot.primary, device) != CUDA_SUCCESS) return status_of(cudaErrorDeviceUninitialized);
#endif
    status = describe_device(slot, ordinal);
    if (status == W4AXK_OK) status = load_first_kernels(slot);
    if (status == W4AXK_OK)
        slot.ready.store(true, std::memory_order_release);
    else
        cudaGetLastError();  // the status reports the error; it must not surface at a later launch
    return status;
}
