// Runs requests from standard input. Each sanitizer needs a process: its runtime must be loaded first.
//
// The protocol is lines of text, with raw bytes between them. A request is
//
//   case FUNCTION               w4axk_FUNCTION: gemm, quantize_pack, gather, latch, plan_gemm or packed_bytes;
//                               row_op: w4axk_row_op_launch; or a sequence:
//                               step     a latch, then the gemm. The latch's flags are `latch_flags`.
//                               fused_gemm  a row operation into `packed` (mode W4AXK_PACKED) or `rows`, then the gemm
//                                        of its result
//                               ordered  a gather of x into `gathered`, then the gemm of `gathered`
//                               skip     begins a step of gaps, then decides about each of their layers in order.
//                                        Handles 0 to 3 are the gaps' first controllers, 4 the layer, 5 its adapter,
//                                        6 the next layer's controller.
//                               While a latch runs, the host stores the word `late_word`, if given, after the latch has
//                               loaded the flag `late_after` times.
//   set OPTION INTEGER          seed, cp_async, schedule or bf16_sum: see emulate_api.h. A case starts with defaults.
//   arg NAME INTEGER            a field of the function's arguments. A field that is not given is 0.
//   in NAME BYTES ALIGN SHIFT   a buffer for the pointer of that name, followed by its bytes. A pointer without a
//   io NAME BYTES ALIGN SHIFT   buffer is null. The buffer has exactly that size and starts SHIFT bytes past a multiple
//                               of ALIGN. `in` must not be written to; the reply contains `io`.
//   run
//
// The reply is
//
//   counter NAME INTEGER        several
//   value NAME INTEGER          integers that the function returned by pointer (plan_gemm, packed_bytes), or what it
//                               did (latch, skip)
//   io NAME BYTES               for each `io`, followed by its bytes
//   done STATUS                 the w4axk_status
//
// or, for an error of the emulator or an input that was written to, only
//
//   error TEXT
//
// A sanitizer's report and an invalid request end the process, with the reason on standard error.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "emulate/emulate_api.h"
#include "emulate/engine/sanitizers.h"
#include "api/w4ax_kernels.h"
#include "api/w4ax_order.h"
#include "api/w4ax_row_op.h"
#include "api/w4ax_skip.h"

namespace {

/// A buffer of exactly its size: ASan detects accesses right before and after it.
class Buffer {
public:
    Buffer(std::size_t bytes, std::size_t align, std::size_t shift, bool input)
        : bytes_(bytes), shift_(shift), input_(input) {
        if (align < sizeof(void*)) align = sizeof(void*);
        if (posix_memalign(&base_, align, shift + bytes ? shift + bytes : 1)) std::abort();
        w4ax_emulate::poison(base_, shift);
    }
    Buffer(Buffer const&) = delete;
    ~Buffer() {
        w4ax_emulate::unpoison(base_, shift_);
        std::free(base_);
    }
    void* data() { return static_cast<char*>(base_) + shift_; }
    std::size_t bytes() const { return bytes_; }
    bool input() const { return input_; }
    void keep() { before_.assign(static_cast<char*>(data()), static_cast<char*>(data()) + bytes_); }
    bool changed() { return bytes_ && std::memcmp(before_.data(), data(), bytes_) != 0; }

private:
    void* base_ = nullptr;
    std::size_t bytes_, shift_;
    bool input_;
    std::vector<char> before_;
};

struct Case {
    std::string function;
    std::map<std::string, long long> arguments;
    std::map<std::string, Buffer> buffers;

    long long argument(char const* name) const {
        auto const found = arguments.find(name);
        return found == arguments.end() ? 0 : found->second;
    }
    void* pointer(char const* name) {
        auto const found = buffers.find(name);
        return found == buffers.end() ? nullptr : found->second.data();
    }
    std::size_t size(char const* name) {
        auto const found = buffers.find(name);
        return found == buffers.end() ? 0 : found->second.bytes();
    }
};

[[noreturn]] void refuse(char const* what, char const* line) {
    std::fprintf(stderr, "runner: %s: %s\n", what, line);
    std::exit(3);
}

void set_option(std::string const& name, long long value) {
    if (name == "seed")
        w4ax_emulate_set_seed(static_cast<std::uint64_t>(value));
    else if (name == "cp_async")
        w4ax_emulate_set_cp_async(static_cast<int>(value));
    else if (name == "schedule")
        w4ax_emulate_set_schedule(static_cast<int>(value));
    else if (name == "bf16_sum")
        w4ax_emulate_set_bf16_sum(static_cast<int>(value));
    else
        refuse("unknown option", name.c_str());
}

/// Reads a request. Returns false at the end of the input.
bool read_case(Case& one) {
    char line[256], name[128], kind[8];
    bool started = false;
    while (std::fgets(line, sizeof line, stdin)) {
        long long value = 0;
        std::size_t bytes = 0, align = 0, shift = 0;
        if (std::sscanf(line, "case %127s", name) == 1) {
            started = true;
            one.function = name;
        } else if (!started) {
            refuse("expected `case`", line);
        } else if (std::sscanf(line, "set %127s %lld", name, &value) == 2) {
            set_option(name, value);
        } else if (std::sscanf(line, "arg %127s %lld", name, &value) == 2) {
            one.arguments[name] = value;
        } else if (std::sscanf(line, "%7s %127s %zu %zu %zu", kind, name, &bytes, &align, &shift) == 5 &&
                   (!std::strcmp(kind, "in") || !std::strcmp(kind, "io"))) {
            bool const input = !std::strcmp(kind, "in");
            auto const made = one.buffers.emplace(std::piecewise_construct, std::forward_as_tuple(name),
                                                  std::forward_as_tuple(bytes, align, shift, input));
            if (!made.second) refuse("repeated buffer", line);
            Buffer& buffer = made.first->second;
            if (std::fread(buffer.data(), 1, bytes, stdin) != bytes) refuse("the input ends inside a buffer", line);
            if (input) buffer.keep();
        } else if (!std::strcmp(line, "run\n")) {
            return true;
        } else {
            refuse("invalid line of a request", line);
        }
    }
    if (started) refuse("the input ends inside a request", "");
    return false;
}

void put_value(char const* name, unsigned long long value) { std::printf("value %s %llu\n", name, value); }

w4axk_gemm_args gemm_arguments(Case& one) {
    w4axk_gemm_args args = {};
    args.weight.tiles = one.pointer("tiles");
    args.weight.scales = one.pointer("scales");
    args.weight.zeros = static_cast<std::int8_t const*>(one.pointer("zeros"));
    args.weight.sums = one.pointer("sums");
    args.weight.steps = static_cast<std::uint16_t const*>(one.pointer("steps"));
    args.weight.n = static_cast<std::uint32_t>(one.argument("n"));
    args.weight.k = static_cast<std::uint32_t>(one.argument("k"));
    args.weight.group = static_cast<std::uint32_t>(one.argument("group"));
    args.weight.scale_type = static_cast<std::uint32_t>(one.argument("scale_type"));
    args.weight.scheme = static_cast<std::uint32_t>(one.argument("scheme"));
    args.weight.reserved = static_cast<std::uint32_t>(one.argument("weight_reserved"));
    args.x = one.pointer("x");
    args.x_stride = one.argument("x_stride");
    args.y = one.pointer("y");
    args.y_stride = one.argument("y_stride");
    args.bias = static_cast<float const*>(one.pointer("bias"));
    args.workspace = one.pointer("workspace");
    args.workspace_bytes = one.size("workspace");
    args.m = static_cast<std::uint32_t>(one.argument("m"));
    args.width = static_cast<std::uint32_t>(one.argument("width"));
    args.family = static_cast<std::uint32_t>(one.argument("family"));
    args.mode = static_cast<std::uint32_t>(one.argument("mode"));
    args.tile = static_cast<std::uint32_t>(one.argument("tile"));
    args.flags = static_cast<std::uint32_t>(one.argument("flags"));
    args.device = static_cast<std::int32_t>(one.argument("device"));
    args.reserved = static_cast<std::uint32_t>(one.argument("reserved"));
    args.latch = static_cast<w4axk_latch_state const*>(one.pointer("latch"));
    return args;
}

w4axk_quantize_args quantize_arguments(Case& one) {
    w4axk_quantize_args args = {};
    args.x = one.pointer("x");
    args.x_stride = one.argument("x_stride");
    args.packed = one.pointer("packed");
    args.packed_bytes = one.size("packed");
    args.m = static_cast<std::uint32_t>(one.argument("m"));
    args.k = static_cast<std::uint32_t>(one.argument("k"));
    args.width = static_cast<std::uint32_t>(one.argument("width"));
    args.group = static_cast<std::uint32_t>(one.argument("group"));
    args.family = static_cast<std::uint32_t>(one.argument("family"));
    args.flags = static_cast<std::uint32_t>(one.argument("flags"));
    args.device = static_cast<std::int32_t>(one.argument("device"));
    args.reserved = static_cast<std::uint32_t>(one.argument("reserved"));
    args.latch = static_cast<w4axk_latch_state const*>(one.pointer("latch"));
    return args;
}

int gather(Case& one) {
    w4axk_gather_args args = {};
    args.x = one.pointer("x");
    args.x_stride = one.argument("x_stride");
    args.order = static_cast<std::uint32_t const*>(one.pointer("order"));
    args.y = one.pointer("gathered");
    args.y_stride = one.argument("gathered_stride");
    args.m = static_cast<std::uint32_t>(one.argument("m"));
    args.k = static_cast<std::uint32_t>(one.argument("k"));
    args.kernel = static_cast<std::uint32_t>(one.argument("kernel"));
    args.flags = static_cast<std::uint32_t>(one.argument("flags"));
    args.device = static_cast<std::int32_t>(one.argument("device"));
    args.reserved = static_cast<std::uint32_t>(one.argument("reserved"));
    return w4axk_gather(&args, nullptr);
}

int row_op(Case& one) {
    w4axk_row_op_args args = {};
    args.x = one.pointer("x");
    args.x_stride = one.argument("x_stride");
    args.factor = one.pointer("factor");
    args.factor_stride = one.argument("factor_stride");
    args.addend = one.pointer("addend");
    args.addend_stride = one.argument("addend_stride");
    args.y = one.pointer("rows");
    args.y_stride = one.argument("rows_stride");
    args.packed = one.pointer("packed");
    args.packed_bytes = one.size("packed");
    args.m = static_cast<std::uint32_t>(one.argument("m"));
    args.k = static_cast<std::uint32_t>(one.argument("k"));
    args.width = static_cast<std::uint32_t>(one.argument("width"));
    args.group = static_cast<std::uint32_t>(one.argument("group"));
    args.family = static_cast<std::uint32_t>(one.argument("family"));
    args.op = static_cast<std::uint32_t>(one.argument("op"));
    args.x_type = static_cast<std::uint32_t>(one.argument("x_type"));
    args.kernel = static_cast<std::uint32_t>(one.argument("kernel"));
    auto const eps = static_cast<std::uint32_t>(one.argument("eps"));  // the bits of a float
    std::memcpy(&args.eps, &eps, sizeof args.eps);
    args.flags = static_cast<std::uint32_t>(one.argument("flags"));
    args.device = static_cast<std::int32_t>(one.argument("device"));
    args.reserved = static_cast<std::uint32_t>(one.argument("reserved"));
    args.latch = static_cast<w4axk_latch_state const*>(one.pointer("latch"));
    return w4axk_row_op_launch(&args, nullptr);
}

int latch(Case& one) {
    w4axk_latch_args args = {};
    args.state = static_cast<w4axk_latch_state*>(one.pointer("latch"));
    args.flag = static_cast<std::uint64_t const*>(one.pointer("flag"));
    args.executed = static_cast<std::uint64_t*>(one.pointer("executed"));
    args.conditional_count = static_cast<std::uint32_t>(one.argument("conditional_count"));
    for (unsigned i = 0; i < 4; ++i) args.conditionals[i] = i;
    args.spin_us = static_cast<std::uint32_t>(one.argument("spin_us"));
    args.forced = static_cast<std::uint32_t>(one.argument("forced"));
    args.flags = static_cast<std::uint32_t>(one.argument("latch_flags"));
    args.device = static_cast<std::int32_t>(one.argument("device"));
    args.reserved = static_cast<std::uint32_t>(one.argument("reserved"));
    w4ax_emulate_reset_flag();
    std::atomic<bool> latched{false};
    std::thread host;
    if (one.arguments.count("late_word")) {
        auto* const flag = static_cast<std::uint64_t*>(one.pointer("flag"));
        auto const word = static_cast<std::uint64_t>(one.argument("late_word"));
        auto const after = static_cast<std::uint64_t>(one.argument("late_after"));
        host = std::thread([=, &latched] {
            while (w4ax_emulate_flag_loads() < after && !latched) std::this_thread::yield();
            // After the latch has ended, the word is not stored: nothing would read it.
            if (!latched) __atomic_store_n(flag, word, __ATOMIC_RELEASE);
        });
    }
    int const status = w4axk_latch(&args, nullptr);
    latched = true;
    if (host.joinable()) host.join();
    put_value("flag_loads", w4ax_emulate_flag_loads());
    put_value("conditionals_set", w4ax_emulate_conditionals_set());
    for (unsigned i = 0; i < 4; ++i)
        put_value(("conditional" + std::to_string(i)).c_str(), w4ax_emulate_conditional(i));
    return status;
}

/// Buffers: hidden [layers, hidden_len], bias [layers], report [layers]; allow, first, end and gaps, each [gaps].
int skip(Case& one) {
    auto const* const first = static_cast<std::uint32_t const*>(one.pointer("first"));
    auto const* const end = static_cast<std::uint32_t const*>(one.pointer("end"));
    w4axk_skip_begin_args begin = {};
    begin.state = static_cast<w4axk_skip_state*>(one.pointer("state"));
    begin.gaps = static_cast<w4axk_skip_gap*>(one.pointer("gaps"));
    begin.allow = static_cast<std::uint64_t const*>(one.pointer("allow"));
    begin.gap_count = static_cast<std::uint32_t>(one.argument("gap_count"));
    for (std::uint32_t i = 0; i < begin.gap_count && i < one.size("first") / 4 && i < W4AXK_MAX_SKIP_GAPS; ++i) {
        begin.first[i] = first[i];
        begin.end[i] = end[i];
        begin.controllers[i] = i;
    }
    begin.flags = static_cast<std::uint32_t>(one.argument("begin_flags"));
    begin.device = static_cast<std::int32_t>(one.argument("device"));
    begin.reserved = static_cast<std::uint32_t>(one.argument("begin_reserved"));
    w4ax_emulate_reset_flag();
    if (int const status = w4axk_skip_begin(&begin, nullptr); status != W4AXK_OK) return status;
    put_value("flag_loads", w4ax_emulate_flag_loads());
    for (std::uint32_t i = 0; i < begin.gap_count && i < 4; ++i)
        put_value(("controller" + std::to_string(first[i])).c_str(), w4ax_emulate_conditional(i));
    auto const hidden_len = static_cast<std::uint32_t>(one.argument("hidden_len"));
    for (std::uint32_t i = 0; i < begin.gap_count; ++i) {
        for (std::uint32_t layer = first[i]; layer < end[i]; ++layer) {
            w4axk_skip_decide_args decide = {};
            decide.state = begin.state;
            decide.gap = begin.gaps + i;
            if (auto const* const hidden = static_cast<std::uint16_t const*>(one.pointer("hidden")))
                decide.hidden = hidden + std::size_t(layer) * hidden_len;
            decide.out = static_cast<float const*>(one.pointer("out"));
            if (auto* const report = static_cast<std::uint64_t*>(one.pointer("report"))) decide.report = report + layer;
            decide.run_layer = 4;
            decide.run_adapter = 5;
            decide.next_controller = 6;
            decide.has_next = static_cast<std::uint32_t>(layer + 1 < end[i]);
            decide.has_next += static_cast<std::uint32_t>(one.argument("more_next"));
            decide.hidden_len = hidden_len;
            decide.layer = layer;
            decide.bias = static_cast<float const*>(one.pointer("bias"))[layer];
            decide.threshold = static_cast<float const*>(one.pointer("threshold"))[0];
            decide.flags = static_cast<std::uint32_t>(one.argument("flags"));
            decide.device = begin.device;
            decide.reserved = static_cast<std::uint32_t>(one.argument("reserved"));
            w4ax_emulate_reset_flag();
            if (int const status = w4axk_skip_decide(&decide, nullptr); status != W4AXK_OK) return status;
            put_value(("layer" + std::to_string(layer)).c_str(), w4ax_emulate_conditional(4));
            put_value(("adapter" + std::to_string(layer)).c_str(), w4ax_emulate_conditional(5));
            if (decide.has_next)
                put_value(("controller" + std::to_string(layer + 1)).c_str(), w4ax_emulate_conditional(6));
            put_value(("sets" + std::to_string(layer)).c_str(), w4ax_emulate_conditionals_set());
        }
    }
    return W4AXK_OK;
}

int call(Case& one) {
    if (one.function == "latch") return latch(one);
    if (one.function == "step") {
        if (int const status = latch(one); status != W4AXK_OK) return status;
        w4axk_gemm_args const args = gemm_arguments(one);
        return w4axk_gemm(&args, nullptr);
    }
    if (one.function == "gather") return gather(one);
    if (one.function == "row_op") return row_op(one);
    if (one.function == "skip") return skip(one);
    if (one.function == "fused_gemm") {
        if (int const status = row_op(one); status != W4AXK_OK) return status;
        w4axk_gemm_args args = gemm_arguments(one);
        args.x = one.pointer(args.mode == W4AXK_PACKED ? "packed" : "rows");
        args.x_stride = one.argument("rows_stride");
        return w4axk_gemm(&args, nullptr);
    }
    if (one.function == "ordered") {
        if (int const status = gather(one); status != W4AXK_OK) return status;
        w4axk_gemm_args args = gemm_arguments(one);
        args.x = one.pointer("gathered");
        args.x_stride = one.argument("gathered_stride");
        return w4axk_gemm(&args, nullptr);
    }
    if (one.function == "gemm") {
        w4axk_gemm_args const args = gemm_arguments(one);
        return w4axk_gemm(&args, nullptr);
    }
    if (one.function == "quantize_pack") {
        w4axk_quantize_args const args = quantize_arguments(one);
        return w4axk_quantize_pack(&args, nullptr);
    }
    if (one.function == "plan_gemm") {
        w4axk_gemm_args const args = gemm_arguments(one);
        w4axk_plan plan = {};
        int const status = w4axk_plan_gemm(&args, &plan);
        put_value("workspace_bytes", plan.workspace_bytes);
        put_value("family", plan.family);
        put_value("mode", plan.mode);
        put_value("tile", plan.tile);
        put_value("launches", plan.launches);
        put_value("kernel", plan.kernel);
        put_value("tile_n", plan.tile_n);
        put_value("tile_m", plan.tile_m);
        put_value("blocks", plan.blocks);
        put_value("slow_x", plan.slow_x);
        put_value("slow_y", plan.slow_y);
        return status;
    }
    if (one.function == "packed_bytes") {
        std::uint64_t bytes = 0;
        auto const argument = [&](char const* name) { return static_cast<std::uint32_t>(one.argument(name)); };
        int const status = w4axk_packed_bytes(argument("m"), argument("k"), argument("width"), argument("group"),
                                              argument("family"), &bytes);
        put_value("bytes", bytes);
        return status;
    }
    refuse("unknown function", one.function.c_str());
}

void put_counters() {
    w4ax_emulate_counters c;
    w4ax_emulate_get_counters(&c);
    struct {
        char const* name;
        std::uint64_t value;
    } const all[] = {{"launches", c.launches},
                     {"blocks", c.blocks},
                     {"barriers", c.barriers},
                     {"mma", c.mma},
                     {"ldmatrix", c.ldmatrix},
                     {"ldmatrix_phases", c.ldmatrix_phases},
                     {"ldmatrix_conflicts", c.ldmatrix_conflicts},
                     {"async_copies", c.async_copies},
                     {"global_bytes_read", c.global_bytes_read},
                     {"switches", c.switches}};
    for (auto const& one : all) std::printf("counter %s %llu\n", one.name, static_cast<unsigned long long>(one.value));
}

}  // namespace

int main() {
    if (w4axk_status const status = w4axk_preload(0); status != W4AXK_OK) {
        refuse("w4axk_preload", w4axk_status_text(status));
    }
    for (;;) {
        Case one;
        for (auto option : {"cp_async", "schedule"}) set_option(option, -1);
        for (auto option : {"seed", "bf16_sum"}) set_option(option, 0);
        if (!read_case(one)) return 0;
        w4ax_emulate_clear_error();
        w4ax_emulate_reset_counters();
        w4ax_emulate_clear_constants();
        for (auto weights : {"tiles", "scales", "zeros", "sums", "steps"}) {
            if (one.size(weights)) w4ax_emulate_add_constant(one.pointer(weights), one.size(weights));
        }
        int const status = call(one);
        w4ax_emulate_synchronize();
        std::string error = w4ax_emulate_last_error();
        for (auto& [name, buffer] : one.buffers) {
            if (error.empty() && buffer.input() && buffer.changed()) error = "the input " + name + " was written to";
        }
        if (!error.empty()) {
            for (char& letter : error) letter = letter == '\n' ? ' ' : letter;
            std::printf("error %s\n", error.c_str());
        } else {
            put_counters();
            for (auto& [name, buffer] : one.buffers) {
                if (buffer.input()) continue;
                std::printf("io %s %zu\n", name.c_str(), buffer.bytes());
                std::fwrite(buffer.data(), 1, buffer.bytes(), stdout);
            }
            std::printf("done %d\n", status);
        }
        std::fflush(stdout);
    }
}
