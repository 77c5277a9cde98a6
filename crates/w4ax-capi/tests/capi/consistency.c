/* Runs a consistency rule, and prints a line per step for consistency.rs to compare.
 *
 *     consistency FILE CALIBRATION TASK
 *
 * FILE has a count of steps, the number of actions in a chunk, and for each step the chunk at the low and at the high
 * profile, and the uncertainties at both. The last lines are the floors of the calibration, and the useful widths of
 * four sets of costs. */
#include "check.h"

#define CHUNK 4

static void print_useful(double a2, double a4, double a8, double bf16) {
    double costs[W4AX_WIDTHS];
    w4ax_width widths[W4AX_WIDTHS] = {9, 9, 9, 9};
    size_t count = 9;
    costs[0] = a2;
    costs[1] = a4;
    costs[2] = a8;
    costs[3] = bf16;
    OK(w4ax_useful_widths(costs, widths, &count));
    printf("%u %u %u %u %u\n", (unsigned)count, (unsigned)widths[0], (unsigned)widths[1], (unsigned)widths[2],
           (unsigned)widths[3]);
}

int main(int argc, char **argv) {
    static const double bits[W4AX_WIDTHS] = {2, 4, 8, 16};
    w4ax_consistency *consistency = NULL;
    w4ax_width floors[32];
    size_t dim = 0, count = 0, i;
    uint32_t counts[2], step;
    FILE *file = argc == 4 ? fopen(argv[1], "rb") : NULL;
    if (!file || fread(counts, 4, 2, file) != 2 || counts[1] > CHUNK) {
        fprintf(stderr, "usage: consistency FILE CALIBRATION TASK\n");
        return 2;
    }
    OK(w4ax_consistency_load(argv[2], argv[3], bits, CHUNK, &consistency));
    OK(w4ax_consistency_action_dim(consistency, &dim));
    CHECK(dim == W4AX_ACTION_DIM);
    for (step = 0; step < counts[0]; step++) {
        double chunks[2][CHUNK * W4AX_ACTION_DIM], uncertainty[2], *chosen;
        size_t len = counts[1] * dim;
        w4ax_consistency_decision decision;
        w4ax_consistency_check check;
        w4ax_profile profile;
        w4ax_status observed;
        uint64_t distance, tolerance;
        if (fread(chunks[0], 8, len, file) != len || fread(chunks[1], 8, len, file) != len ||
            fread(uncertainty, 8, 2, file) != 2) {
            return 2;
        }
        OK(w4ax_consistency_decide(consistency, &decision));
        profile = decision.profile;
        OK(w4ax_consistency_verify(consistency, chunks[profile], len, &check));
        if (!check.accepted) {
            profile = W4AX_PROFILE_HIGH;
        }
        chosen = chunks[profile];
        OK(w4ax_consistency_command(consistency, chosen, len, profile));
        observed = w4ax_consistency_observe(consistency, chosen, len, counts[1] > 1 ? 2 : 1, profile,
                                            uncertainty[profile]);
        memcpy(&distance, &check.distance, 8);
        memcpy(&tolerance, &check.tolerance, 8);
        printf("%u %u %u %u %08x%08x %08x%08x %u\n", (unsigned)decision.profile, (unsigned)decision.width,
               (unsigned)decision.reason, (unsigned)check.accepted, (unsigned)(distance >> 32),
               (unsigned)(distance & 0xFFFFFFFFu), (unsigned)(tolerance >> 32), (unsigned)(tolerance & 0xFFFFFFFFu),
               (unsigned)observed);
    }
    OK(w4ax_consistency_floors(consistency, NULL, 0, &count));
    CHECK(count > 0 && count <= 32);
    OK(w4ax_consistency_floors(consistency, floors, 32, &count));
    for (i = 0; i < count; i++) {
        printf("%u%c", (unsigned)floors[i], i + 1 < count ? ' ' : '\n');
    }
    print_useful(1, 2, 3, 4);
    print_useful(1, 1, 1, 2);
    print_useful(7.2, 7.2, 8.5, 12.1);
    print_useful(1, 1, 1, 1);
    OK(w4ax_consistency_reset(consistency));
    w4ax_consistency_free(consistency);
    fclose(file);
    return finish();
}
