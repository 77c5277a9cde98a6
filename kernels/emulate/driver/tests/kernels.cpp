// The kernels of the tests, and their set-up.
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <mutex>

#include "test.h"

namespace test {

char const add_key = 0, poll_key = 0, set_key = 0, fail_key = 0, big_key = 0, other_key = 0, slow_key = 0,
           raise_key = 0;
w4ax_grid last_grid;

namespace {

std::mutex order_mutex;

CUresult add(w4ax_kernel const*, w4ax_grid const* grid, char const**) {
    auto const& p = *static_cast<AddParams const*>(grid->parameter);
    for (std::uint64_t i = 0; i < p.count; ++i) p.values[i] += p.add;
    std::lock_guard<std::mutex> const lock(order_mutex);
    order().push_back(p.add);
    last_grid = *grid;
    return CUDA_SUCCESS;
}
int add_pointers(w4ax_kernel const*, void const* parameter, w4ax_pointer* out, int room) {
    auto const& p = *static_cast<AddParams const*>(parameter);
    if (room < 1) return 0;
    out[0] = {"values", p.values, p.count * 4, 4};
    return 1;
}
// The same without a lock, which would order the threads of streams.
CUresult slow(w4ax_kernel const*, w4ax_grid const* grid, char const**) {
    auto const& p = *static_cast<AddParams const*>(grid->parameter);
    usleep(20000);
    for (std::uint64_t i = 0; i < p.count; ++i) p.values[i] += p.add;
    return CUDA_SUCCESS;
}
CUresult poll(w4ax_kernel const*, w4ax_grid const* grid, char const**) {
    auto const& p = *static_cast<PollParams const*>(grid->parameter);
    while (__atomic_load_n(p.flag, __ATOMIC_ACQUIRE) == 0) usleep(100);
    *p.out = __atomic_load_n(p.flag, __ATOMIC_ACQUIRE);
    return CUDA_SUCCESS;
}
CUresult raise(w4ax_kernel const*, w4ax_grid const* grid, char const**) {
    __atomic_store_n(static_cast<PollParams const*>(grid->parameter)->out, 3u, __ATOMIC_RELEASE);
    return CUDA_SUCCESS;
}
CUresult set(w4ax_kernel const*, w4ax_grid const* grid, char const** error) {
    auto const& p = *static_cast<SetParams const*>(grid->parameter);
    CUresult const result = w4axDriverSetConditional(p.handle, p.value ? *p.value : 0);
    if (p.result) *p.result = int(result);
    *error = "the handle was refused";
    return p.result ? CUDA_SUCCESS : result;
}
CUresult fail(w4ax_kernel const*, w4ax_grid const*, char const** error) {
    *error = "it always fails";
    return CUDA_ERROR_LAUNCH_FAILED;
}

w4ax_kernel const add_kernel = {"add", &add_key, sizeof(AddParams), 256, 32, 0, 0, 0, add, add_pointers};
w4ax_kernel const slow_kernel = {"slow", &slow_key, sizeof(AddParams), 256, 32, 0, 0, 0, slow, add_pointers};
w4ax_kernel const poll_kernel = {"poll", &poll_key, sizeof(PollParams), 32, 32, 0, 0, 0, poll, nullptr};
w4ax_kernel const raise_kernel = {"raise", &raise_key, sizeof(PollParams), 32, 32, 0, 0, 0, raise, nullptr};
w4ax_kernel const set_kernel = {"set", &set_key, sizeof(SetParams), 32, 32, 0, 0, 1, set, nullptr};
w4ax_kernel const fail_kernel = {"fail", &fail_key, sizeof(AddParams), 32, 32, 0, 0, 0, fail, nullptr};
w4ax_kernel const big_kernel = {"big", &big_key, sizeof(AddParams), 1024, 128, 1024, 200 << 10, 0, add, nullptr};
w4ax_kernel const other_kernel = {"other", &other_key, sizeof(AddParams), 32, 32, 0, 0, 0, add, nullptr};

}  // namespace

std::vector<std::uint32_t>& order() {
    static auto* const all = new std::vector<std::uint32_t>;
    return *all;
}

void register_kernels() {
    w4ax_kernel const* const kernels[] = {&add_kernel, &slow_kernel, &poll_kernel, &raise_kernel,
                                          &set_kernel, &fail_kernel, &big_kernel};
    for (int capability : {80, 90, 120}) OK(w4axDriverRegisterKernels(W4AX_DRIVER_INTERFACE, kernels, 7, capability));
    // Code for sm_90 only.
    w4ax_kernel const* const other[] = {&other_kernel};
    OK(w4axDriverRegisterKernels(W4AX_DRIVER_INTERFACE, other, 1, 90));
}

bool refused_with(char const* part) { return std::strstr(w4axDriverLastRefusal(), part) != nullptr; }
std::string refusal_text(char const* part) {
    return std::string("the refusal \"") + w4axDriverLastRefusal() + "\" lacks \"" + part + "\"";
}
std::string describe(CUresult got, CUresult expected, char const* what) {
    char const *name = nullptr, *wanted = nullptr;
    cuGetErrorName(got, &name);
    cuGetErrorName(expected, &wanted);
    return std::string(what) + " returned " + (name ? name : "?") + " (" + w4axDriverLastRefusal() + "), expected " +
           (wanted ? wanted : "?");
}

Device::Device(int number) : ordinal(number) {
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&context, ordinal));
    OK(cuCtxSetCurrent(context));
    // Loads the kernels before any capture.
    CUfunction made = nullptr;
    for (char const* key : {&add_key, &slow_key, &poll_key, &raise_key, &set_key, &fail_key, &big_key}) {
        w4axDriverGetFunction(&made, key);
    }
}
Device::~Device() { cuDevicePrimaryCtxRelease(ordinal); }

CUstream make_stream(unsigned flags) {
    CUstream stream = nullptr;
    OK(cuStreamCreate(&stream, flags));
    return stream;
}
CUfunction function(char const& key) {
    CUfunction made = nullptr;
    OK(w4axDriverGetFunction(&made, &key));
    return made;
}
CUdeviceptr zeros(std::size_t words) {
    CUdeviceptr made = 0;
    OK(cuMemAlloc(&made, 4 * words));
    OK(cuMemsetD32(made, 0, words));
    OK(cuCtxSynchronize());
    return made;
}
std::uint32_t read(CUdeviceptr at, CUstream stream) {
    std::uint32_t value = 0;
    OK(cuMemcpyDtoHAsync(&value, at, 4, stream));
    OK(cuStreamSynchronize(stream));
    return value;
}
CUresult launch(CUstream stream, char const& key, void* parameter, unsigned shared) {
    CUfunction made = nullptr;
    CUresult const found = w4axDriverGetFunction(&made, &key);
    if (found != CUDA_SUCCESS) return found;
    void* parameters[] = {parameter};
    return cuLaunchKernel(made, 1, 1, 1, 32, 1, 1, shared, stream, parameters, nullptr);
}
CUresult launch_add(CUstream stream, CUdeviceptr at, std::uint64_t count, std::uint32_t add, bool programmatic) {
    AddParams params = {reinterpret_cast<std::uint32_t*>(at), count, add};
    void* parameters[] = {&params};
    CUlaunchAttribute attribute = {};
    attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
    CUlaunchConfig const config = {1, 1, 1, 32, 1, 1, 0, stream, &attribute, programmatic ? 1u : 0u};
    return cuLaunchKernelEx(&config, function(add_key), parameters, nullptr);
}
void expect_clean() {
    std::string const text = w4axDriverReport();
    expect_at("report", 0, text.empty(), "the report is not empty:\n" + text);
}

}  // namespace test
