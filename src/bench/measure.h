/* Measuring over ranks: repeated timings of a piece of work, and the yardsticks that it is held against. */
#ifndef EQS_BENCH_MEASURE_H
#define EQS_BENCH_MEASURE_H

#include "bench/timing.h"

/* Of several runs, each as long as its slowest rank takes. */
typedef struct {
  double median, minimum, maximum; /* seconds */
  int slowest;                     /* rank, in the run of the median */
  double flops_asked;              /* work of all ranks in one run (dist/context.h) */
  double messages, bytes;          /* between ranks in one run: of matrices, of gradients and weights */
} eqs_timing;

/*
 * Time work: `warmup` runs that do not count, then `repeat`.
 *
 * prepare  [in] before every run, not timed; may be NULL
 * work     [in]
 *
 * Collective over comm. Failures are agreed on.
 */
eqs_status eqs_measure(MPI_Comm comm, int warmup, int repeat, eqs_work prepare, eqs_work work, void *context,
                       eqs_timing *timing);

/* What all ranks together reach at the same time, a core each. */
typedef struct {
  double peak;  /* flop/s: float32 products of order 2048 by BLIS */
  double triad; /* bytes/s: a[i] = b[i] + s c[i] over arrays much larger than the cache, 12 bytes per element */
} eqs_yardsticks;

/* Measure the yardsticks, medians of 5; of what was measured before the larger stays. Collective over comm. */
eqs_status eqs_measure_yardsticks(MPI_Comm comm, eqs_yardsticks *yardsticks);

/* The median of values; they are sorted. */
double eqs_median(double *values, int count);

#endif
