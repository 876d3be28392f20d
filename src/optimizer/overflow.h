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

/* What is not finite; of several kinds in a parameter the first is told. */
typedef enum {
  EQS_NONFINITE_GRADIENT,
  EQS_NONFINITE_MOMENTUM,
  EQS_NONFINITE_SECOND_MOMENT,
  EQS_NONFINITE_DIRECTION,
  EQS_NONFINITE_WEIGHT,
  EQS_NONFINITE_KINDS
} eqs_nonfinite;

/* A parameter and what of it, as one number; the smallest is told. */
static inline int64_t eqs_nonfinite_code(int64_t p, eqs_nonfinite kind)
{
  return p * EQS_NONFINITE_KINDS + kind;
}

/* Note what an update has left that is not finite. Not collective. */
void eqs_note_overflow(eqs_optimizer *optimizer, int64_t p, int64_t i);

/* Note a direction that is not finite, or the momentum that made it so. Collective over the matrix's grid. */
eqs_status eqs_note_direction(eqs_optimizer *optimizer, int64_t p, int64_t i);

/* EQS_FAILED, with step, parameter and kind. */
eqs_status eqs_fail_nonfinite(const eqs_optimizer *optimizer, int64_t code);

/* The kind and the parameter in words: "the momentum of 'x' is not finite". */
void eqs_nonfinite_words(const eqs_optimizer *optimizer, int64_t code, char *words, size_t size);

/* Whether the bounds of a present parameter's update leave an overflow possible, here. Not collective. */
bool eqs_may_overflow(eqs_optimizer *optimizer, int64_t p);

/*
 * Try the updates of all present parameters that any owner doubts, and take them back. *code is the smallest of what is
 * found, INT64_MAX if all is finite. Collective over the owners.
 */
eqs_status eqs_try_updates(eqs_optimizer *optimizer, int64_t *code);

#endif
