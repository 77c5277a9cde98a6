/* Checks of the test programs, which report where they fail. C99 and C++11. */
#ifndef CHECK_H
#define CHECK_H

#include "w4ax.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n  last error: %s\n", __FILE__, __LINE__, #condition, w4ax_last_error());       \
            failures++;                                                                                                \
        }                                                                                                              \
    } while (0)

/* Checks that `call` returns `expected`, and sets a message if that is an error. */
#define EXPECT(expected, call)                                                                                         \
    do {                                                                                                               \
        w4ax_status status_ = (call);                                                                                  \
        if (status_ != (w4ax_status)(expected) || (status_ != W4AX_OK && w4ax_last_error()[0] == 0)) {                 \
            fprintf(stderr, "%s:%d: %s\n  is %u (%s: %s), not %u (%s)\n", __FILE__, __LINE__, #call,                   \
                    (unsigned)status_, w4ax_status_text(status_), status_ ? w4ax_last_error() : "",                    \
                    (unsigned)(expected), w4ax_status_text(expected));                                                 \
            failures++;                                                                                                \
        }                                                                                                              \
    } while (0)

#define OK(call) EXPECT(W4AX_OK, call)

/* Returns a misaligned pointer. */
static inline void *odd(void *p) {
    return (char *)p + 1;
}

static int finish(void) {
    if (failures) {
        fprintf(stderr, "%d checks failed\n", failures);
    }
    return failures ? 1 : 0;
}

#endif
