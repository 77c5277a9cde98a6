// A client outside of this repository: packs a weight, saves it, loads it, and multiplies.
//
//     client FILE      prints the bits of y, one token per line
#include <w4ax.h>

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

void ok(w4ax_status status) {
    if (status != W4AX_OK) throw std::runtime_error(std::string(w4ax_status_text(status)) + ": " + w4ax_last_error());
}

using Weight = std::unique_ptr<w4ax_weight, decltype(&w4ax_weight_free)>;
using File = std::unique_ptr<w4ax_file, decltype(&w4ax_file_free)>;

Weight pack(std::vector<float> const& plain, size_t n, size_t k) {
    w4ax_quantize_args args = {};
    args.w = plain.data();
    args.w_len = plain.size();
    args.w_stride = k;
    args.n = n;
    args.k = k;
    args.w_type = W4AX_TYPE_F32;
    args.grouping = W4AX_G64;
    args.symmetry = W4AX_ASYMMETRIC;
    args.scale_type = W4AX_TYPE_BF16;
    w4ax_weight* weight = nullptr;
    ok(w4ax_weight_quantize(&args, &weight));
    return Weight(weight, w4ax_weight_free);
}

void run(char const* path) {
    size_t const m = 3, n = 20, k = 100;
    std::vector<float> plain(n * k);
    for (size_t i = 0; i < plain.size(); ++i) plain[i] = float(int(i * 7919 % 201) - 100) / 128;
    {
        Weight const weight = pack(plain, n, k);
        w4ax_file* file = nullptr;
        ok(w4ax_file_create(&file));
        File const owned(file, w4ax_file_free);
        ok(w4ax_file_insert(file, "layer", weight.get()));
        ok(w4ax_file_save(file, path));
    }
    w4ax_file* file = nullptr;
    ok(w4ax_file_load(path, 1, &file));
    File const owned(file, w4ax_file_free);
    w4ax_weight* weight = nullptr;
    ok(w4ax_file_get(file, "layer", &weight));
    Weight const held(weight, w4ax_weight_free);

    w4ax_cpu* cpu = nullptr;
    ok(w4ax_cpu_create(nullptr, 1, &cpu));
    std::unique_ptr<w4ax_cpu, decltype(&w4ax_cpu_free)> const cpu_held(cpu, w4ax_cpu_free);
    w4ax_workspace* workspace = nullptr;
    ok(w4ax_workspace_create(cpu, m, k, &workspace));
    std::unique_ptr<w4ax_workspace, decltype(&w4ax_workspace_free)> const room(workspace, w4ax_workspace_free);

    // 1, 0.5 and 0.25 in BF16, which is the upper half of a float.
    std::vector<uint16_t> x(m * k), y(m * n);
    for (size_t i = 0; i < x.size(); ++i) x[i] = uint16_t(i % 3 == 0 ? 0x3F80 : i % 3 == 1 ? 0x3F00 : 0x3E80);
    w4ax_gemm_args args = {};
    args.weight = weight;
    args.x = x.data();
    args.x_len = x.size();
    args.x_stride = k;
    args.y = y.data();
    args.y_len = y.size();
    args.y_stride = n;
    args.m = m;
    args.n = n;
    args.k = k;
    args.width = W4AX_A8;
    ok(w4ax_cpu_gemm(cpu, &args, workspace));
    for (size_t i = 0; i < m; ++i)
        for (size_t j = 0; j < n; ++j) std::printf("%04x%c", unsigned(y[i * n + j]), j + 1 < n ? ' ' : '\n');
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: client FILE\n");
        return 2;
    }
    try {
        run(argv[1]);
    } catch (std::exception const& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
