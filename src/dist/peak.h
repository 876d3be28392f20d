/*
 * What one core can do at best, as a yardstick for all the rest. Every rank that shares the machine calls these at the
 * same time. Not collective.
 */
#ifndef EQS_DIST_PEAK_H
#define EQS_DIST_PEAK_H

#include "base/status.h"

/* Seconds of each of `repeats` float32 products of n×n matrices by the BLAS, 2n³ operations, after one to warm up. */
eqs_status eqs_measure_sgemm(int64_t n, int repeats, double *seconds);

/* Seconds of each of `repeats` passes of a[i] = b[i] + s c[i] over arrays of n float32, 12n bytes, after one to warm
 * up. */
eqs_status eqs_measure_triad(int64_t n, int repeats, double *seconds);

#endif
