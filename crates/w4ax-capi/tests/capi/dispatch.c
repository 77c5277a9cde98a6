/* Runs a dispatcher and a flag, and prints a line per decision for dispatch.rs to compare.
 *
 *     dispatch FILE [LAYOUT]      10 values of a configuration, a count, and that many actions of the layout's doubles
 *
 * With a layout, the scale of the motion is kept online, and the last line is the scale. */
#include "check.h"

int main(int argc, char **argv) {
    double numbers[6], action[W4AX_MAX_ACTION], mu_max = 0, nu_max = 0;
    size_t dim = 0, dim_of_dispatcher = 0;
    const char *layout = argc == 3 ? argv[2] : NULL;
    uint32_t counts[4], steps, step;
    w4ax_dispatch_config config;
    w4ax_dispatcher *dispatcher = NULL;
    w4ax_flag flag = {0};
    FILE *file = argc >= 2 ? fopen(argv[1], "rb") : NULL;
    if (!file || fread(numbers, 8, 6, file) != 6 || fread(counts, 4, 4, file) != 4 || fread(&steps, 4, 1, file) != 1) {
        fprintf(stderr, "usage: dispatch FILE [LAYOUT]\n");
        return 2;
    }
    config.lambda = numbers[0];
    config.mu_max = numbers[1];
    config.nu_max = numbers[2];
    config.theta_24 = numbers[3];
    config.theta_48 = numbers[4];
    config.theta_fp = numbers[5];
    config.window_macro = counts[0];
    config.window_micro = counts[1];
    config.k = counts[2];
    config.algorithm = counts[3];
    OK(w4ax_layout_dim(layout, &dim));
    if (layout) {
        OK(w4ax_dispatcher_create_with_layout(&config, layout, &dispatcher));
        OK(w4ax_dispatcher_keep_scale_online(dispatcher));
    } else {
        OK(w4ax_dispatcher_create(&config, &dispatcher));
        CHECK(dim == W4AX_ACTION_DIM);
    }
    OK(w4ax_dispatcher_action_dim(dispatcher, &dim_of_dispatcher));
    CHECK(dim == dim_of_dispatcher && dim <= W4AX_MAX_ACTION);
    for (step = 0; step < steps; step++) {
        w4ax_decision decision;
        uint64_t sensitivity;
        w4ax_width width = 0, active = 0;
        uint32_t sequence = 0;
        OK(w4ax_dispatcher_decide(dispatcher, &decision));
        OK(w4ax_dispatcher_active(dispatcher, &active));
        CHECK(active == decision.active);
        OK(w4ax_flag_store(&flag, step, decision.active));
        OK(w4ax_flag_load(&flag, step, &width));
        CHECK(width == decision.active);
        OK(w4ax_flag_load(&flag, step + 1, &width));
        CHECK(width == W4AX_BF16);
        OK(w4ax_flag_read(&flag, &sequence, &width));
        CHECK(sequence == step && width == decision.active);
        CHECK(flag.word == ((uint64_t)step << 32 | decision.active));
        memcpy(&sensitivity, &decision.sensitivity, 8);
        if (fread(action, 8, dim, file) != dim) {
            return 2;
        }
        printf("%08x%08x %u %u %u %u %u %u\n", (unsigned)(sensitivity >> 32), (unsigned)(sensitivity & 0xFFFFFFFFu),
               (unsigned)decision.target, (unsigned)decision.active, (unsigned)decision.reason,
               (unsigned)decision.held_count, (unsigned)decision.held_pending,
               (unsigned)w4ax_dispatcher_observe(dispatcher, action, dim));
    }
    if (layout) {
        OK(w4ax_dispatcher_scale(dispatcher, &mu_max, &nu_max));
        printf("%.17g %.17g\n", mu_max, nu_max);
    }
    OK(w4ax_dispatcher_reset(dispatcher));
    w4ax_dispatcher_free(dispatcher);
    fclose(file);
    return finish();
}
