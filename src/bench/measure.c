#include "bench/measure.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "dist/context.h"
#include "dist/peak.h"

/* The time of one run, and whose it was. */
typedef struct {
  double seconds;
  int slowest;
} run_time;

static int compare_runs(const void *a, const void *b)
{
  const run_time *first = a, *second = b;
  return (first->seconds > second->seconds) - (first->seconds < second->seconds);
}

static eqs_status time_runs(MPI_Comm comm, int count, eqs_work prepare, eqs_work work, void *context, run_time *runs)
{
  eqs_status status = EQS_OK;
  for (int r = 0; r < count; r++) {
    if (prepare != NULL) EQS_TRY(eqs_agree(comm, prepare(context)));
    EQS_TRY(eqs_time_together(comm, work, context, &runs[r].seconds, &runs[r].slowest));
  }
cleanup:
  return status;
}

static void summarize(run_time *runs, int count, eqs_timing *timing)
{
  qsort(runs, (size_t)count, sizeof *runs, compare_runs);
  const run_time *middle = &runs[count / 2];
  timing->median = count % 2 == 1 ? middle->seconds : (middle[-1].seconds + middle->seconds) / 2;
  timing->minimum = runs[0].seconds;
  timing->maximum = runs[count - 1].seconds;
  timing->slowest = middle->slowest;
}

/* What was counted on comm, and on what was made of it. */
static eqs_counts count_now(MPI_Comm comm)
{
  const eqs_counts *counts = eqs_context_of(comm)->counts;
  return counts != NULL ? *counts : (eqs_counts){0};
}

static eqs_status sum_counts(MPI_Comm comm, eqs_counts before, int runs, eqs_timing *timing)
{
  eqs_counts now = count_now(comm);
  double sums[] = {now.flops - before.flops, (double)(now.messages - before.messages),
                   (double)(now.bytes - before.bytes)};
  eqs_status status = eqs_sum(comm, sums, 3, "the other ranks' counts of work");
  timing->flops_asked = sums[0] / runs;
  timing->messages = sums[1] / runs;
  timing->bytes = sums[2] / runs;
  return status;
}

eqs_status eqs_measure(MPI_Comm comm, int warmup, int repeat, eqs_work prepare, eqs_work work, void *context,
                       eqs_timing *timing)
{
  eqs_status status = EQS_OK;
  run_time *runs = NULL;
  *timing = (eqs_timing){0};
  EQS_TRY(eqs_agree(comm, eqs_allocate(&runs, warmup + repeat, sizeof *runs)));
  eqs_counts before = count_now(comm);
  EQS_TRY(time_runs(comm, warmup + repeat, prepare, work, context, runs));
  EQS_TRY(sum_counts(comm, before, warmup + repeat > 0 ? warmup + repeat : 1, timing));
  if (repeat > 0) summarize(runs + warmup, repeat, timing);
cleanup:
  free(runs);
  return status;
}

static int compare_numbers(const void *a, const void *b)
{
  const double *first = a, *second = b;
  return (*first > *second) - (*first < *second);
}

double eqs_median(double *values, int count)
{
  qsort(values, (size_t)count, sizeof *values, compare_numbers);
  return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* The ranks' speeds in each of several rounds, summed: what `measure` makes in seconds, `amount` a round and rank. */
static eqs_status measure_together(MPI_Comm comm, eqs_status (*measure)(int64_t n, int repeats, double *seconds),
                                   int64_t n, double amount, double *best)
{
  enum { rounds = 5 };
  eqs_status status = EQS_OK;
  double speeds[rounds];
  EQS_TRY(eqs_agree(comm, EQS_OK)); /* all begin together */
  EQS_TRY(eqs_agree(comm, measure(n, rounds, speeds)));
  for (int r = 0; r < rounds; r++) speeds[r] = amount / speeds[r];
  EQS_TRY(eqs_sum(comm, speeds, rounds, "the other ranks' speeds"));
  *best = fmax(*best, eqs_median(speeds, rounds));
cleanup:
  return status;
}

eqs_status eqs_measure_yardsticks(MPI_Comm comm, eqs_yardsticks *yardsticks)
{
  const int64_t order = 2048, elements = INT64_C(1) << 26;
  eqs_status status = EQS_OK;
  EQS_TRY(measure_together(comm, eqs_measure_sgemm, order, 2.0 * (double)(order * order * order), &yardsticks->peak));
  EQS_TRY(measure_together(comm, eqs_measure_triad, elements, 12.0 * (double)elements, &yardsticks->triad));
cleanup:
  return status;
}
