// Allocation and queries of memory.
#include <algorithm>

#include "driver.h"
#include "entry.h"
#include "thread_state.h"

namespace w4ax_driver {

Ref<Allocation> find_memory(std::uint64_t address) {
    auto const& memory = driver().memory;
    auto at = memory.upper_bound(address);
    if (at == memory.begin()) return nullptr;
    Ref<Allocation> const& found = std::prev(at)->second;
    return address - found->base < found->bytes ? found : nullptr;
}

std::string describe_address(std::uint64_t address) {
    auto const number = static_cast<unsigned long long>(address);
    if (address == 0) return "a null address";
    Ref<Allocation> const memory = find_memory(address);
    if (!memory) return format("%#llx, which is no memory of the driver", number);
    char const* const state = memory->state == Allocation::State::freed ? "freed " : memory->freeing ? "released " : "";
    char const* const place = memory->place == Allocation::Place::device ? "device" : "pinned";
    return format("%#llx, byte %llu of %llu bytes of %s%s memory of %s", number,
                  static_cast<unsigned long long>(address - memory->base),
                  static_cast<unsigned long long>(memory->bytes), state, place, memory->origin.c_str());
}

namespace {

bool is_of_context(Allocation const& memory, Context const& context) {
    if (memory.place == Allocation::Place::device) return memory.context.get() == &context;
    return memory.context.get() == &context || (memory.flags & CU_MEMHOSTALLOC_PORTABLE);
}

/// Why the device cannot access a range; "" if it can.
std::string fault(Context const& context, std::uint64_t at, std::size_t bytes, bool executing) {
    Ref<Allocation> const memory = find_memory(at);
    if (!memory) return describe_address(at);
    if (!memory->contains(at, bytes)) {
        return format("%llu bytes at %s", static_cast<unsigned long long>(bytes), describe_address(at).c_str());
    }
    if (memory->state == Allocation::State::freed) return describe_address(at);
    if (!executing && memory->freeing) return describe_address(at);
    if (executing && memory->state == Allocation::State::reserved) {
        return describe_address(at) + ", before its allocation in stream order";
    }
    if (!is_of_context(*memory, context)) return describe_address(at) + ", of another context";
    return "";
}

CUresult allocate_host(void** made, std::size_t bytes, unsigned flags) {
    W4AX_NOT_NULL(made);
    if (flags & ~unsigned(CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED)) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "flags %#x", flags);
    }
    Ref<Context> context;
    W4AX_TRY(current(context));
    W4AX_TRY(check_unsafe());
    Ref<Allocation> memory;
    W4AX_TRY(allocate(context, bytes, Allocation::Place::pinned, true, memory));
    memory->flags = flags;
    memory->origin = thread_state().function;
    *made = reinterpret_cast<void*>(memory->base);
    return CUDA_SUCCESS;
}

/// The live allocation that begins at an address.
CUresult find_base(std::uint64_t address, bool on_device, Ref<Allocation>& memory) {
    auto const at = driver().memory.find(address);
    if (at == driver().memory.end()) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "%s is not the beginning of an allocation",
                      describe_address(address).c_str());
    }
    memory = at->second;
    if (memory->state == Allocation::State::freed || memory->freeing) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "%s was freed before", describe_address(address).c_str());
    }
    if ((memory->place == Allocation::Place::device) != on_device) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "%s is freed by another function", describe_address(address).c_str());
    }
    return CUDA_SUCCESS;
}

CUresult allocate_on_stream(CUdeviceptr* made, std::size_t bytes, CUstream handle) {
    W4AX_NOT_NULL(made);
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    W4AX_TRY(check_failure(*stream->context));
    if (stream->capture) W4AX_TRY(check_capture(*stream));
    Operation operation;
    operation.work = Work::allocate;
    W4AX_TRY(allocate(stream->context, bytes, Allocation::Place::device, false, operation.memory));
    operation.memory->stream_ordered = true;
    operation.memory->of_graph = stream->capture != nullptr;
    operation.memory->origin = thread_state().function;
    std::uint64_t const base = operation.memory->base;
    W4AX_TRY(submit(stream, std::move(operation)));
    *made = base;
    return CUDA_SUCCESS;
}

}  // namespace

CUresult check_device_range(Context const& context, std::uint64_t at, std::size_t bytes, char const* what) {
    std::string const text = fault(context, at, bytes, false);
    return text.empty() ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_VALUE, "%s: %s", what, text.c_str());
}
std::string check_accessible(Context const& context, std::uint64_t at, std::size_t bytes) {
    return fault(context, at, bytes, true);
}

}  // namespace w4ax_driver

using namespace w4ax_driver;

extern "C" {

CUresult cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
    W4AX_ENTRY(cuMemGetInfo_v2);
    Ref<Context> context;
    W4AX_TRY(current(context));
    if (free_bytes) *free_bytes = play().memory_bytes - driver().used_bytes[context->device];
    if (total) *total = play().memory_bytes;
    return CUDA_SUCCESS;
}
CUresult cuMemAlloc_v2(CUdeviceptr* made, size_t bytes) {
    W4AX_ENTRY(cuMemAlloc_v2);
    W4AX_NOT_NULL(made);
    Ref<Context> context;
    W4AX_TRY(current(context));
    W4AX_TRY(check_unsafe());
    Ref<Allocation> memory;
    W4AX_TRY(allocate(context, bytes, Allocation::Place::device, true, memory));
    memory->origin = thread_state().function;
    *made = memory->base;
    return CUDA_SUCCESS;
}
CUresult cuMemFree_v2(CUdeviceptr address) {
    W4AX_ENTRY(cuMemFree_v2);
    Ref<Context> context;
    W4AX_TRY(current(context));
    if (address == 0) return CUDA_SUCCESS;
    W4AX_TRY(check_unsafe());
    Ref<Allocation> memory;
    W4AX_TRY(find_base(address, true, memory));
    if (memory->of_graph) return refuse(CUDA_ERROR_INVALID_VALUE, "the memory belongs to a graph");
    // A real driver waits for the device.
    memory->freeing = true;
    wait_for_context(*memory->context, call.lock);
    if (memory->state == Allocation::State::freed) return CUDA_SUCCESS;  // with its context, in the meantime
    std::string const damage = release_memory(*memory);
    if (!damage.empty()) fail_context(*context, CUDA_ERROR_ILLEGAL_ADDRESS, damage);
    return check_failure(*context);
}
CUresult cuMemAllocAsync(CUdeviceptr* made, size_t bytes, CUstream stream) {
    W4AX_ENTRY(cuMemAllocAsync);
    return allocate_on_stream(made, bytes, stream);
}
CUresult cuMemAllocFromPoolAsync(CUdeviceptr* made, size_t bytes, CUmemoryPool pool, CUstream stream) {
    W4AX_ENTRY(cuMemAllocFromPoolAsync);
    if (!pool) return refuse(CUDA_ERROR_INVALID_VALUE, "the pool is null");
    return allocate_on_stream(made, bytes, stream);
}
CUresult cuMemFreeAsync(CUdeviceptr address, CUstream handle) {
    W4AX_ENTRY(cuMemFreeAsync);
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    W4AX_TRY(check_failure(*stream->context));
    Operation operation;
    operation.work = Work::release;
    W4AX_TRY(find_base(address, true, operation.memory));
    if (operation.memory->context != stream->context) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "the memory belongs to another context than the stream");
    }
    if (stream->capture && !operation.memory->of_graph) {
        W4AX_TRY(check_capture(*stream));
        invalidate(*stream->capture, "it released memory that was allocated outside of it");
        return refuse(CUDA_ERROR_INVALID_VALUE, "the memory was allocated outside of the capture");
    }
    if (!stream->capture) operation.memory->freeing = true;
    return submit(stream, std::move(operation));
}
CUresult cuMemHostAlloc(void** made, size_t bytes, unsigned int flags) {
    W4AX_ENTRY(cuMemHostAlloc);
    return allocate_host(made, bytes, flags);
}
CUresult cuMemAllocHost_v2(void** made, size_t bytes) {
    W4AX_ENTRY(cuMemAllocHost_v2);
    return allocate_host(made, bytes, 0);
}
CUresult cuMemFreeHost(void* address) {
    W4AX_ENTRY(cuMemFreeHost);
    W4AX_NOT_NULL(address);
    Ref<Context> context;
    W4AX_TRY(current(context));
    W4AX_TRY(check_unsafe());
    Ref<Allocation> memory;
    W4AX_TRY(find_base(reinterpret_cast<std::uint64_t>(address), false, memory));
    if (memory->place == Allocation::Place::registered) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "the memory was registered: cuMemHostUnregister releases it");
    }
    std::string const damage = release_memory(*memory);
    if (!damage.empty()) fail_context(*context, CUDA_ERROR_ILLEGAL_ADDRESS, damage);
    return check_failure(*context);
}
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* made, void* host, unsigned int flags) {
    W4AX_ENTRY(cuMemHostGetDevicePointer_v2);
    W4AX_NOT_NULL(made);
    if (flags) return refuse(CUDA_ERROR_INVALID_VALUE, "flags %u: expected 0", flags);
    Ref<Context> context;
    W4AX_TRY(current(context));
    auto const address = reinterpret_cast<std::uint64_t>(host);
    W4AX_TRY(check_device_range(*context, address, 1, "host"));
    Ref<Allocation> const memory = find_memory(address);
    if (memory->place == Allocation::Place::device) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "%s is no host memory", describe_address(address).c_str());
    }
    if (!(memory->flags & CU_MEMHOSTALLOC_DEVICEMAP)) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "the memory was allocated without CU_MEMHOSTALLOC_DEVICEMAP");
    }
    *made = address;
    return CUDA_SUCCESS;
}
CUresult cuMemHostGetFlags(unsigned int* flags, void* host) {
    W4AX_ENTRY(cuMemHostGetFlags);
    W4AX_NOT_NULL(flags);
    Ref<Allocation> const memory = find_memory(reinterpret_cast<std::uint64_t>(host));
    if (!memory || memory->place == Allocation::Place::device || memory->state == Allocation::State::freed) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "the address is no pinned memory");
    }
    *flags = memory->flags;
    return CUDA_SUCCESS;
}
CUresult cuMemHostRegister_v2(void* host, size_t bytes, unsigned int flags) {
    W4AX_ENTRY(cuMemHostRegister_v2);
    W4AX_NOT_NULL(host);
    Ref<Context> context;
    W4AX_TRY(current(context));
    W4AX_TRY(check_unsafe());
    auto const address = reinterpret_cast<std::uint64_t>(host);
    if (bytes == 0) return refuse(CUDA_ERROR_INVALID_VALUE, "0 bytes");
    Ref<Allocation> const other = find_memory(address);
    if (other && other->state != Allocation::State::freed) {
        return refuse(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "%s", describe_address(address).c_str());
    }
    auto const memory = std::make_shared<Allocation>();
    memory->base = address;
    memory->bytes = bytes;
    memory->place = Allocation::Place::registered;
    memory->context = context;
    memory->flags = flags & (CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP);
    memory->origin = "cuMemHostRegister";
    driver().memory[address] = memory;
    return CUDA_SUCCESS;
}
CUresult cuMemHostUnregister(void* host) {
    W4AX_ENTRY(cuMemHostUnregister);
    W4AX_NOT_NULL(host);
    W4AX_TRY(check_unsafe());
    auto const at = driver().memory.find(reinterpret_cast<std::uint64_t>(host));
    if (at == driver().memory.end() || at->second->place != Allocation::Place::registered) {
        return refuse(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "the address is no registered memory");
    }
    driver().memory.erase(at);  // the host's heap may use the address again
    return CUDA_SUCCESS;
}
CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
    W4AX_ENTRY(cuMemGetAddressRange_v2);
    Ref<Context> context;
    W4AX_TRY(current(context));
    Ref<Allocation> const memory = find_memory(address);
    if (!memory || memory->state == Allocation::State::freed) {
        return refuse(CUDA_ERROR_NOT_FOUND, "%s", describe_address(address).c_str());
    }
    if (base) *base = memory->base;
    if (bytes) *bytes = memory->bytes;
    return CUDA_SUCCESS;
}
CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr address) {
    W4AX_ENTRY(cuPointerGetAttribute);
    W4AX_NOT_NULL(data);
    Ref<Context> context;
    W4AX_TRY(current(context));
    Ref<Allocation> const memory = find_memory(address);
    if (!memory || memory->state == Allocation::State::freed) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "%s", describe_address(address).c_str());
    }
    bool const on_device = memory->place == Allocation::Place::device;
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT:
            *static_cast<CUcontext*>(data) = reinterpret_cast<CUcontext>(memory->context->handle);
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            *static_cast<unsigned*>(data) = on_device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: *static_cast<CUdeviceptr*>(data) = address; return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
            if (on_device) return refuse(CUDA_ERROR_INVALID_VALUE, "device memory has no host address");
            *static_cast<void**>(data) = reinterpret_cast<void*>(address);
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            *static_cast<int*>(data) = memory->context->device;
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
            *static_cast<CUdeviceptr*>(data) = memory->base;
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE: *static_cast<std::size_t*>(data) = memory->bytes; return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_MAPPED: *static_cast<bool*>(data) = true; return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_IS_MANAGED: *static_cast<bool*>(data) = false; return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
            *static_cast<unsigned long long*>(data) = memory->base;
            return CUDA_SUCCESS;
        default: return refuse(CUDA_ERROR_INVALID_VALUE, "the software driver does not know attribute %d", attribute);
    }
}
CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice device) {
    W4AX_ENTRY(cuDeviceGetDefaultMemPool);
    W4AX_NOT_NULL(pool);
    if (device < 0 || device >= play().devices) return refuse(CUDA_ERROR_INVALID_DEVICE, "device %d", device);
    *pool = reinterpret_cast<CUmemoryPool>(std::uint64_t(device) + 1);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice device) {
    W4AX_ENTRY(cuDeviceGetMemPool);
    W4AX_NOT_NULL(pool);
    if (device < 0 || device >= play().devices) return refuse(CUDA_ERROR_INVALID_DEVICE, "device %d", device);
    *pool = reinterpret_cast<CUmemoryPool>(std::uint64_t(device) + 1);
    return CUDA_SUCCESS;
}
CUresult cuMemPoolSetAttribute(CUmemoryPool, CUmemPool_attribute, void*) {
    W4AX_ENTRY(cuMemPoolSetAttribute);
    return CUDA_SUCCESS;
}
CUresult cuMemPoolTrimTo(CUmemoryPool, size_t) {
    W4AX_ENTRY(cuMemPoolTrimTo);
    return CUDA_SUCCESS;
}

}  // extern "C"
