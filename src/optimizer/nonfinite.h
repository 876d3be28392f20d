/* Values that a step makes and that are not finite: noted, and said. */
#ifndef EQS_OPTIMIZER_NONFINITE_H
#define EQS_OPTIMIZER_NONFINITE_H

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
void eqs_record_overflow(eqs_optimizer *optimizer, int64_t p, int64_t i);

/* Note a direction that is not finite, or the momentum that made it so. Collective over the matrix's grid. */
eqs_status eqs_record_direction(eqs_optimizer *optimizer, int64_t p, int64_t i);

/* EQS_FAILED, with step, parameter and kind. */
eqs_status eqs_fail_nonfinite(const eqs_optimizer *optimizer, int64_t code);

/* The kind and the parameter in words: "the momentum of 'x' is not finite". */
void eqs_nonfinite_text(const eqs_optimizer *optimizer, int64_t code, char *words, size_t size);

#endif
