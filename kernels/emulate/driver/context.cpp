// Contexts: primary ones, others, and the stack of each thread.
#include <algorithm>

#include "driver.h"
#include "entry.h"
#include "thread_state.h"

namespace w4ax_driver {

namespace {

Ref<Context> make_context(CUdevice device, unsigned flags, bool primary) {
    auto const context = std::make_shared<Context>();
    context->handle = new_handle(HandleKind::context);
    context->device = device;
    context->flags = flags;
    context->primary = primary;
    context->legacy = make_stream(context, 0, 0, false);
    context->limits = {
        {CU_LIMIT_STACK_SIZE, 1024}, {CU_LIMIT_PRINTF_FIFO_SIZE, 1 << 20}, {CU_LIMIT_MALLOC_HEAP_SIZE, 8 << 20}};
    driver().contexts[context->handle] = context;
    return context;
}

CUcontext as_handle(Context const& context) { return reinterpret_cast<CUcontext>(context.handle); }

CUresult check_device(CUdevice device) {
    if (device >= 0 && device < play().devices) return CUDA_SUCCESS;
    return refuse(CUDA_ERROR_INVALID_DEVICE, "device %d of %d", device, play().devices);
}

CUresult create(CUcontext* made, unsigned flags, CUdevice device) {
    W4AX_TRY(check_device(device));
    W4AX_TRY(check_unsafe());
    auto const context = make_context(device, flags, false);
    thread_state().contexts.push_back(context->handle);
    *made = as_handle(*context);
    return CUDA_SUCCESS;
}

/// A failed context cannot release anything, so what it holds is no leak.
void lose(Context const& context, std::string what) {
    if (context.failure == CUDA_SUCCESS) driver().lost.push_back(std::move(what));
}

template <class Objects>
void drop(Objects& objects, Context const& context, char const* what) {
    for (auto at = objects.begin(); at != objects.end();) {
        if (at->second->context.get() != &context) {
            ++at;
            continue;
        }
        lose(context, format("%s of a context that was destroyed before it", what));
        at = objects.erase(at);
    }
}

}  // namespace

void fail_context(Context& context, CUresult result, std::string text) {
    if (context.failure != CUDA_SUCCESS) return;
    context.failure = result;
    context.failure_text = std::move(text);
}

void destroy_context(Ref<Context> const& context, Lock& lock) {
    auto& d = driver();
    for (auto const& [handle, stream] : d.streams) {
        if (stream->context == context) leave_capture(stream);
    }
    wait_for_context(*context, lock);
    context->destroyed = true;
    drop(d.events, *context, "an event");
    for (auto at = d.streams.begin(); at != d.streams.end();) {
        if (at->second->context != context) {
            ++at;
            continue;
        }
        bool const per_thread = std::any_of(context->per_thread.begin(), context->per_thread.end(),
                                            [&](auto const& one) { return one.second == at->second; });
        at->second->stopped = true;
        if (!per_thread) lose(*context, "a stream of a context that was destroyed before it");
        at = d.streams.erase(at);
    }
    context->legacy->stopped = true;
    for (auto const& [address, memory] : d.memory) {
        if (memory->context != context || memory->state == Allocation::State::freed) continue;
        lose(*context, format("%llu bytes of %s of a context that was destroyed before them",
                              static_cast<unsigned long long>(memory->bytes), memory->origin.c_str()));
        if (memory->place != Allocation::Place::registered) release_memory(*memory);
        memory->state = Allocation::State::freed;
    }
    for (auto at = d.functions.begin(); at != d.functions.end();) {
        at = at->second->context == context ? d.functions.erase(at) : std::next(at);
    }
    context->functions.clear();
    context->per_thread.clear();
    context->legacy = nullptr;  // it refers to the context
    d.contexts.erase(context->handle);
    notify_change();
}

}  // namespace w4ax_driver

using namespace w4ax_driver;

extern "C" {

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    W4AX_ENTRY(cuDevicePrimaryCtxRetain);
    W4AX_NOT_NULL(context);
    W4AX_TRY(check_device(device));
    Ref<Context>& primary = driver().primary[device];
    if (!primary) primary = make_context(device, 0, true);
    ++primary->retained;
    *context = as_handle(*primary);
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    W4AX_ENTRY(cuDevicePrimaryCtxRelease_v2);
    W4AX_TRY(check_device(device));
    Ref<Context> const primary = driver().primary[device];
    if (!primary) return refuse(CUDA_ERROR_INVALID_CONTEXT, "the primary context of device %d is not retained", device);
    if (--primary->retained > 0) return CUDA_SUCCESS;
    driver().primary.erase(device);
    destroy_context(primary, call.lock);
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
    W4AX_ENTRY(cuDevicePrimaryCtxReset_v2);
    W4AX_TRY(check_device(device));
    W4AX_TRY(check_unsafe());
    Ref<Context> const primary = driver().primary[device];
    if (!primary) return CUDA_SUCCESS;
    driver().primary.erase(device);
    destroy_context(primary, call.lock);
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int* flags, int* active) {
    W4AX_ENTRY(cuDevicePrimaryCtxGetState);
    W4AX_NOT_NULL(flags);
    W4AX_NOT_NULL(active);
    W4AX_TRY(check_device(device));
    auto const at = driver().primary.find(device);
    *active = at != driver().primary.end() && at->second;
    *flags = *active ? at->second->flags : 0;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags) {
    W4AX_ENTRY(cuDevicePrimaryCtxSetFlags_v2);
    W4AX_TRY(check_device(device));
    auto const at = driver().primary.find(device);
    if (at != driver().primary.end() && at->second) at->second->flags = flags;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext* context, unsigned int flags, CUdevice device) {
    W4AX_ENTRY(cuCtxCreate_v2);
    W4AX_NOT_NULL(context);
    return create(context, flags, device);
}
CUresult cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam* affinity, int count, unsigned int flags,
                        CUdevice device) {
    W4AX_ENTRY(cuCtxCreate_v3);
    W4AX_NOT_NULL(context);
    if (affinity || count) return refuse(CUDA_ERROR_NOT_SUPPORTED, "the software driver has no execution affinity");
    return create(context, flags, device);
}
CUresult cuCtxCreate_v4(CUcontext* context, CUctxCreateParams* params, unsigned int flags, CUdevice device) {
    W4AX_ENTRY(cuCtxCreate_v4);
    W4AX_NOT_NULL(context);
    if (params) return refuse(CUDA_ERROR_NOT_SUPPORTED, "the software driver takes no parameters of a context");
    return create(context, flags, device);
}
CUresult cuCtxDestroy_v2(CUcontext handle) {
    W4AX_ENTRY(cuCtxDestroy_v2);
    Ref<Context> context;
    W4AX_TRY(find_context(handle, context));
    if (context->primary) {
        return refuse(CUDA_ERROR_INVALID_CONTEXT, "a primary context is released by cuDevicePrimaryCtxRelease");
    }
    auto& stack = thread_state().contexts;
    if (!stack.empty() && stack.back() == context->handle) stack.pop_back();
    destroy_context(context, call.lock);
    return CUDA_SUCCESS;
}
CUresult cuCtxPushCurrent_v2(CUcontext handle) {
    W4AX_ENTRY(cuCtxPushCurrent_v2);
    Ref<Context> context;
    W4AX_TRY(find_context(handle, context));
    thread_state().contexts.push_back(context->handle);
    return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent_v2(CUcontext* popped) {
    W4AX_ENTRY(cuCtxPopCurrent_v2);
    auto& stack = thread_state().contexts;
    if (stack.empty()) return refuse(CUDA_ERROR_INVALID_CONTEXT, "the thread has no current context");
    if (popped) *popped = reinterpret_cast<CUcontext>(stack.back());
    stack.pop_back();
    return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext handle) {
    W4AX_ENTRY(cuCtxSetCurrent);
    auto& stack = thread_state().contexts;
    if (!handle) {
        if (!stack.empty()) stack.pop_back();
        return CUDA_SUCCESS;
    }
    Ref<Context> context;
    W4AX_TRY(find_context(handle, context));
    if (stack.empty()) stack.push_back(0);
    stack.back() = context->handle;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* context) {
    W4AX_ENTRY(cuCtxGetCurrent);
    W4AX_NOT_NULL(context);
    auto const& stack = thread_state().contexts;
    *context = stack.empty() ? nullptr : reinterpret_cast<CUcontext>(stack.back());
    return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice* device) {
    W4AX_ENTRY(cuCtxGetDevice);
    W4AX_NOT_NULL(device);
    Ref<Context> context;
    W4AX_TRY(current(context));
    *device = context->device;
    return CUDA_SUCCESS;
}
CUresult cuCtxSynchronize(void) {
    W4AX_ENTRY(cuCtxSynchronize);
    Ref<Context> context;
    W4AX_TRY(current(context));
    W4AX_TRY(check_synchronization(*context));
    wait_for_context(*context, call.lock);
    return check_failure(*context);
}
CUresult cuCtxGetFlags(unsigned int* flags) {
    W4AX_ENTRY(cuCtxGetFlags);
    W4AX_NOT_NULL(flags);
    Ref<Context> context;
    W4AX_TRY(current(context));
    *flags = context->flags;
    return CUDA_SUCCESS;
}
CUresult cuCtxSetFlags(unsigned int flags) {
    W4AX_ENTRY(cuCtxSetFlags);
    Ref<Context> context;
    W4AX_TRY(current(context));
    context->flags = flags;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetLimit(size_t* value, CUlimit limit) {
    W4AX_ENTRY(cuCtxGetLimit);
    W4AX_NOT_NULL(value);
    Ref<Context> context;
    W4AX_TRY(current(context));
    auto const at = context->limits.find(limit);
    if (at == context->limits.end()) return refuse(CUDA_ERROR_UNSUPPORTED_LIMIT, "limit %d", int(limit));
    *value = at->second;
    return CUDA_SUCCESS;
}
CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
    W4AX_ENTRY(cuCtxSetLimit);
    Ref<Context> context;
    W4AX_TRY(current(context));
    auto const at = context->limits.find(limit);
    if (at == context->limits.end()) return refuse(CUDA_ERROR_UNSUPPORTED_LIMIT, "limit %d", int(limit));
    at->second = value;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCacheConfig(CUfunc_cache* config) {
    W4AX_ENTRY(cuCtxGetCacheConfig);
    W4AX_NOT_NULL(config);
    *config = CU_FUNC_CACHE_PREFER_NONE;
    return CUDA_SUCCESS;
}
CUresult cuCtxSetCacheConfig(CUfunc_cache) {
    W4AX_ENTRY(cuCtxSetCacheConfig);
    return CUDA_SUCCESS;
}
CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    W4AX_ENTRY(cuCtxGetStreamPriorityRange);
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetApiVersion(CUcontext, unsigned int* version) {
    W4AX_ENTRY(cuCtxGetApiVersion);
    W4AX_NOT_NULL(version);
    *version = 3020;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetId(CUcontext handle, unsigned long long* id) {
    W4AX_ENTRY(cuCtxGetId);
    W4AX_NOT_NULL(id);
    Ref<Context> context;
    W4AX_TRY(handle ? find_context(handle, context) : current(context));
    *id = context->handle;
    return CUDA_SUCCESS;
}
CUresult cuCtxEnablePeerAccess(CUcontext, unsigned int) {
    W4AX_ENTRY(cuCtxEnablePeerAccess);
    return refuse(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "the devices have no access to each other");
}

}  // extern "C"
