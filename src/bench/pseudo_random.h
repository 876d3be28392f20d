/* Pseudo-random matrices that are the same on every grid. */
#ifndef EQS_BENCH_PSEUDO_RANDOM_H
#define EQS_BENCH_PSEUDO_RANDOM_H

#include "dist/matrix.h"

/* Element (i, j) <- uniform in [-1, 1), from seed, i and j alone. Not collective. */
eqs_status eqs_fill_random(uint32_t seed, eqs_matrix *x);

/* The same for a row of `count` elements that is not part of a matrix. */
void eqs_fill_random_row(uint32_t seed, float *row, int64_t count);

/* A seed of its own for part `index` of what has a seed. */
uint32_t eqs_derive_seed(uint32_t seed, int64_t index);

#endif
