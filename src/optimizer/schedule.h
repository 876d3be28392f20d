/* Learning-rate schedules of the configuration, for jobs whose trainer has none. */
#ifndef EQS_OPTIMIZER_SCHEDULE_H
#define EQS_OPTIMIZER_SCHEDULE_H

#include "model/config.h"

/*
 * The multiple of a group's lr in force for step `step` (1 is the first). With w = warmup, n = steps, d = decay,
 * f = final: min(1, step/w) times
 *
 *     constant  1
 *     linear    from 1 at step w to f at step n
 *     cosine    f + (1 - f) (1 + cos(π x)) / 2,  x from 0 at step w to 1 at step n
 *     wsd       1 until step n - d, then linear to f at step n (warm-up, stable, decay)
 *
 * and f after step n.
 */
double eqs_schedule_multiple(const eqs_schedule *schedule, int64_t step);

#endif
