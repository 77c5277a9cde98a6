/* Wrong calls for dispatchers and flags: each returns a status, and a bad action switches to BF16.
 *
 *     misuse_dispatch FOLDER */
#include "check.h"

static void dispatching(void) {
    w4ax_dispatch_config config, c;
    w4ax_dispatcher *dispatcher = NULL;
    w4ax_decision decision;
    w4ax_width width = 0;
    double actions[14];
    float single[8];
    size_t i;
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatch_config_init(NULL));
    EXPECT(W4AX_MISALIGNED, w4ax_dispatch_config_init((w4ax_dispatch_config *)odd(&config)));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatch_config_load(NULL, "task", &config));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatch_config_load("file", NULL, &config));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatch_config_load("file", "task", NULL));
    EXPECT(W4AX_IO, w4ax_dispatch_config_load("no such file", "task", &config));
    OK(w4ax_dispatch_config_init(&config));
    EXPECT(W4AX_BAD_CONFIG, w4ax_dispatcher_create(&config, &dispatcher));
    config.mu_max = 0.9;
    config.nu_max = 0.2;
    config.theta_24 = 0.1;
    config.theta_48 = 0.3;
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_create(NULL, &dispatcher));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_create(&config, NULL));
#define NOT(expected, change)                                                                                          \
    do {                                                                                                               \
        c = config;                                                                                                    \
        change;                                                                                                        \
        EXPECT(expected, w4ax_dispatcher_create(&c, &dispatcher));                                                     \
        CHECK(dispatcher == NULL);                                                                                     \
    } while (0)
    NOT(W4AX_BAD_CONFIG, c.lambda = 2);
    NOT(W4AX_BAD_CONFIG, c.mu_max = 0);
    NOT(W4AX_BAD_CONFIG, c.nu_max = -1);
    NOT(W4AX_BAD_CONFIG, c.theta_48 = 0.05);
    NOT(W4AX_BAD_CONFIG, c.window_macro = 0);
    NOT(W4AX_BAD_CONFIG, c.window_micro = W4AX_MAX_WINDOW + 1);
    NOT(W4AX_BAD_CONFIG, c.k = 0);
    NOT(W4AX_BAD_ENUM, c.algorithm = 2);
#undef NOT
    OK(w4ax_dispatcher_create(&config, &dispatcher));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_decide(NULL, &decision));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_decide(dispatcher, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_active(NULL, &width));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_active(dispatcher, NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_reset(NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_observe(NULL, actions, 7));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_observe_f32(NULL, single, 7));

    /* Fast motion decreases the width; each invalid action increases it at once. */
    memset(actions, 0, sizeof actions);
    memset(single, 0, sizeof single);
    actions[0] = actions[7] = 0.9;
    single[0] = 0.9f;
    for (i = 0; i < 6; i++) {
        size_t step;
        OK(w4ax_dispatcher_reset(dispatcher));
        for (step = 0; step < 10; step++) {
            OK(step % 2 ? w4ax_dispatcher_observe(dispatcher, actions, 14)
                        : w4ax_dispatcher_observe_f32(dispatcher, single, 7));
            OK(w4ax_dispatcher_decide(dispatcher, &decision));
        }
        CHECK(decision.active == W4AX_A2);
        switch (i) {
        case 0: EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_observe(dispatcher, NULL, 7)); break;
        case 1: EXPECT(W4AX_MISALIGNED, w4ax_dispatcher_observe_f32(dispatcher, (float *)odd(single), 7)); break;
        case 2: EXPECT(W4AX_BAD_SHAPE, w4ax_dispatcher_observe(dispatcher, actions, 13)); break;
        case 3: EXPECT(W4AX_BAD_SHAPE, w4ax_dispatcher_observe_f32(dispatcher, NULL, 0)); break;
        case 4: EXPECT(W4AX_OUT_OF_RANGE, w4ax_dispatcher_observe(dispatcher, actions, SIZE_MAX)); break;
        default:
            memset(&actions[9], 0xFF, sizeof actions[9]);
            EXPECT(W4AX_NOT_FINITE, w4ax_dispatcher_observe(dispatcher, actions, 14));
        }
        OK(w4ax_dispatcher_active(dispatcher, &width));
        CHECK(width == W4AX_BF16);
        OK(w4ax_dispatcher_decide(dispatcher, &decision));
        CHECK(decision.active == W4AX_BF16 && decision.reason == W4AX_REASON_FAULT);
    }
    w4ax_dispatcher_free(dispatcher);
    w4ax_dispatcher_free(NULL);
}

/* Wrong layouts, and calibrations whose layout a configuration does not hold. `folder` is for a file. */
static void layouts(const char *folder) {
    static const char *const wrong[] = {"", "xyz", "joints0:delta", "gripper", "xyz:delta+joints6:absolute+xyz:delta",
                                        "joints64:absolute,gripper"};
    static const char calibration[] =
        "{\"format\": 2, \"lambda\": 0.5, \"window_macro\": 10, \"window_micro\": 5, \"k\": 4, \"theta_fp\": 0.5, "
        "\"theta_24\": 0.1, \"theta_48\": 0.3, \"eta\": 0.05, \"d_acc\": 0.07, \"layout\": \"joints2:absolute\", "
        "\"tasks\": {\"Lift\": {\"mu_max\": 0.9, \"nu_max\": 0.2}}}";
    w4ax_dispatch_config config;
    w4ax_dispatcher *dispatcher = NULL;
    w4ax_decision decision;
    double mu_max = 7, nu_max = 7, actions[4] = {0, 0, 0.9, 0};
    size_t i, dim = 9;
    char path[4096];
    FILE *file;
    OK(w4ax_dispatch_config_init(&config));
    config.mu_max = 0.9;
    config.nu_max = 0.2;
    config.theta_24 = 0.1;
    config.theta_48 = 0.3;
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        EXPECT(W4AX_BAD_CONFIG, w4ax_layout_dim(wrong[i], &dim));
        EXPECT(W4AX_BAD_CONFIG, w4ax_dispatcher_create_with_layout(&config, wrong[i], &dispatcher));
        CHECK(dispatcher == NULL && dim == 9);
    }
    EXPECT(W4AX_BAD_TEXT, w4ax_layout_dim("\xFF", &dim));
    EXPECT(W4AX_NULL_POINTER, w4ax_layout_dim("aloha", NULL));
    OK(w4ax_layout_dim("aloha", &dim));
    CHECK(dim == 14);
    OK(w4ax_layout_dim(NULL, &dim));
    CHECK(dim == W4AX_ACTION_DIM);
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_create_with_layout(NULL, "aloha", &dispatcher));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_create_with_layout(&config, "aloha", NULL));
    OK(w4ax_dispatcher_create_with_layout(&config, NULL, &dispatcher));
    OK(w4ax_dispatcher_action_dim(dispatcher, &dim));
    CHECK(dim == W4AX_ACTION_DIM);
    w4ax_dispatcher_free(dispatcher);

    snprintf(path, sizeof path, "%s/calibration.json", folder);
    file = fopen(path, "wb");
    CHECK(file && fwrite(calibration, 1, sizeof calibration - 1, file) == sizeof calibration - 1 && fclose(file) == 0);
    EXPECT(W4AX_BAD_CONFIG, w4ax_dispatch_config_load(path, "Lift", &config));
    CHECK(strstr(w4ax_last_error(), "w4ax_dispatcher_load") != NULL);
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_load(NULL, "Lift", &dispatcher));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_load(path, NULL, &dispatcher));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_load(path, "Lift", NULL));
    EXPECT(W4AX_BAD_CONFIG, w4ax_dispatcher_load(path, "Stack", &dispatcher));
    EXPECT(W4AX_IO, w4ax_dispatcher_load("no such file", "Lift", &dispatcher));
    CHECK(dispatcher == NULL);
    OK(w4ax_dispatcher_load(path, "Lift", &dispatcher));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_action_dim(NULL, &dim));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_action_dim(dispatcher, NULL));
    OK(w4ax_dispatcher_action_dim(dispatcher, &dim));
    CHECK(dim == 2);
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_keep_scale_online(NULL));
    OK(w4ax_dispatcher_keep_scale_online(dispatcher));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_scale(NULL, &mu_max, &nu_max));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_scale(dispatcher, NULL, &nu_max));
    EXPECT(W4AX_NULL_POINTER, w4ax_dispatcher_scale(dispatcher, &mu_max, NULL));
    CHECK(mu_max == 7 && nu_max == 7);
    OK(w4ax_dispatcher_scale(dispatcher, &mu_max, &nu_max));
    CHECK(mu_max == 0.9 && nu_max == 0.2);
    /* The first action has no motion, the second has the speed of the scale. */
    OK(w4ax_dispatcher_observe(dispatcher, actions, 2));
    OK(w4ax_dispatcher_decide(dispatcher, &decision));
    CHECK(decision.active == W4AX_BF16 && decision.reason == W4AX_REASON_START);
    OK(w4ax_dispatcher_observe(dispatcher, &actions[2], 2));
    OK(w4ax_dispatcher_decide(dispatcher, &decision));
    CHECK(decision.target == W4AX_A2 && decision.sensitivity == 0);
    EXPECT(W4AX_BAD_SHAPE, w4ax_dispatcher_observe(dispatcher, actions, 3));
    w4ax_dispatcher_free(dispatcher);
}

static void flags(void) {
    w4ax_flag pair[2];
    w4ax_flag *flag = &pair[0], *askew = (w4ax_flag *)(void *)((char *)pair + 4);
    uint32_t sequence = 9;
    w4ax_width width = 9;
    memset(pair, 0, sizeof pair);
    EXPECT(W4AX_NULL_POINTER, w4ax_flag_store(NULL, 1, W4AX_A4));
    EXPECT(W4AX_MISALIGNED, w4ax_flag_store(askew, 1, W4AX_A4));
    EXPECT(W4AX_BAD_WIDTH, w4ax_flag_store(flag, 1, 5));
    CHECK(flag->word == 0);
    EXPECT(W4AX_NULL_POINTER, w4ax_flag_clear(NULL));
    EXPECT(W4AX_NULL_POINTER, w4ax_flag_load(NULL, 1, &width));
    EXPECT(W4AX_NULL_POINTER, w4ax_flag_load(flag, 1, NULL));
    EXPECT(W4AX_MISALIGNED, w4ax_flag_load(askew, 1, &width));
    EXPECT(W4AX_NULL_POINTER, w4ax_flag_read(NULL, &sequence, &width));
    EXPECT(W4AX_NULL_POINTER, w4ax_flag_read(flag, NULL, &width));
    EXPECT(W4AX_NULL_POINTER, w4ax_flag_read(flag, &sequence, NULL));
    OK(w4ax_flag_read(flag, &sequence, &width));
    CHECK(sequence == 0 && width == 0);
    OK(w4ax_flag_load(flag, 0, &width));
    CHECK(width == W4AX_BF16);
    OK(w4ax_flag_store(flag, 1, W4AX_A4));
    OK(w4ax_flag_clear(flag));
    OK(w4ax_flag_load(flag, 1, &width));
    CHECK(width == W4AX_BF16 && flag->word == 0);
    flag->word = ((uint64_t)3 << 32) | 0x104; /* width 4, and a reserved bit */
    OK(w4ax_flag_load(flag, 3, &width));
    CHECK(width == W4AX_BF16);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: misuse_dispatch FOLDER\n");
        return 2;
    }
    dispatching();
    layouts(argv[1]);
    flags();
    return finish();
}
