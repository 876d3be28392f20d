/*
 * Values that are not finite: in gradients, and in what a step makes of finite ones, momentum, second moments and
 * weights that overflow float32.
 *
 * With `on_nonfinite: error` the passes that write state look at it on the way, and the step fails when it ends.
 * With `skip` the owners must know before anything is written. Bounds of what the step makes, from the largest elements
 * of state and gradient, nearly always exclude an overflow; where they do not, a parameter's update is tried on copies.
 */
#ifndef EQS_OPTIMIZER_OVERFLOW_H
#define EQS_OPTIMIZER_OVERFLOW_H

#include "optimizer/optimizer.h"

/* Whether the bounds of a present parameter's update leave an overflow possible, here. Not collective. */
bool eqs_may_overflow(eqs_optimizer *optimizer, int64_t p);

/*
 * Try the updates of all present parameters that any owner doubts, and take them back. *code is the smallest of what is
 * found, INT64_MAX if all is finite. Collective over the owners.
 */
eqs_status eqs_try_updates(eqs_optimizer *optimizer, int64_t *code);

#endif
