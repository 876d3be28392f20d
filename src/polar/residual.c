#include "polar/residual.h"

#include <math.h>

#include "dist/product.h"

eqs_status eqs_orthogonality_residual(const eqs_matrix *u, double *residual)
{
  eqs_status status = EQS_OK;
  eqs_matrix gram = {0};
  int64_t m = u->distribution.rows, n = u->distribution.cols, k = m < n ? m : n;
  *residual = 0;
  if (k == 0) return EQS_OK;
  EQS_TRY(eqs_create_square(u, k, u->element, &gram));
  EQS_TRY(eqs_gram(1, eqs_smaller_gram(m, n, EQS_TRANSPOSED), u, &gram));
  eqs_matrix_add_identity(&gram, -1);
  EQS_TRY(eqs_matrix_norm(&gram, residual));
  *residual /= sqrt((double)k);
cleanup:
  eqs_matrix_destroy(&gram);
  return status;
}
