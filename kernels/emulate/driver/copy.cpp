// Copies and memsets.
#include <cstring>

#include "copy.h"
#include "entry.h"

namespace w4ax_driver {

namespace {

/// Resolves one side of a copy. Sets `pageable` if it is host memory that the driver does not know.
CUresult check_side(Context const& context, std::uint64_t at, std::size_t bytes, CUmemorytype type, char const* what,
                    bool& pageable, bool& on_device) {
    pageable = on_device = false;
    if (bytes == 0) return CUDA_SUCCESS;
    if (type != CU_MEMORYTYPE_HOST && type != CU_MEMORYTYPE_DEVICE && type != CU_MEMORYTYPE_UNIFIED) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "%s: memory type %d", what, int(type));
    }
    if (at == 0) return refuse(CUDA_ERROR_INVALID_VALUE, "%s: a null address", what);
    Ref<Allocation> const memory = find_memory(at);
    if (type == CU_MEMORYTYPE_DEVICE || (memory && memory->state != Allocation::State::freed)) {
        bool const device = memory && memory->place == Allocation::Place::device;
        if (device && type == CU_MEMORYTYPE_HOST) {
            return refuse(CUDA_ERROR_INVALID_VALUE, "%s: %s, where host memory is expected", what,
                          describe_address(at).c_str());
        }
        // Pinned memory of another context that is not portable is pageable here.
        bool const foreign = memory && !device && memory->context.get() != &context &&
                             !(memory->flags & CU_MEMHOSTALLOC_PORTABLE);
        if (foreign && type != CU_MEMORYTYPE_DEVICE) {
            pageable = true;
            return CUDA_SUCCESS;
        }
        on_device = device;
        return check_device_range(context, at, bytes, what);
    }
    if (memory && memory->place != Allocation::Place::registered) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "%s: %s", what, describe_address(at).c_str());
    }
    pageable = true;
    return CUDA_SUCCESS;
}

CopyShape linear(std::uint64_t to, CUmemorytype to_type, std::uint64_t from, CUmemorytype from_type,
                 std::size_t bytes) {
    CopyShape copy;
    copy.to = to;
    copy.from = from;
    copy.width = bytes;
    copy.to_type = to_type;
    copy.from_type = from_type;
    return copy;
}
std::uint64_t address_of(void const* host) { return reinterpret_cast<std::uint64_t>(host); }

/// Finds the stream of a copy or a memset. A synchronous call synchronizes the context, which a capture may prohibit.
CUresult find_target(CUstream handle, bool synchronous, Ref<Stream>& stream) {
    W4AX_TRY(find_stream(handle, stream));
    W4AX_TRY(check_failure(*stream->context));
    if (!synchronous) return CUDA_SUCCESS;
    W4AX_TRY(check_implicit(*stream->context));
    return check_unsafe();
}

/// `synchronous`: the host waits, also for copies that a driver would wait for only sometimes.
CUresult submit_copy(Call& call, CUstream handle, CopyShape copy, bool synchronous) {
    Ref<Stream> stream;
    W4AX_TRY(find_target(handle, synchronous, stream));
    W4AX_TRY(check_copy(*stream->context, copy));
    if (copy.width == 0 || copy.height == 0 || copy.depth == 0) return CUDA_SUCCESS;
    Operation operation;
    operation.work = Work::copy;
    operation.copy = copy;
    bool const captured = stream->capture != nullptr;
    if (copy.from_is_pageable && !captured) {
        // As a driver does, and in time: the host may change the memory after the call.
        auto const* const from = reinterpret_cast<char const*>(copy.from);
        touch(from, copy.from_extent(), false);
        operation.staged = std::make_shared<std::vector<char>>(from, from + copy.from_extent());
    }
    Ref<Fence> fence;
    W4AX_TRY(submit(stream, std::move(operation), &fence));
    if (captured || !(copy.to_is_pageable || (synchronous && !(copy.to_is_device && copy.from_is_device)))) {
        return CUDA_SUCCESS;
    }
    Progress const seen = stream->seen;
    wait_for(fence, call.lock);
    observe(seen);
    return check_failure(*stream->context);
}

CUresult submit_fill(CUstream handle, FillShape const& fill, bool synchronous) {
    Ref<Stream> stream;
    W4AX_TRY(find_target(handle, synchronous, stream));
    W4AX_TRY(check_fill(*stream->context, fill));
    if (fill.width == 0 || fill.height == 0) return CUDA_SUCCESS;
    Operation operation;
    operation.work = Work::fill;
    operation.fill = fill;
    return submit(stream, std::move(operation));
}

FillShape row(std::uint64_t to, unsigned value, unsigned element, std::size_t count) {
    FillShape fill;
    fill.to = to;
    fill.value = value;
    fill.element = element;
    fill.width = count;
    return fill;
}

}  // namespace

CUresult check_copy(Context const& context, CopyShape& copy) {
    bool from_is_device = false;
    W4AX_TRY(check_side(copy.to_context ? *copy.to_context : context, copy.to, copy.to_extent(), copy.to_type,
                        "the destination", copy.to_is_pageable, copy.to_is_device));
    W4AX_TRY(check_side(copy.from_context ? *copy.from_context : context, copy.from, copy.from_extent(), copy.from_type,
                        "the source", copy.from_is_pageable, from_is_device));
    copy.from_is_device = from_is_device;
    if (copy.height > 1 && (copy.to_pitch < copy.width || copy.from_pitch < copy.width)) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "a pitch is less than the width of %zu bytes", copy.width);
    }
    return CUDA_SUCCESS;
}

CUresult check_fill(Context const& context, FillShape const& fill) {
    if (fill.element != 1 && fill.element != 2 && fill.element != 4) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "elements of %u bytes: expected 1, 2 or 4", fill.element);
    }
    if (fill.to % fill.element || (fill.height > 1 && fill.pitch % fill.element)) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "the address %#llx is no multiple of %u",
                      static_cast<unsigned long long>(fill.to), fill.element);
    }
    if (fill.width == 0 || fill.height == 0) return CUDA_SUCCESS;
    return check_device_range(context, fill.to, fill.extent(), "the destination");
}

CUresult shape_of(CUDA_MEMCPY3D const& from, CopyShape& copy) {
    if (from.srcMemoryType == CU_MEMORYTYPE_ARRAY || from.dstMemoryType == CU_MEMORYTYPE_ARRAY) {
        return refuse(CUDA_ERROR_NOT_SUPPORTED, "the software driver has no arrays");
    }
    copy.width = from.WidthInBytes;
    copy.height = from.Height;
    copy.depth = from.Depth;
    copy.to_pitch = from.dstPitch;
    copy.from_pitch = from.srcPitch;
    copy.to_slice = from.dstPitch * from.dstHeight;
    copy.from_slice = from.srcPitch * from.srcHeight;
    copy.to_type = from.dstMemoryType;
    copy.from_type = from.srcMemoryType;
    bool const to_host = from.dstMemoryType == CU_MEMORYTYPE_HOST, from_host = from.srcMemoryType == CU_MEMORYTYPE_HOST;
    copy.to = to_host ? address_of(from.dstHost) : from.dstDevice;
    copy.from = from_host ? address_of(from.srcHost) : from.srcDevice;
    copy.to += from.dstXInBytes + from.dstY * copy.to_pitch + from.dstZ * copy.to_slice;
    copy.from += from.srcXInBytes + from.srcY * copy.from_pitch + from.srcZ * copy.from_slice;
    return CUDA_SUCCESS;
}

}  // namespace w4ax_driver

using namespace w4ax_driver;

namespace {
constexpr CUmemorytype host_memory = CU_MEMORYTYPE_HOST, device_memory = CU_MEMORYTYPE_DEVICE,
                       any_memory = CU_MEMORYTYPE_UNIFIED;
}

extern "C" {

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, void const* from, size_t bytes) {
    W4AX_ENTRY(cuMemcpyHtoD_v2);
    return submit_copy(call, nullptr, linear(to, device_memory, address_of(from), host_memory, bytes), true);
}
CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
    W4AX_ENTRY(cuMemcpyDtoH_v2);
    return submit_copy(call, nullptr, linear(address_of(to), host_memory, from, device_memory, bytes), true);
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    W4AX_ENTRY(cuMemcpyDtoD_v2);
    return submit_copy(call, nullptr, linear(to, device_memory, from, device_memory, bytes), true);
}
CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    W4AX_ENTRY(cuMemcpy);
    return submit_copy(call, nullptr, linear(to, any_memory, from, any_memory, bytes), true);
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, void const* from, size_t bytes, CUstream stream) {
    W4AX_ENTRY(cuMemcpyHtoDAsync_v2);
    return submit_copy(call, stream, linear(to, device_memory, address_of(from), host_memory, bytes), false);
}
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    W4AX_ENTRY(cuMemcpyDtoHAsync_v2);
    return submit_copy(call, stream, linear(address_of(to), host_memory, from, device_memory, bytes), false);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    W4AX_ENTRY(cuMemcpyDtoDAsync_v2);
    return submit_copy(call, stream, linear(to, device_memory, from, device_memory, bytes), false);
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    W4AX_ENTRY(cuMemcpyAsync);
    return submit_copy(call, stream, linear(to, any_memory, from, any_memory, bytes), false);
}
CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes,
                           CUstream stream) {
    W4AX_ENTRY(cuMemcpyPeerAsync);
    CopyShape copy = linear(to, device_memory, from, device_memory, bytes);
    W4AX_TRY(find_context(to_context, copy.to_context));
    W4AX_TRY(find_context(from_context, copy.from_context));
    return submit_copy(call, stream, copy, false);
}
CUresult cuMemcpy3DAsync_v2(CUDA_MEMCPY3D const* params, CUstream stream) {
    W4AX_ENTRY(cuMemcpy3DAsync_v2);
    W4AX_NOT_NULL(params);
    CopyShape copy;
    W4AX_TRY(shape_of(*params, copy));
    return submit_copy(call, stream, copy, false);
}
CUresult cuMemcpy2DAsync_v2(CUDA_MEMCPY2D const* params, CUstream stream) {
    W4AX_ENTRY(cuMemcpy2DAsync_v2);
    W4AX_NOT_NULL(params);
    CUDA_MEMCPY3D whole = {};
    whole.srcXInBytes = params->srcXInBytes;
    whole.srcY = params->srcY;
    whole.srcMemoryType = params->srcMemoryType;
    whole.srcHost = params->srcHost;
    whole.srcDevice = params->srcDevice;
    whole.srcPitch = params->srcPitch;
    whole.dstXInBytes = params->dstXInBytes;
    whole.dstY = params->dstY;
    whole.dstMemoryType = params->dstMemoryType;
    whole.dstHost = params->dstHost;
    whole.dstDevice = params->dstDevice;
    whole.dstPitch = params->dstPitch;
    whole.WidthInBytes = params->WidthInBytes;
    whole.Height = params->Height;
    whole.Depth = 1;
    CopyShape copy;
    W4AX_TRY(shape_of(whole, copy));
    return submit_copy(call, stream, copy, false);
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) {
    W4AX_ENTRY(cuMemsetD8_v2);
    return submit_fill(nullptr, row(to, value, 1, count), true);
}
CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t count) {
    W4AX_ENTRY(cuMemsetD16_v2);
    return submit_fill(nullptr, row(to, value, 2, count), true);
}
CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned int value, size_t count) {
    W4AX_ENTRY(cuMemsetD32_v2);
    return submit_fill(nullptr, row(to, value, 4, count), true);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
    W4AX_ENTRY(cuMemsetD8Async);
    return submit_fill(stream, row(to, value, 1, count), false);
}
CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream stream) {
    W4AX_ENTRY(cuMemsetD16Async);
    return submit_fill(stream, row(to, value, 2, count), false);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned int value, size_t count, CUstream stream) {
    W4AX_ENTRY(cuMemsetD32Async);
    return submit_fill(stream, row(to, value, 4, count), false);
}
CUresult cuMemsetD2D8Async(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height,
                           CUstream stream) {
    W4AX_ENTRY(cuMemsetD2D8Async);
    FillShape fill = row(to, value, 1, width);
    fill.height = height;
    fill.pitch = pitch;
    return submit_fill(stream, fill, false);
}

}  // extern "C"
