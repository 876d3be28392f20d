/* Memory: checked sizes, cache-line alignment. Freed with free(). */
#ifndef EQS_BASE_MEMORY_H
#define EQS_BASE_MEMORY_H

#include <stdbool.h>

#include "base/status.h"

/*
 * Allocate count × size bytes, zeroed, aligned to 64 bytes.
 *
 * pointer  [out] a `T **`, passed as void *; NULL when count is 0; unchanged on failure
 *
 * EQS_FAILED: out of memory, or the size overflows.
 */
eqs_status eqs_allocate(void *pointer, int64_t count, size_t size);

/* As eqs_allocate, but not zeroed: for what is written before it is read. */
eqs_status eqs_allocate_raw(void *pointer, int64_t count, size_t size);

/* Append room for one element to an array that grows by doubling. `pointer` is a `T **`. */
eqs_status eqs_grow(void *pointer, int64_t count, size_t size);

/* A copy of text, or NULL of NULL. */
eqs_status eqs_copy_text(char **copy, const char *text);

/* Formatted text, allocated. */
eqs_status eqs_format(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* a·b in int64_t; false if it overflows or an operand is negative. */
bool eqs_multiply_sizes(int64_t a, int64_t b, int64_t *product);

#endif
