#include "dist/eigen.h"

#include <stdlib.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "dist/context.h"
#include "dist/scalapack.h"

double eqs_symmetric_eigen_flops(int64_t n)
{
  return 9.0 * (double)n * (double)n * (double)n;
}

static eqs_status check_info(int info, const char *routine)
{
  if (info == 0) return EQS_OK;
  return eqs_fail(EQS_FAILED, "%s found no eigenvalues: info = %d", routine, info);
}

/* n×n, row-major: to <- fromᵀ. */
static void transpose_here(const double *from, double *to, int64_t n)
{
  enum { tile = 32 };
  for (int64_t first = 0; first < n; first += tile)
    for (int64_t second = 0; second < n; second += tile)
      for (int64_t i = first; i < n && i < first + tile; i++)
        for (int64_t j = second; j < n && j < second + tile; j++) to[i * n + j] = from[j * n + i];
}

/* LAPACK leaves the eigenvectors in the columns of its column-major matrix, which are the rows of ours. */
static eqs_status eigen_here(int n, eqs_matrix *a, double *values, eqs_matrix *vectors)
{
  static const int query = -1;
  eqs_status status = EQS_OK;
  double *work = NULL, work_size;
  int *integers = NULL, integers_size, info;
  dsyevd_("V", "L", &n, eqs_doubles(a), &n, values, &work_size, &query, &integers_size, &query, &info);
  EQS_TRY(check_info(info, "dsyevd"));
  int work_count;
  EQS_TRY(eqs_to_int((int64_t)work_size, &work_count));
  EQS_TRY(eqs_allocate_raw(&work, work_count, sizeof *work));
  EQS_TRY(eqs_allocate_raw(&integers, integers_size, sizeof *integers));
  dsyevd_("V", "L", &n, eqs_doubles(a), &n, values, work, &work_count, integers, &integers_size, &info);
  EQS_TRY(check_info(info, "dsyevd"));
  transpose_here(eqs_doubles(a), eqs_doubles(vectors), n);
cleanup:
  free(work);
  free(integers);
  return status;
}

/* ScaLAPACK 2.2's pdsyevd leaves it out when it is asked for its workspace, and pdormtr then does nothing. */
static int64_t work_of_pdormtr(const eqs_matrix *a)
{
  int64_t block = a->distribution.row_block;
  return block * (a->local_rows + a->local_cols + 2 * block);
}

static eqs_status eigen_on_grid(int n, eqs_matrix *a, double *values, eqs_matrix *vectors)
{
  static const int one = 1, query = -1;
  static const double unit = 1, zero = 0;
  eqs_status status = EQS_OK;
  eqs_descriptor descriptor;
  eqs_matrix found = {0};
  double *work = NULL, work_size;
  int *integers = NULL, integers_size, info, work_count;
  EQS_TRY(eqs_describe_transpose(a, &descriptor));
  EQS_TRY(eqs_matrix_create_like(a, EQS_ELEMENT_DOUBLE, &found));
  pdsyevd_("V", "L", &n, eqs_doubles(a), &one, &one, &descriptor, values, eqs_doubles(&found), &one, &one, &descriptor,
           &work_size, &query, &integers_size, &query, &info);
  EQS_TRY(check_info(info, "pdsyevd"));
  EQS_TRY(eqs_to_int((int64_t)work_size + work_of_pdormtr(a), &work_count));
  EQS_TRY(eqs_allocate_raw(&work, work_count, sizeof *work));
  EQS_TRY(eqs_allocate_raw(&integers, integers_size, sizeof *integers));
  pdsyevd_("V", "L", &n, eqs_doubles(a), &one, &one, &descriptor, values, eqs_doubles(&found), &one, &one, &descriptor,
           work, &work_count, integers, &integers_size, &info);
  EQS_TRY(check_info(info, "pdsyevd"));
  /* where a matrix is a single block only its owner, the first rank, gets the values */
  EQS_TRY(eqs_broadcast(a->grid->comm, values, (int64_t)n * (int64_t)sizeof *values, 0, "eigenvalues"));
  pdtran_(&n, &n, &unit, eqs_doubles(&found), &one, &one, &descriptor, &zero, eqs_doubles(vectors), &one, &one,
          &descriptor);
cleanup:
  free(work);
  free(integers);
  eqs_matrix_destroy(&found);
  return status;
}

eqs_status eqs_symmetric_eigen(eqs_matrix *a, double *values, eqs_matrix *vectors)
{
  eqs_status status = EQS_OK;
  int n;
  if (a->element != EQS_ELEMENT_DOUBLE || vectors->element != EQS_ELEMENT_DOUBLE ||
      a->distribution.row_block != a->distribution.col_block ||
      vectors->distribution.row_block != a->distribution.row_block ||
      vectors->distribution.col_block != a->distribution.col_block)
    return eqs_fail(EQS_FAILED, "eigenvalues of a matrix that is not float64 in square blocks");
  EQS_TRY(eqs_to_int(a->distribution.rows, &n));
  if (n == 0) return EQS_OK;
  eqs_count_grid_flops(a->grid, eqs_symmetric_eigen_flops(n));
  if (a->grid->context < 0)
    EQS_TRY(eigen_here(n, a, values, vectors));
  else
    EQS_TRY(eigen_on_grid(n, a, values, vectors));
cleanup:
  return status;
}
