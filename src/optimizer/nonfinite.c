#include "optimizer/nonfinite.h"

#include <stdio.h>

#include "dist/communicator.h"

static void note(eqs_optimizer *optimizer, int64_t p, eqs_nonfinite kind)
{
  int64_t code = eqs_nonfinite_code(p, kind);
  if (code < optimizer->nonfinite) optimizer->nonfinite = code;
}

void eqs_record_overflow(eqs_optimizer *optimizer, int64_t p, int64_t i)
{
  const eqs_largest *largest = &optimizer->parameter[p].matrix[i].largest;
  if (!eqs_magnitude_finite(largest->weight)) note(optimizer, p, EQS_NONFINITE_WEIGHT);
  if (!eqs_magnitude_finite(largest->state[1])) note(optimizer, p, EQS_NONFINITE_SECOND_MOMENT);
  if (!eqs_magnitude_finite(largest->state[0]) || !eqs_magnitude_finite(largest->momentum))
    note(optimizer, p, EQS_NONFINITE_MOMENTUM);
}

eqs_status eqs_record_direction(eqs_optimizer *optimizer, int64_t p, int64_t i)
{
  eqs_status status = EQS_OK;
  const eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
  int64_t kind = eqs_magnitude_finite(matrix->largest.momentum) ? EQS_NONFINITE_DIRECTION : EQS_NONFINITE_MOMENTUM;
  if (matrix->grid->comm != MPI_COMM_NULL)
    EQS_TRY(eqs_minimum(matrix->grid->comm, &kind, 1, "other ranks' word on a direction"));
  note(optimizer, p, (eqs_nonfinite)kind);
cleanup:
  return status;
}

void eqs_nonfinite_text(const eqs_optimizer *optimizer, int64_t code, char *words, size_t size)
{
  static const char *const kinds[EQS_NONFINITE_KINDS] = {"gradient", "momentum", "second moment", "direction",
                                                         "weight"};
  int kind = (int)(code % EQS_NONFINITE_KINDS);
  snprintf(words, size, "the %s of '%s' %s", kinds[kind],
           optimizer->plan->parameter[code / EQS_NONFINITE_KINDS].info.name,
           kind == EQS_NONFINITE_GRADIENT ? "is not finite" : "overflows: it would not be finite");
}

eqs_status eqs_fail_nonfinite(const eqs_optimizer *optimizer, int64_t code)
{
  char words[1024];
  eqs_nonfinite_text(optimizer, code, words, sizeof words);
  return eqs_fail(EQS_FAILED, "step %lld: %s (on_nonfinite: error)", (long long)optimizer->step + 1, words);
}
