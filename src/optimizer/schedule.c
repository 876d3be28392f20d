#include "optimizer/schedule.h"

#include <math.h>

/* How far `step` is from `begin` to `end`: 0 before, 1 after. */
static double progress(int64_t step, int64_t begin, int64_t end)
{
  if (step >= end) return 1;
  return step <= begin ? 0 : (double)(step - begin) / (double)(end - begin);
}

double eqs_schedule_multiple(const eqs_schedule *schedule, int64_t step)
{
  double warm = step < schedule->warmup ? (double)step / (double)schedule->warmup : 1;
  double final = schedule->final, x;
  switch (schedule->kind) {
  case EQS_SCHEDULE_LINEAR: x = progress(step, schedule->warmup, schedule->steps); return warm * (1 - (1 - final) * x);
  case EQS_SCHEDULE_COSINE:
    x = progress(step, schedule->warmup, schedule->steps);
    return warm * (final + (1 - final) * (1 + cos(M_PI * x)) / 2);
  case EQS_SCHEDULE_WSD:
    x = progress(step, schedule->steps - schedule->decay, schedule->steps);
    return warm * (1 - (1 - final) * x);
  default: return warm;
  }
}
