// Events.
#include <algorithm>

#include "driver.h"
#include "entry.h"

namespace w4ax_driver {

namespace {

/// Refuses an event that was last recorded in a capture, and invalidates the capture.
CUresult refuse_captured(Event const& event, char const* what) {
    if (!event.capture) return CUDA_SUCCESS;
    if (event.capture->active) invalidate(*event.capture, format("%s of an event that it recorded", what));
    return refuse(CUDA_ERROR_CAPTURED_EVENT, "the event was last recorded in a capture");
}

/// A wait for an event that a capture recorded: joins the stream to the capture.
CUresult join_capture(Stream& stream, Event const& event) {
    Ref<Capture> const capture = event.capture;
    if (!capture->active) {
        return refuse(CUDA_ERROR_CAPTURED_EVENT, "the event was last recorded in a capture that has ended");
    }
    if (capture->invalidated) {
        return refuse(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture of the event was invalidated: %s",
                      capture->reason.c_str());
    }
    if (stream.capture && stream.capture != capture) {
        invalidate(*capture, "a stream of another capture waited for an event of this one");
        invalidate(*stream.capture, "a stream waited for an event of another capture");
        return refuse(CUDA_ERROR_STREAM_CAPTURE_MERGE, "the event belongs to another capture");
    }
    if (!stream.capture) {
        if (stream.is_legacy()) {
            invalidate(*capture, "the legacy stream waited for an event that it recorded");
            return refuse(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "the legacy stream cannot be captured");
        }
        stream.capture = capture;
        stream.tail.clear();
    }
    for (Node* const node : event.captured) {
        if (std::find(stream.tail.begin(), stream.tail.end(), node) == stream.tail.end()) stream.tail.push_back(node);
    }
    return CUDA_SUCCESS;
}

CUresult record(CUevent handle, CUstream stream_handle, unsigned flags) {
    Ref<Event> event;
    W4AX_TRY(find_event(handle, event));
    Ref<Stream> stream;
    W4AX_TRY(find_stream(stream_handle, stream));
    W4AX_TRY(check_failure(*stream->context));
    if (flags & ~unsigned(CU_EVENT_RECORD_EXTERNAL)) return refuse(CUDA_ERROR_INVALID_VALUE, "flags %#x", flags);
    if (event->context != stream->context) {
        return refuse(CUDA_ERROR_INVALID_HANDLE, "the event and the stream belong to different contexts");
    }
    if (stream->capture) {
        W4AX_TRY(check_capture(*stream));
        if (flags) return refuse(CUDA_ERROR_NOT_SUPPORTED, "the software driver has no event nodes");
        event->capture = stream->capture;
        event->captured = stream->tail;
        event->record = nullptr;
        return CUDA_SUCCESS;
    }
    if (flags) return refuse(CUDA_ERROR_INVALID_VALUE, "CU_EVENT_RECORD_EXTERNAL outside of a capture");
    if (stream->is_legacy()) W4AX_TRY(check_implicit(*stream->context));
    event->record = enqueue(stream, {});
    event->seen = stream->seen;
    event->capture = nullptr;
    event->captured.clear();
    return CUDA_SUCCESS;
}

CUresult elapsed(float* milliseconds, CUevent start_handle, CUevent end_handle) {
    W4AX_NOT_NULL(milliseconds);
    Ref<Event> start, end;
    W4AX_TRY(find_event(start_handle, start));
    W4AX_TRY(find_event(end_handle, end));
    for (auto const& event : {start, end}) {
        W4AX_TRY(refuse_captured(*event, "cuEventElapsedTime"));
        if (event->flags & CU_EVENT_DISABLE_TIMING) {
            return refuse(CUDA_ERROR_INVALID_HANDLE, "the event was created with CU_EVENT_DISABLE_TIMING");
        }
        if (!event->record) return refuse(CUDA_ERROR_INVALID_HANDLE, "the event was never recorded");
    }
    if (start->context != end->context) {
        return refuse(CUDA_ERROR_INVALID_HANDLE, "the events belong to different contexts");
    }
    W4AX_TRY(check_failure(*start->context));
    for (auto const& event : {start, end}) {
        if (!event->record->done) return refuse(CUDA_ERROR_NOT_READY, "an event has not ended");
    }
    *milliseconds = std::chrono::duration<float, std::milli>(end->record->when - start->record->when).count();
    return CUDA_SUCCESS;
}

}  // namespace

}  // namespace w4ax_driver

using namespace w4ax_driver;

extern "C" {

CUresult cuEventCreate(CUevent* made, unsigned int flags) {
    W4AX_ENTRY(cuEventCreate);
    W4AX_NOT_NULL(made);
    if (flags & ~unsigned(CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING)) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "event flags %#x", flags);
    }
    Ref<Context> context;
    W4AX_TRY(current(context));
    auto const event = std::make_shared<Event>();
    event->handle = new_handle(HandleKind::event);
    event->context = context;
    event->flags = flags;
    driver().events[event->handle] = event;
    *made = reinterpret_cast<CUevent>(event->handle);
    return CUDA_SUCCESS;
}
CUresult cuEventDestroy_v2(CUevent handle) {
    W4AX_ENTRY(cuEventDestroy_v2);
    Ref<Event> event;
    W4AX_TRY(find_event(handle, event));
    driver().events.erase(event->handle);
    return check_failure(*event->context);
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
    W4AX_ENTRY(cuEventRecord);
    return record(event, stream, 0);
}
CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int flags) {
    W4AX_ENTRY(cuEventRecordWithFlags);
    return record(event, stream, flags);
}
CUresult cuEventQuery(CUevent handle) {
    W4AX_ENTRY(cuEventQuery);
    Ref<Event> event;
    W4AX_TRY(find_event(handle, event));
    W4AX_TRY(check_failure(*event->context));
    W4AX_TRY(refuse_captured(*event, "cuEventQuery"));
    W4AX_TRY(check_unsafe());
    if (!event->record) return CUDA_SUCCESS;
    if (!event->record->done) return refuse(CUDA_ERROR_NOT_READY, "the event has not ended");
    acquire(&event->record->ended);
    observe(event->seen);
    return CUDA_SUCCESS;
}
CUresult cuEventSynchronize(CUevent handle) {
    W4AX_ENTRY(cuEventSynchronize);
    Ref<Event> event;
    W4AX_TRY(find_event(handle, event));
    W4AX_TRY(check_failure(*event->context));
    W4AX_TRY(refuse_captured(*event, "cuEventSynchronize"));
    W4AX_TRY(check_unsafe());
    if (!event->record) return CUDA_SUCCESS;
    Ref<Fence> const fence = event->record;
    Progress const seen = event->seen;
    wait_for(fence, call.lock);
    observe(seen);
    return check_failure(*event->context);
}
CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    W4AX_ENTRY(cuEventElapsedTime);
    return elapsed(milliseconds, start, end);
}
CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
    W4AX_ENTRY(cuEventElapsedTime_v2);
    return elapsed(milliseconds, start, end);
}
CUresult cuStreamWaitEvent(CUstream stream_handle, CUevent handle, unsigned int flags) {
    W4AX_ENTRY(cuStreamWaitEvent);
    Ref<Stream> stream;
    W4AX_TRY(find_stream(stream_handle, stream));
    Ref<Event> event;
    W4AX_TRY(find_event(handle, event));
    W4AX_TRY(check_failure(*stream->context));
    if (flags) return refuse(CUDA_ERROR_NOT_SUPPORTED, "flags %#x: the software driver has no event nodes", flags);
    if (stream->capture) W4AX_TRY(check_capture(*stream));
    if (event->capture) return join_capture(*stream, *event);
    if (!event->record) return CUDA_SUCCESS;
    if (stream->capture) {
        invalidate(*stream->capture, "it waited for an event that was recorded outside of it");
        return refuse(CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
                      "the stream is being captured, and the event was recorded outside of the capture");
    }
    if (stream->is_legacy()) W4AX_TRY(check_implicit(*stream->context));
    for (auto const& [number, count] : event->seen) stream->seen[number] = std::max(stream->seen[number], count);
    enqueue(stream, {}, {event->record});
    return CUDA_SUCCESS;
}

}  // extern "C"
