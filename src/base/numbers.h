/* The 16-bit floating-point types of trainers. */
#ifndef EQS_BASE_NUMBERS_H
#define EQS_BASE_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

#include "equishard.h"

/* Bytes of one element. */
size_t eqs_dtype_size(eqs_dtype dtype);

/* "float32", "bfloat16", "float16". */
const char *eqs_dtype_name(eqs_dtype dtype);

/* float32 from and to the trainer's type, `count` contiguous elements; to: round to nearest, ties to even. */
void eqs_to_float(eqs_dtype dtype, const void *from, float *to, int64_t count);
void eqs_from_float(eqs_dtype dtype, const float *from, void *to, int64_t count);

/* The largest number of a type. */
float eqs_dtype_largest(eqs_dtype dtype);

/*
 * The first finite value that eqs_from_float would make infinite, or `count`; and: make of all such values the largest
 * number of the type, with their sign. Returns how many there were.
 */
int64_t eqs_find_beyond(eqs_dtype dtype, const float *values, int64_t count);
int64_t eqs_saturate(eqs_dtype dtype, float *values, int64_t count);

#endif
