/* Status codes and the message that goes with a failure. */
#ifndef EQS_BASE_STATUS_H
#define EQS_BASE_STATUS_H

#include "equishard.h"

/*
 * Record a failure: sets the message of eqs_error_message() (printf format) and returns status, so
 * that a function ends with `return eqs_fail(EQS_USAGE, "%s: ...", name)`. Prints nothing.
 */
eqs_status eqs_fail(eqs_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prefix the message of a failure that is being passed on: "<context>: <message>". Returns status. */
eqs_status eqs_fail_in(eqs_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * The trace of an error: with EQUISHARD_LOG=debug in the environment, every call through which an error comes prints a
 * line, the innermost first: "equishard: debug: src/base/file.c:31: eqs_file_open: status 3: <message>".
 */
void eqs_trace(const char *file, int line, const char *function, eqs_status status) __attribute__((cold));

/* Jump to the exit label of a function, keeping the status in `status`, if a call failed. */
#define EQS_TRY(call)                                                                                                  \
  do {                                                                                                                 \
    status = (call);                                                                                                   \
    if (status != EQS_OK) {                                                                                            \
      eqs_trace(__FILE__, __LINE__, __func__, status);                                                                 \
      goto cleanup;                                                                                                    \
    }                                                                                                                  \
  } while (0)

#endif
