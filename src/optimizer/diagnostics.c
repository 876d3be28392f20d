#include "optimizer/diagnostics.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "optimizer/optimizer.h"
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

/* Numbers that are not finite have no place in JSON. */
static json_t *number(double value)
{
  return isfinite(value) ? json_real(value) : json_null();
}

/* Standard deviation over mean, from the sums of squares, of values, and their number. */
static double spread(double squares, double values, double count)
{
  double mean = values / count;
  return sqrt(fmax(squares / count - mean * mean, 0)) / mean;
}

static json_t *describe(const eqs_planned_parameter *parameter, const double *sums, double lr, int64_t step,
                        int64_t skipped)
{
  const eqs_assignment *assignment = &parameter->assignment;
  const eqs_rule *rule = assignment->options.rule;
  double elements = (double)eqs_planned_elements(parameter);
  json_t *line = json_object();
  json_object_set_new(line, "step", json_integer(step));
  json_object_set_new(line, "parameter", json_string(parameter->info.name));
  json_object_set_new(line, "role", json_string(eqs_role_names[assignment->role]));
  json_object_set_new(line, "rule", json_string(rule->name));
  json_object_set_new(line, "lr", number(lr));
  json_object_set_new(line, "gradient_norm", number(sqrt(sums[EQS_SUM_GRADIENT])));
  json_object_set_new(line, "direction_norm", number(sqrt(sums[EQS_SUM_DIRECTION])));
  if (rule->uses_nu) json_object_set_new(line, "nu", number(sums[EQS_SUM_NU]));
  json_object_set_new(line, "update_rms", number(sqrt(sums[EQS_SUM_UPDATE] / elements)));
  json_object_set_new(line, "update_to_weight", number(lr * sqrt(sums[EQS_SUM_UPDATE] / sums[EQS_SUM_WEIGHT])));
  if (rule->polar_first)
    json_object_set_new(line, "orthogonality", number(sqrt(sums[EQS_SUM_RESIDUAL] / sums[EQS_SUM_RESIDUALS])));
  if (sums[EQS_SUM_DAMPINGS] > 0)
    json_object_set_new(line, "damping_share", number(sums[EQS_SUM_DAMPING] / sums[EQS_SUM_DAMPINGS]));
  json_object_set_new(line, "row_norm_spread",
                      number(spread(sums[EQS_SUM_UPDATE], sums[EQS_SUM_ROW_NORMS], sums[EQS_SUM_ROWS])));
  json_object_set_new(line, "skipped", json_integer(skipped));
  return line;
}

static eqs_status append(int file, const char *path, json_t *line)
{
  char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9));
  if (text == NULL) return eqs_fail(EQS_FAILED, "out of memory: a line of %s", path);
  size_t length = strlen(text);
  text[length] = '\n'; /* in the place of the zero: one write, so that lines of several writers do not mix */
  bool written = write(file, text, length + 1) == (ssize_t)(length + 1);
  free(text);
  return written ? EQS_OK : eqs_fail(EQS_IO, "%s: %s", path, strerror(errno));
}

static eqs_status write_lines(const eqs_optimizer *optimizer, const char *path)
{
  eqs_status status = EQS_OK;
  const eqs_plan *plan = optimizer->plan;
  int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return eqs_fail(EQS_IO, "%s: %s", path, strerror(errno));
  for (int64_t p = 0; p < plan->parameters && status == EQS_OK; p++) {
    const eqs_planned_parameter *parameter = &plan->parameter[p];
    if (!optimizer->parameter[p].present || parameter->assignment.count == 0) continue;
    json_t *line =
        describe(parameter, optimizer->diagnostics.sums[p], eqs_learning_rate(optimizer, parameter->assignment.group),
                 optimizer->step + 1, optimizer->skipped);
    status = append(file, path, line);
    json_decref(line);
  }
  close(file);
  return status;
}

eqs_status eqs_diagnostics_end(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  eqs_diagnostics *diagnostics = &optimizer->diagnostics;
  int rank;
  if (!diagnostics->active) return EQS_OK;
  diagnostics->active = false;
  MPI_Comm_rank(optimizer->owners, &rank);
  EQS_TRY(
      eqs_sum(optimizer->owners, diagnostics->sums[0], (int)optimizer->plan->parameters * EQS_SUMS, "the diagnostics"));
  if (rank == 0) status = write_lines(optimizer, optimizer->config->metrics.path);
cleanup:
  return status;
}
