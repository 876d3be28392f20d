/* Memory: checked sizes, cache-line alignment. Freed with free(). */
#ifndef EQS_BASE_MEMORY_H
#define EQS_BASE_MEMORY_H

#include <stdbool.h>

#include "base/status.h"

/*
 * `pointer` as a void *, if it is a T **: another type is an error of the compiler, and so is a size that is neither
 * sizeof(T) nor 1 (bytes). A void ** takes any size; a size that is no constant is not checked.
 */
#define EQS_CHECK_POINTER(pointer, size)                                                                               \
  ((void)sizeof(struct {                                                                                               \
     int unused;                                                                                                       \
     _Static_assert(__builtin_choose_expr(__builtin_constant_p(size), size, 1) == sizeof **(pointer) ||                \
                        __builtin_choose_expr(__builtin_constant_p(size), size, 1) == 1 ||                             \
                        _Generic(*(pointer), void * : 1, default : 0),                                                 \
                    "a T ** and sizeof(T) are expected");                                                              \
   }),                                                                                                                 \
   (void *)(pointer))

/*
 * Allocate count × size bytes, zeroed, aligned to 64 bytes.
 *
 * pointer  [out] a T **; NULL when count is 0; unchanged on failure
 *
 * EQS_FAILED: out of memory, or the size overflows.
 */
#define eqs_allocate(pointer, count, size) eqs_allocate_zeroed(EQS_CHECK_POINTER(pointer, size), count, size)

/* As eqs_allocate, but not zeroed: for what is written before it is read. */
#define eqs_allocate_raw(pointer, count, size) eqs_allocate_unset(EQS_CHECK_POINTER(pointer, size), count, size)

/* Append room for one element to an array that grows by doubling. pointer  [in, out] a T ** */
#define eqs_grow(pointer, count, size) eqs_grow_array(EQS_CHECK_POINTER(pointer, size), count, size)

/* What these macros call once the type is checked. */
eqs_status eqs_allocate_zeroed(void *pointer, int64_t count, size_t size);
eqs_status eqs_allocate_unset(void *pointer, int64_t count, size_t size);
eqs_status eqs_grow_array(void *pointer, int64_t count, size_t size);

/* A copy of text, or NULL of NULL. */
eqs_status eqs_copy_text(char **copy, const char *text);

/* Formatted text, allocated. */
eqs_status eqs_format(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* a·b in int64_t; false if it overflows or an operand is negative. */
bool eqs_multiply_sizes(int64_t a, int64_t b, int64_t *product);

#endif
