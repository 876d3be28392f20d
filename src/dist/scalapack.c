#include "dist/scalapack.h"

#include <limits.h>

eqs_status eqs_to_int(int64_t size, int *value)
{
  if (size < 0 || size > INT_MAX)
    return eqs_fail(EQS_USAGE, "a size of %lld does not fit the 32 bits of BLAS, ScaLAPACK and MPI", (long long)size);
  *value = (int)size;
  return EQS_OK;
}

eqs_status eqs_describe_transpose(const eqs_matrix *matrix, eqs_descriptor *descriptor)
{
  const eqs_distribution *distribution = &matrix->distribution;
  eqs_status status = EQS_OK;
  *descriptor = (eqs_descriptor){.type = 1, .context = matrix->grid->context};
  EQS_TRY(eqs_to_int(distribution->cols, &descriptor->rows));
  EQS_TRY(eqs_to_int(distribution->rows, &descriptor->cols));
  EQS_TRY(eqs_to_int(distribution->col_block, &descriptor->row_block));
  EQS_TRY(eqs_to_int(distribution->row_block, &descriptor->col_block));
  EQS_TRY(eqs_to_int(matrix->local_cols > 0 ? matrix->local_cols : 1, &descriptor->leading_dimension));
cleanup:
  return status;
}

/*
 * ScaLAPACK asks this function for the width of PBLAS's panels; its own answers 32. With 256, psgemm on 2 ranks
 * at n = 2048 is twice as fast. Exported, because libscalapack's call finds it by symbol search.
 */
__attribute__((visibility("default"))) int pilaenv_(const int *context, const char *precision);

int pilaenv_(const int *context, const char *precision)
{
  (void)context;
  (void)precision;
  return 256;
}
