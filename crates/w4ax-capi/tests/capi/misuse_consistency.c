/* Wrong calls for consistency rules and costs: each returns a status, and a bad action leads to the high profile.
 *
 *     misuse_consistency FOLDER */
#include "check.h"

static void put(const char *path, const char *text) {
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(text, 1, strlen(text), file) == strlen(text) && fclose(file) == 0);
}

static void costs(void) {
    static const double good[W4AX_WIDTHS] = {1, 2, 3, 4}, equal[W4AX_WIDTHS] = {1, 1, 1, 1};
    double bad[W4AX_WIDTHS] = {1, 0, 3, 4}, action[W4AX_ACTION_DIM] = {0.9};
    w4ax_width widths[W4AX_WIDTHS] = {7, 7, 7, 7};
    w4ax_dispatch_config config;
    w4ax_dispatcher *dispatcher = NULL;
    w4ax_decision decision;
    size_t count = 9, i;
    EXPECT(W4AX_NULL_POINTER, w4ax_useful_widths(NULL, widths, &count));
    EXPECT(W4AX_NULL_POINTER, w4ax_useful_widths(good, NULL, &count));
    EXPECT(W4AX_NULL_POINTER, w4ax_useful_widths(good, widths, NULL));
    EXPECT(W4AX_MISALIGNED, w4ax_useful_widths((const double *)odd(bad), widths, &count));
    EXPECT(W4AX_BAD_CONFIG, w4ax_useful_widths(bad, widths, &count));
    CHECK(count == 9 && widths[0] == 7);
    OK(w4ax_useful_widths(equal, widths, &count));
    CHECK(count == 1 && widths[0] == W4AX_BF16 && widths[1] == 0);

    OK(w4ax_dispatch_config_init(&config));
    config.mu_max = 0.9;
    config.nu_max = 0.2;
    config.theta_24 = 0.1;
    config.theta_48 = 0.3;
    OK(w4ax_dispatcher_create(&config, &dispatcher));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_set_costs(NULL, good));
    EXPECT(W4AX_BAD_CONFIG, w4ax_dispatcher_set_costs(dispatcher, bad));
    EXPECT(W4AX_MISALIGNED, w4ax_dispatcher_set_costs(dispatcher, (const double *)odd(bad)));
    for (i = 0; i < 10; i++) {
        OK(w4ax_dispatcher_observe(dispatcher, action, W4AX_ACTION_DIM));
        OK(w4ax_dispatcher_decide(dispatcher, &decision));
    }
    CHECK(decision.active == W4AX_A2);
    /* No width saves anything: BF16 at once, and A2 again once the costs are removed. */
    OK(w4ax_dispatcher_set_costs(dispatcher, equal));
    OK(w4ax_dispatcher_decide(dispatcher, &decision));
    CHECK(decision.target == W4AX_BF16 && decision.active == W4AX_BF16);
    OK(w4ax_dispatcher_set_costs(dispatcher, NULL));
    OK(w4ax_dispatcher_decide(dispatcher, &decision));
    CHECK(decision.target == W4AX_A2);
    w4ax_dispatcher_free(dispatcher);
}

static void configs(const char *folder) {
    static const double one[W4AX_WIDTHS] = {1, 2, 3, 4};
    static const char plain[] =
        "{\"format\": 1, \"lambda\": 0.5, \"window_macro\": 10, \"window_micro\": 5, \"k\": 4, \"theta_fp\": 0.5, "
        "\"theta_24\": 0.1, \"theta_48\": 0.3, \"eta\": 0.05, \"d_acc\": 0.07, "
        "\"tasks\": {\"Lift\": {\"mu_max\": 0.9, \"nu_max\": 0.2}}}";
    static const char with_errors[] =
        "{\"format\": 1, \"lambda\": 0.5, \"window_macro\": 10, \"window_micro\": 5, \"k\": 4, \"theta_fp\": 0.5, "
        "\"theta_24\": 0.1, \"theta_48\": 0.3, \"eta\": 0.05, \"d_acc\": 0.07, "
        "\"tasks\": {\"Lift\": {\"mu_max\": 0.9, \"nu_max\": 0.2}}, "
        "\"errors\": {\"a2\": 0.3, \"a4\": 0.05, \"a8\": 0.04, \"bf16\": 0.04}}";
    w4ax_consistency_config config, c;
    w4ax_consistency *consistency = NULL;
    w4ax_consistency_decision decision;
    double quantiles[W4AX_QUANTILES], bad[W4AX_WIDTHS] = {1, -1, 1, 1};
    size_t i, count = 9, dim = 9;
    w4ax_width floors[1];
    char path[4096];
    for (i = 0; i < W4AX_QUANTILES; i++) {
        quantiles[i] = (double)i;
    }
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_config_init(NULL));
    OK(w4ax_consistency_config_init(&config));
    EXPECT(W4AX_BAD_CONFIG, w4ax_consistency_create(&config, NULL, &consistency));
    config.mu_max = 0.9;
    config.nu_max = 0.2;
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_create(NULL, NULL, &consistency));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_create(&config, NULL, NULL));
    EXPECT(W4AX_BAD_CONFIG, w4ax_consistency_create(&config, "joints0:delta", &consistency));
#define NOT(expected, change)                                                                                          \
    do {                                                                                                               \
        c = config;                                                                                                    \
        change;                                                                                                        \
        EXPECT(expected, w4ax_consistency_create(&c, NULL, &consistency));                                             \
        CHECK(consistency == NULL);                                                                                    \
    } while (0)
    NOT(W4AX_BAD_CONFIG, c.mu_max = 0);
    NOT(W4AX_BAD_CONFIG, c.d_acc = -1);
    NOT(W4AX_BAD_CONFIG, c.eta = -1);
    NOT(W4AX_BAD_CONFIG, c.tau_max = 0);
    NOT(W4AX_BAD_CONFIG, c.tau = -1);
    NOT(W4AX_BAD_CONFIG, c.gate = 0);
    NOT(W4AX_BAD_CONFIG, c.alpha = 2);
    NOT(W4AX_BAD_CONFIG, c.max_chunk = 0);
    NOT(W4AX_BAD_CONFIG, c.max_chunk = W4AX_MAX_CHUNK + 1);
    NOT(W4AX_BAD_CONFIG, c.low = W4AX_A8);
    NOT(W4AX_BAD_WIDTH, c.high = 5);
    NOT(W4AX_NULL_POINTER, c.uncertainty_low = quantiles);
    NOT(W4AX_NULL_POINTER, c.uncertainty_high = quantiles);
    quantiles[7] = 0;
    NOT(W4AX_BAD_CONFIG, c.uncertainty_low = c.uncertainty_high = quantiles);
#undef NOT
    OK(w4ax_consistency_create(&config, "joints6:delta,gripper", &consistency));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_action_dim(NULL, &dim));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_action_dim(consistency, NULL));
    OK(w4ax_consistency_action_dim(consistency, &dim));
    CHECK(dim == 7);
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_floors(NULL, floors, 1, &count));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_floors(consistency, floors, 1, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_floors(consistency, NULL, 1, &count));
    OK(w4ax_consistency_floors(consistency, floors, 1, &count));
    CHECK(count == 0);
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_keep_uncertainty_online(NULL));
    w4ax_consistency_free(consistency);
    w4ax_consistency_free(NULL);

    snprintf(path, sizeof path, "%s/consistency.json", folder);
    EXPECT(W4AX_IO, w4ax_consistency_load("no such file", "Lift", one, 1, &consistency));
    put(path, plain);
    EXPECT(W4AX_BAD_CONFIG, w4ax_consistency_load(path, "Lift", one, 1, &consistency));
    CHECK(strstr(w4ax_last_error(), "errors") != NULL);
    put(path, with_errors);
    EXPECT(W4AX_BAD_CONFIG, w4ax_consistency_load(path, "Lift", NULL, 1, &consistency));
    CHECK(strstr(w4ax_last_error(), "costs") != NULL);
    EXPECT(W4AX_BAD_CONFIG, w4ax_consistency_load(path, "Lift", bad, 1, &consistency));
    EXPECT(W4AX_BAD_CONFIG, w4ax_consistency_load(path, "Stack", one, 1, &consistency));
    EXPECT(W4AX_BAD_CONFIG, w4ax_consistency_load(path, "Lift", one, 0, &consistency));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_load(NULL, "Lift", one, 1, &consistency));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_load(path, NULL, one, 1, &consistency));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_load(path, "Lift", one, 1, NULL));
    CHECK(consistency == NULL);
    OK(w4ax_consistency_load(path, "Lift", one, 1, &consistency));
    OK(w4ax_consistency_decide(consistency, &decision));
    CHECK(decision.width == W4AX_A4 && decision.reason == W4AX_CONSISTENCY_START);
    w4ax_consistency_free(consistency);
}

static void steps(void) {
    w4ax_consistency_config config;
    w4ax_consistency *consistency = NULL;
    w4ax_consistency_decision decision;
    w4ax_consistency_check check;
    double action[2 * W4AX_ACTION_DIM] = {0.1};
    float single[W4AX_ACTION_DIM] = {0.1f};
    size_t i;
    OK(w4ax_consistency_config_init(&config));
    config.mu_max = 0.9;
    config.nu_max = 0.2;
    OK(w4ax_consistency_create(&config, NULL, &consistency));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_decide(NULL, &decision));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_decide(consistency, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_verify(NULL, action, 7, &check));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_command(NULL, action, 7, W4AX_PROFILE_LOW));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_command(consistency, NULL, 7, W4AX_PROFILE_LOW));
    EXPECT(W4AX_BAD_ENUM, w4ax_consistency_command(consistency, action, 7, 2));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_observe(NULL, action, 7, 1, W4AX_PROFILE_HIGH, 0));
    EXPECT(W4AX_NULL_POINTER, w4ax_consistency_reset(NULL));
    /* An unreadable action is not accepted, whatever the state. */
    for (i = 0; i < 5; i++) {
        OK(w4ax_consistency_observe(consistency, action, 7, 1, W4AX_PROFILE_HIGH, 0));
        OK(w4ax_consistency_decide(consistency, &decision));
        CHECK(decision.profile == W4AX_PROFILE_LOW && decision.reason == W4AX_CONSISTENCY_TRY);
        switch (i) {
        case 0: EXPECT(W4AX_NULL_POINTER, w4ax_consistency_verify(consistency, NULL, 7, &check)); break;
        case 1: EXPECT(W4AX_MISALIGNED, w4ax_consistency_verify(consistency, (double *)odd(action), 7, &check)); break;
        case 2: EXPECT(W4AX_NULL_POINTER, w4ax_consistency_verify_f32(consistency, single, 7, NULL)); break;
        case 3:
            OK(w4ax_consistency_verify(consistency, action, 6, &check));
            CHECK(!check.accepted && check.distance != check.distance);
            break;
        default:
            OK(w4ax_consistency_verify_f32(consistency, single, 7, &check));
            CHECK(check.accepted && check.distance < 1e-6);
        }
        /* The run has been checked: the next one is final. */
        OK(w4ax_consistency_verify(consistency, action, 6, &check));
        CHECK(check.accepted && check.tolerance != check.tolerance);
    }
    /* A failed observation is a fault. */
    for (i = 0; i < 7; i++) {
        OK(w4ax_consistency_observe_f32(consistency, single, 7, 1, W4AX_PROFILE_LOW, 0));
        OK(w4ax_consistency_decide(consistency, &decision));
        CHECK(decision.reason == W4AX_CONSISTENCY_TRY);
        switch (i) {
        case 0: EXPECT(W4AX_NULL_POINTER, w4ax_consistency_observe(consistency, NULL, 7, 1, 1, 0)); break;
        case 1: EXPECT(W4AX_BAD_SHAPE, w4ax_consistency_observe(consistency, action, 6, 1, 1, 0)); break;
        case 2: EXPECT(W4AX_BAD_SHAPE, w4ax_consistency_observe(consistency, action, 14, 2, 1, 0)); break;
        case 3: EXPECT(W4AX_BAD_SHAPE, w4ax_consistency_observe(consistency, action, 7, 0, 1, 0)); break;
        case 4: EXPECT(W4AX_BAD_ENUM, w4ax_consistency_observe(consistency, action, 7, 1, 2, 0)); break;
        case 5: EXPECT(W4AX_MISALIGNED, w4ax_consistency_observe_f32(consistency, (float *)odd(single), 7, 1, 1, 0)); break;
        default:
            memset(&action[3], 0xFF, sizeof action[3]);
            EXPECT(W4AX_NOT_FINITE, w4ax_consistency_observe(consistency, action, 7, 1, 1, 0));
        }
        OK(w4ax_consistency_decide(consistency, &decision));
        CHECK(decision.profile == W4AX_PROFILE_HIGH && decision.reason == W4AX_CONSISTENCY_FAULT);
    }
    action[3] = 0;
    /* Online: the high profile until 100 steps of it had an uncertainty. */
    OK(w4ax_consistency_reset(consistency));
    OK(w4ax_consistency_keep_uncertainty_online(consistency));
    for (i = 0; i < 100; i++) {
        OK(w4ax_consistency_decide(consistency, &decision));
        CHECK(decision.reason == (i ? W4AX_CONSISTENCY_NO_UNCERTAINTY : W4AX_CONSISTENCY_START));
        OK(w4ax_consistency_observe(consistency, action, 7, 1, W4AX_PROFILE_HIGH, (double)(100 - i)));
    }
    OK(w4ax_consistency_decide(consistency, &decision));
    CHECK(decision.reason == W4AX_CONSISTENCY_TRY);
    OK(w4ax_consistency_observe(consistency, action, 7, 1, W4AX_PROFILE_HIGH, 95.0));
    OK(w4ax_consistency_decide(consistency, &decision));
    CHECK(decision.reason == W4AX_CONSISTENCY_GATE);
    w4ax_consistency_free(consistency);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: misuse_consistency FOLDER\n");
        return 2;
    }
    costs();
    configs(argv[1]);
    steps();
    return finish();
}
