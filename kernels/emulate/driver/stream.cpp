// Streams: a queue and a thread each.
#include <algorithm>
#include <random>
#include <thread>

#include "driver.h"
#include "entry.h"
#include "thread_state.h"

namespace w4ax_driver {

namespace {

void merge(Progress& into, Progress const& from) {
    for (auto const& [stream, count] : from) into[stream] = std::max(into[stream], count);
}

/// Whether the host could notice that an operation has not run.
bool is_visible(Operation const& operation) {
    switch (operation.work) {
        case Work::kernel:
        case Work::graph:
        case Work::host: return true;
        case Work::copy: return !operation.copy.to_is_device;
        default: return false;
    }
}

/// What a seed that is not 0 adds: a delay before some operations.
class Jitter {
public:
    explicit Jitter(std::uint64_t number) : random_(play().seed * 0x9E3779B97F4A7C15ull + number) {}
    void pause() {
        if (play().seed == 0 || random_() % 4) return;
        std::this_thread::sleep_for(std::chrono::microseconds(random_() % 300));
    }

private:
    std::mt19937_64 random_;
};

bool is_ready(Queued const& queued) {
    return std::all_of(queued.waits.begin(), queued.waits.end(), [](Ref<Fence> const& fence) { return fence->done; });
}

void run_stream(Ref<Stream> stream) {
    Jitter jitter(stream->number);
    Lock lock;
    for (;;) {
        lock.wait([&] { return stream->queue.empty() ? stream->stopped : is_ready(stream->queue.front()); });
        if (stream->queue.empty()) return;
        Queued queued = std::move(stream->queue.front());
        stream->queue.pop_front();
        Ref<Context> const context = queued.operation.context;
        bool const runs = context->failure == CUDA_SUCCESS;
        lock.unlock();

        jitter.pause();
        acquire(&queued.fence->enqueued);
        for (auto const& fence : queued.waits) acquire(&fence->ended);
        Failure failure;
        if (runs) {
            failure = execute(queued.operation, queued.follows_kernel && queued.operation.programmatic);
        }
        release(&queued.fence->ended);

        lock.lock();
        if (failure.result != CUDA_SUCCESS) fail_context(*context, failure.result, failure.text);
        queued.fence->result = context->failure;
        queued.fence->when = Clock::now();
        queued.fence->done = true;
        queued = {};
        notify_change();
    }
}

CUresult create(CUstream* made, unsigned flags, int priority) {
    W4AX_NOT_NULL(made);
    if (flags & ~unsigned(CU_STREAM_NON_BLOCKING)) return refuse(CUDA_ERROR_INVALID_VALUE, "stream flags %#x", flags);
    Ref<Context> context;
    W4AX_TRY(current(context));
    *made = reinterpret_cast<CUstream>(make_stream(context, flags, priority, true)->handle);
    return CUDA_SUCCESS;
}

CUresult refuse_while_capturing(Stream& stream, char const* what) {
    if (stream.capture) {
        W4AX_TRY(check_capture(stream));
        invalidate(*stream.capture, format("%s of a stream that is being captured", what));
        return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the stream is being captured");
    }
    return stream.is_legacy() ? check_implicit(*stream.context) : CUDA_SUCCESS;
}

}  // namespace

char const* name_of(Work work) {
    switch (work) {
        case Work::empty: return "event";
        case Work::kernel: return "kernel";
        case Work::copy: return "copy";
        case Work::fill: return "memset";
        case Work::host: return "host function";
        case Work::graph: return "graph";
        case Work::allocate: return "allocation";
        case Work::release: return "release of memory";
    }
    return "operation";
}

void observe(Progress const& progress) { merge(driver().observed, progress); }

Ref<Stream> make_stream(Ref<Context> const& context, unsigned flags, int priority, bool with_handle) {
    auto const stream = std::make_shared<Stream>();
    stream->number = ++driver().serial;
    stream->context = context;
    stream->flags = flags;
    stream->priority = priority;
    if (with_handle) {
        stream->handle = new_handle(HandleKind::stream);
        driver().streams[stream->handle] = stream;
    }
    return stream;
}

Ref<Fence> enqueue(Ref<Stream> const& stream, Operation&& operation, std::vector<Ref<Fence>> waits) {
    Context& context = *stream->context;
    auto const order_after = [&](Stream const& other) {
        if (!other.last) return;
        waits.push_back(other.last);
        merge(stream->seen, other.seen);
    };
    if (stream->is_legacy()) {
        for (auto const& [handle, other] : driver().streams) {
            if (other->context == stream->context && other->is_blocking()) order_after(*other);
        }
    } else if (stream->is_blocking() && context.legacy) {
        order_after(*context.legacy);
    }
    Queued queued;
    queued.fence = std::make_shared<Fence>();
    queued.follows_kernel = stream->previous == Work::kernel && waits.empty();
    queued.waits = std::move(waits);
    operation.context = stream->context;
    stream->seen[stream->number] = ++stream->enqueued;
    if (is_visible(operation)) {
        stream->last_visible = stream->enqueued;
        stream->last_visible_work = operation.work;
    }
    stream->previous = operation.work;
    stream->last = queued.fence;
    release(&queued.fence->enqueued);
    Ref<Fence> const fence = queued.fence;
    queued.operation = std::move(operation);
    stream->queue.push_back(std::move(queued));
    if (!stream->has_thread) {
        stream->has_thread = true;
        std::thread(run_stream, stream).detach();
    }
    notify_change();
    return fence;
}

CUresult submit(Ref<Stream> const& stream, Operation&& operation, Ref<Fence>* fence) {
    W4AX_TRY(check_failure(*stream->context));
    operation.context = stream->context;
    if (stream->capture) return capture_operation(stream, std::move(operation));
    if (stream->is_legacy()) W4AX_TRY(check_implicit(*stream->context));
    Ref<Fence> const enqueued = enqueue(stream, std::move(operation));
    if (fence) *fence = enqueued;
    return CUDA_SUCCESS;
}

void wait_for(Ref<Fence> const& fence, Lock& lock) {
    lock.wait([&] { return fence->done; });
    acquire(&fence->ended);
}

void wait_for_context(Context const& context, Lock& lock) {
    std::vector<Ref<Fence>> fences;
    Progress progress;
    auto const add = [&](Ref<Stream> const& stream) {
        if (stream->context.get() != &context || !stream->last) return;
        fences.push_back(stream->last);
        merge(progress, stream->seen);
    };
    for (auto const& [handle, stream] : driver().streams) add(stream);
    for (auto const& stream : driver().destroyed_streams) add(stream);
    if (context.legacy) add(context.legacy);
    for (auto const& fence : fences) wait_for(fence, lock);
    observe(progress);
}

}  // namespace w4ax_driver

using namespace w4ax_driver;

extern "C" {

CUresult cuStreamCreate(CUstream* stream, unsigned int flags) {
    W4AX_ENTRY(cuStreamCreate);
    return create(stream, flags, 0);
}
CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned int flags, int priority) {
    W4AX_ENTRY(cuStreamCreateWithPriority);
    return create(stream, flags, std::clamp(priority, -5, 0));
}
CUresult cuStreamDestroy_v2(CUstream handle) {
    W4AX_ENTRY(cuStreamDestroy_v2);
    auto const at = driver().streams.find(reinterpret_cast<std::uint64_t>(handle));
    if (at == driver().streams.end()) {
        return refuse(CUDA_ERROR_INVALID_HANDLE, "%s",
                      describe_handle(reinterpret_cast<std::uint64_t>(handle), HandleKind::stream).c_str());
    }
    Ref<Stream> const stream = at->second;
    leave_capture(stream);
    stream->stopped = true;  // after the operations that it holds
    driver().streams.erase(at);
    driver().destroyed_streams.push_back(stream);
    notify_change();
    return check_failure(*stream->context);
}
CUresult cuStreamSynchronize(CUstream handle) {
    W4AX_ENTRY(cuStreamSynchronize);
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    W4AX_TRY(refuse_while_capturing(*stream, "cuStreamSynchronize"));
    W4AX_TRY(check_failure(*stream->context));
    // An operation of the legacy stream waits for all blocking streams.
    if (stream->is_legacy()) enqueue(stream, {});
    if (stream->last) {
        Ref<Fence> const fence = stream->last;
        Progress const seen = stream->seen;
        wait_for(fence, call.lock);
        observe(seen);
    }
    return check_failure(*stream->context);
}
CUresult cuStreamQuery(CUstream handle) {
    W4AX_ENTRY(cuStreamQuery);
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    W4AX_TRY(refuse_while_capturing(*stream, "cuStreamQuery"));
    W4AX_TRY(check_failure(*stream->context));
    if (stream->last && !stream->last->done) {
        return refuse(CUDA_ERROR_NOT_READY, "the stream has operations that have not ended");
    }
    if (stream->last) acquire(&stream->last->ended);
    observe(stream->seen);
    return CUDA_SUCCESS;
}
CUresult cuStreamGetCtx(CUstream handle, CUcontext* context) {
    W4AX_ENTRY(cuStreamGetCtx);
    W4AX_NOT_NULL(context);
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    if (stream->capture && play().driver < 12050) {
        W4AX_TRY(check_capture(*stream));
        invalidate(*stream->capture, "cuStreamGetCtx of a stream that is being captured, before CUDA 12.5");
        return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "before CUDA 12.5, not while the stream is captured");
    }
    *context = reinterpret_cast<CUcontext>(stream->context->handle);
    return CUDA_SUCCESS;
}
CUresult cuStreamGetFlags(CUstream handle, unsigned int* flags) {
    W4AX_ENTRY(cuStreamGetFlags);
    W4AX_NOT_NULL(flags);
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    *flags = stream->flags;
    return CUDA_SUCCESS;
}
CUresult cuStreamGetPriority(CUstream handle, int* priority) {
    W4AX_ENTRY(cuStreamGetPriority);
    W4AX_NOT_NULL(priority);
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    *priority = stream->priority;
    return CUDA_SUCCESS;
}
CUresult cuStreamGetId(CUstream handle, unsigned long long* id) {
    W4AX_ENTRY(cuStreamGetId);
    W4AX_NOT_NULL(id);
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    *id = stream->number;
    return CUDA_SUCCESS;
}
CUresult cuStreamGetDevice(CUstream handle, CUdevice* device) {
    W4AX_ENTRY(cuStreamGetDevice);
    W4AX_NOT_NULL(device);
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    *device = stream->context->device;
    return CUDA_SUCCESS;
}
CUresult cuStreamAttachMemAsync(CUstream, CUdeviceptr, size_t, unsigned int) {
    W4AX_ENTRY(cuStreamAttachMemAsync);
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "the software driver has no managed memory");
}
CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* data) {
    W4AX_ENTRY(cuLaunchHostFunc);
    W4AX_NOT_NULL(function);
    Ref<Stream> stream;
    W4AX_TRY(find_stream(handle, stream));
    Operation operation;
    operation.work = Work::host;
    operation.host = function;
    operation.host_data = data;
    return submit(stream, std::move(operation));
}

}  // extern "C"
