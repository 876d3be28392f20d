#include <math.h>

#include "polar/solver.h"

eqs_status eqs_orthogonality_residual(const eqs_matrix *u, double *residual)
{
  eqs_status status = EQS_OK;
  eqs_operation op;
  eqs_matrix gram = {0};
  int64_t k = eqs_smaller_side(EQS_RIGHT, u, &op);
  *residual = 0;
  if (k == 0) return EQS_OK;
  EQS_TRY(eqs_create_square(u, k, u->element, &gram));
  EQS_TRY(eqs_gram(1, op, u, &gram));
  eqs_matrix_add_identity(&gram, -1);
  EQS_TRY(eqs_matrix_norm(&gram, residual));
  *residual /= sqrt((double)k);
cleanup:
  eqs_matrix_destroy(&gram);
  return status;
}
