#include "optimizer/diagnostics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "polar/residual.h"

eqs_status eqs_diagnostics_create(int64_t parameters, eqs_diagnostics *diagnostics)
{
  diagnostics->active = false;
  return eqs_allocate(&diagnostics->sums, parameters, sizeof *diagnostics->sums);
}

void eqs_diagnostics_destroy(eqs_diagnostics *diagnostics)
{
  free(diagnostics->sums);
  *diagnostics = (eqs_diagnostics){0};
}

void eqs_diagnostics_begin(const eqs_config *config, const eqs_plan *plan, int64_t step, eqs_diagnostics *diagnostics)
{
  diagnostics->active = config->metrics.path != NULL && step % config->metrics.every == 0;
  if (diagnostics->active) memset(diagnostics->sums, 0, (size_t)plan->parameters * sizeof *diagnostics->sums);
}

void eqs_diagnostics_add_squares(eqs_diagnostics *diagnostics, int64_t parameter, eqs_diagnostic_sum sum,
                                 const eqs_matrix *x)
{
  if (diagnostics->active) diagnostics->sums[parameter][sum] += eqs_matrix_local_squares(x);
}

eqs_status eqs_diagnostics_add_factor(eqs_diagnostics *diagnostics, int64_t parameter, const eqs_rule_options *options,
                                      const eqs_matrix *factor, double nu)
{
  eqs_status status = EQS_OK;
  double residual, *sums = diagnostics->active ? diagnostics->sums[parameter] : NULL;
  bool first = factor->grid->row == 0 && factor->grid->col == 0;
  if (sums == NULL) return EQS_OK;
  if (first) sums[EQS_SUM_NU] += nu;
  if (options->rule->polar_first) {
    EQS_TRY(eqs_orthogonality_residual(factor, &residual));
    if (first) sums[EQS_SUM_RESIDUAL] += residual * residual;
    if (first) sums[EQS_SUM_RESIDUALS] += 1;
  }
cleanup:
  return status;
}

static int compare_numbers(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* The median of those that are not zero; 0 if all are. */
static double median_of(double *values, int64_t count)
{
  int64_t zeros = 0;
  qsort(values, (size_t)count, sizeof *values, compare_numbers);
  while (zeros < count && !(values[zeros] > 0)) zeros++;
  if (zeros == count) return 0;
  int64_t middle = zeros + (count - zeros) / 2;
  return (count - zeros) % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/*
 * ε / (ε + median norm of the rows), on the first rank of the grid: the norms of all ranks come together there. A
 * matrix of rows has at most 2^31 of them: indices of ScaLAPACK.
 */
static eqs_status share_beside_rows(const eqs_rule_options *options, const eqs_matrix *x,
                                    const eqs_rule_findings *findings, double *share)
{
  eqs_status status = EQS_OK;
  const eqs_grid *grid = x->grid;
  int64_t rows = x->distribution.rows, first = 0;
  double *norms = NULL, squares = 0;
  *share = 0;
  EQS_TRY(eqs_allocate(&norms, rows, sizeof *norms));
  for (int r = 0; r < grid->row; r++) first += eqs_local_count(rows, x->distribution.row_block, r, grid->rows);
  memcpy(norms + first, findings->row_norms, (size_t)x->local_rows * sizeof *norms);
  if (grid->rows > 1) EQS_TRY(eqs_sum(grid->col_comm, norms, (int)rows, "the norms of rows on other ranks"));
  for (int64_t i = 0; i < rows; i++) squares += norms[i] * norms[i];
  double median = median_of(norms, rows), eps = options->eps;
  if (options->eps_mode == EQS_EPS_RELATIVE) eps *= sqrt(squares / (double)rows);
  if (median > 0) *share = eps / (eps + median);
cleanup:
  free(norms);
  return status;
}

eqs_status eqs_diagnostics_add_damping(eqs_diagnostics *diagnostics, int64_t parameter, const eqs_rule_options *options,
                                       const eqs_matrix *x, const eqs_rule_findings *findings)
{
  eqs_status status = EQS_OK;
  double share = 0, *sums = diagnostics->active ? diagnostics->sums[parameter] : NULL;
  if (sums == NULL || !eqs_rule_is_damped(options)) return EQS_OK;
  if (findings->row_norms != NULL) EQS_TRY(share_beside_rows(options, x, findings, &share));
  if (x->grid->row != 0 || x->grid->col != 0) return EQS_OK;
  sums[EQS_SUM_DAMPING] += fmax(share, findings->damping);
  sums[EQS_SUM_DAMPINGS] += 1;
cleanup:
  return status;
}

eqs_status eqs_diagnostics_add_update(eqs_diagnostics *diagnostics, int64_t parameter, const eqs_matrix *u)
{
  eqs_status status = EQS_OK;
  double *squares = NULL;
  if (!diagnostics->active) return EQS_OK;
  double *sums = diagnostics->sums[parameter];
  EQS_TRY(eqs_allocate_raw(&squares, u->local_rows, sizeof *squares));
  EQS_TRY(eqs_matrix_row_squares(u, squares));
  for (int64_t i = 0; u->grid->col == 0 && i < u->local_rows; i++) {
    sums[EQS_SUM_UPDATE] += squares[i];
    sums[EQS_SUM_ROW_NORMS] += sqrt(squares[i]);
    sums[EQS_SUM_ROWS] += 1;
  }
cleanup:
  free(squares);
  return status;
}
