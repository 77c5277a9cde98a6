/* What the test programs share: a check that says where it failed. Plain C99 that is C++ as well. */
#ifndef CHECK_H
#define CHECK_H

#include "w4ax.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

#define CHECK(condition)                                                                                                         \
    do {                                                                                                                         \
        if (!(condition)) {                                                                                                      \
            fprintf(stderr, "%s:%d: %s\n  last error: %s\n", __FILE__, __LINE__, #condition, w4ax_last_error());                 \
            failures++;                                                                                                          \
        }                                                                                                                        \
    } while (0)

/* `call` answers `expected`; if that is an error, its message is not empty. */
#define EXPECT(expected, call)                                                                                                   \
    do {                                                                                                                         \
        w4ax_status status_ = (call);                                                                                            \
        if (status_ != (w4ax_status)(expected) || (status_ != W4AX_OK && w4ax_last_error()[0] == 0)) {                           \
            fprintf(stderr, "%s:%d: %s\n  is %u (%s: %s), not %u (%s)\n", __FILE__, __LINE__, #call, (unsigned)status_,          \
                    w4ax_status_text(status_), status_ ? w4ax_last_error() : "", (unsigned)(expected),                           \
                    w4ax_status_text(expected));                                                                                 \
            failures++;                                                                                                          \
        }                                                                                                                        \
    } while (0)

#define OK(call) EXPECT(W4AX_OK, call)

static int finish(void) {
    if (failures) {
        fprintf(stderr, "%d checks failed\n", failures);
    }
    return failures ? 1 : 0;
}

#endif
