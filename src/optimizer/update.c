#include "optimizer/update.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "optimizer/gradient.h"
#include "optimizer/nonfinite.h"

bool eqs_shares_nu(const eqs_assignment *assignment)
{
  const eqs_rule_options *options = &assignment->options;
  return options->rule->uses_nu && options->alpha != 0 && options->nu_scope == EQS_NU_TENSOR && assignment->count > 1;
}

static const eqs_rule_options *options_of(const eqs_optimizer *optimizer, int64_t p)
{
  return &optimizer->parameter[p].options;
}

/* D from f G, the momentum is updated; direction may be gradient. */
static void make_direction(const eqs_rule_options *options, double f, const eqs_matrix *gradient, eqs_matrix *momentum,
                           eqs_matrix *direction, eqs_largest *largest)
{
  if (options->momentum != EQS_MOMENTUM_NONE)
    eqs_matrix_momentum(eqs_momentum_coefficients_of(options, f), gradient, momentum, direction, &largest->momentum);
  else if (direction->data != gradient->data || f != 1)
    eqs_matrix_combine(f, gradient, 0, direction);
}

/* Before the first pass. Norms of rows are kept in a step that is measured, until end_findings. */
static eqs_status begin_findings(eqs_optimizer *optimizer, int64_t p, int64_t i)
{
  eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
  free(matrix->findings.row_norms); /* of a step that failed */
  matrix->findings = (eqs_rule_findings){0};
  matrix->largest = (eqs_largest){.known = true};
  if (!optimizer->diagnostics.active || !(options_of(optimizer, p)->rule->keys & EQS_KEY_ROW_MODE)) return EQS_OK;
  return eqs_allocate(&matrix->findings.row_norms, matrix->weight.local_rows, sizeof *matrix->findings.row_norms);
}

static eqs_status end_findings(eqs_optimizer *optimizer, int64_t p, int64_t i)
{
  eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
  eqs_status status = eqs_diagnostics_add_damping(&optimizer->diagnostics, p, options_of(optimizer, p), &matrix->weight,
                                                  &matrix->findings);
  free(matrix->findings.row_norms);
  matrix->findings.row_norms = NULL;
  eqs_record_overflow(optimizer, p, i);
  return status;
}

eqs_status eqs_make_factor(eqs_optimizer *optimizer, int64_t p, int64_t i)
{
  eqs_status status = EQS_OK;
  const eqs_rule_options *options = options_of(optimizer, p);
  eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
  eqs_matrix *d = &matrix->gradient;
  double f = eqs_gradient_multiplier(optimizer, p);
  bool factor_first = options->momentum == EQS_MOMENTUM_POLAR_FIRST;
  EQS_TRY(begin_findings(optimizer, p, i));
  if (!factor_first)
    make_direction(options, f, d, &matrix->momentum, d, &matrix->largest);
  else if (f != 1)
    eqs_matrix_scale(d, f);
  eqs_diagnostics_add_squares(&optimizer->diagnostics, p, EQS_SUM_DIRECTION, d);
  status = eqs_rule_factor(options, optimizer->parameter[p].step + 1, matrix->states, d, &matrix->findings);
  if (matrix->findings.nonfinite)
    return eqs_record_direction(optimizer, p, i); /* the step fails at its end, on all owners */
  EQS_TRY(status);
  for (int s = 0; s < EQS_MAX_STATES; s++) matrix->largest.state[s] = matrix->findings.largest[s];
  EQS_TRY(eqs_diagnostics_add_factor(&optimizer->diagnostics, p, options, d, matrix->findings.nu));
  if (factor_first) make_direction(options, 1, d, &matrix->momentum, d, &matrix->largest);
cleanup:
  return status;
}

/* W <- (1 - lr · weight_decay) W - lr U, U = scale · u */
static eqs_status apply_update(eqs_optimizer *optimizer, int64_t p, double scale, eqs_matrix *u, eqs_matrix *weight,
                               eqs_largest *largest)
{
  eqs_status status = EQS_OK;
  double lr = eqs_learning_rate(optimizer, optimizer->plan->parameter[p].assignment.group);
  if (optimizer->diagnostics.active && scale != 1) {
    eqs_matrix_scale(u, scale);
    scale = 1;
  }
  eqs_diagnostics_add_squares(&optimizer->diagnostics, p, EQS_SUM_WEIGHT, weight);
  EQS_TRY(eqs_diagnostics_add_update(&optimizer->diagnostics, p, u));
  eqs_matrix_update(-lr * scale, u, 1 - lr * options_of(optimizer, p)->weight_decay, weight, &largest->weight);
cleanup:
  return status;
}

eqs_status eqs_update_weight(eqs_optimizer *optimizer, int64_t p, int64_t i)
{
  eqs_status status = EQS_OK;
  eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
  double scale;
  EQS_TRY(eqs_rule_update(options_of(optimizer, p), &matrix->findings, &matrix->gradient, &scale));
  EQS_TRY(apply_update(optimizer, p, scale, &matrix->gradient, &matrix->weight, &matrix->largest));
  EQS_TRY(end_findings(optimizer, p, i));
cleanup:
  return status;
}

/* ----- block by block of rows ----- */

/* Bytes of a block of one matrix: with gradient, momentum, weight and the update it fits into a second-level cache. */
static const int64_t block_bytes = 1 << 17;

/* A matrix on its way through the blocks. */
typedef struct {
  eqs_optimizer *optimizer;
  int64_t parameter;
  const eqs_rule_options *options;
  eqs_owned_matrix *matrix;
  eqs_matrix block; /* room for D and then U of a block */
  double *d_means;  /* of the columns; NULL if nothing is centered */
  double *u_means;
  double squares;            /* ||D||²_F, for an ε that is relative */
  eqs_rule_options absolute; /* the options with ε as a number then */
} row_pass;

/* The parts of the matrix in a block. */
typedef struct {
  eqs_matrix gradient, momentum, weight, u;
  eqs_matrix states[EQS_MAX_STATES];
  int64_t first; /* row */
  double scale;  /* of u */
} row_block;

static bool goes_by_rows(const eqs_rule_options *options, const eqs_grid *grid)
{
  return options->rule->row_wise && (grid->cols == 1 || options->rule->element_wise);
}

bool eqs_measures_in_update(const eqs_optimizer *optimizer, int64_t p)
{
  const eqs_owned_parameter *parameter = &optimizer->parameter[p];
  for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++)
    if (parameter->matrix[i].grid != NULL && !goes_by_rows(options_of(optimizer, p), parameter->matrix[i].grid))
      return false;
  return true;
}

static row_block block_of(const row_pass *pass, int64_t first, int64_t end)
{
  row_block block = {.first = first,
                     .gradient = eqs_matrix_rows(&pass->matrix->gradient, first, end),
                     .momentum = eqs_matrix_rows(&pass->matrix->momentum, first, end),
                     .weight = eqs_matrix_rows(&pass->matrix->weight, first, end),
                     .u = eqs_matrix_rows(&pass->block, 0, end - first)};
  for (int s = 0; s < EQS_MAX_STATES; s++) block.states[s] = eqs_matrix_rows(&pass->matrix->states[s], first, end);
  return block;
}

/* First visit of a block: G -> D. */
static void direct_block(const row_pass *pass, row_block *block)
{
  double f = eqs_gradient_multiplier(pass->optimizer, pass->parameter);
  make_direction(pass->options, f, &block->gradient, &block->momentum, &block->u, &pass->matrix->largest);
  if (pass->optimizer->measures_in_update)
    pass->optimizer->parameter[pass->parameter].squares += f * f * eqs_matrix_local_squares(&block->gradient);
  eqs_diagnostics_add_squares(&pass->optimizer->diagnostics, pass->parameter, EQS_SUM_DIRECTION, &block->u);
}

/* Later visits: D again, from G and the momentum as it is now. */
static void direct_block_again(const row_pass *pass, row_block *block)
{
  double f = eqs_gradient_multiplier(pass->optimizer, pass->parameter);
  if (pass->options->momentum == EQS_MOMENTUM_NONE) {
    eqs_matrix_combine(f, &block->gradient, 0, &block->u);
    return;
  }
  eqs_momentum_coefficients factors = eqs_momentum_coefficients_of(pass->options, f);
  eqs_matrix_combine(factors.of_m, &block->momentum, 0, &block->u);
  if (factors.of_g != 0) eqs_matrix_combine(factors.of_g, &block->gradient, 1, &block->u);
}

/* D -> U, both of a block, without what centers the whole. */
static eqs_status update_block(row_pass *pass, row_block *block)
{
  eqs_status status = EQS_OK;
  int64_t step = pass->optimizer->parameter[pass->parameter].step + 1;
  const eqs_rule *rule = pass->options->rule;
  eqs_rule_findings *all = &pass->matrix->findings, found = {0};
  if (all->row_norms != NULL) found.row_norms = all->row_norms + block->first;
  EQS_TRY(rule->factor(pass->options, step, block->states, &block->u, &found));
  EQS_TRY(rule->update(pass->options, &found, &block->u, &block->scale));
  all->rows += found.rows;
  all->damped_rows += found.damped_rows;
  for (int s = 0; s < EQS_MAX_STATES; s++)
    if (found.largest[s] > pass->matrix->largest.state[s]) pass->matrix->largest.state[s] = found.largest[s];
cleanup:
  return status;
}

static eqs_status step_block(row_pass *pass, row_block *block)
{
  eqs_status status = EQS_OK;
  direct_block(pass, block);
  EQS_TRY(update_block(pass, block));
  EQS_TRY(
      apply_update(pass->optimizer, pass->parameter, block->scale, &block->u, &block->weight, &pass->matrix->largest));
cleanup:
  return status;
}

/*
 * Where a row's update depends on others: the means of D, if it is centered; its norm, if ε is relative; the means of
 * the update; then the weights.
 */
static eqs_status sum_directions(row_pass *pass, row_block *block)
{
  direct_block(pass, block);
  if (pass->d_means != NULL) eqs_matrix_add_column_sums(&block->u, pass->d_means);
  return EQS_OK;
}

static void direct_centered(const row_pass *pass, row_block *block)
{
  direct_block_again(pass, block);
  if (pass->d_means != NULL) eqs_matrix_subtract_means(&block->u, pass->d_means);
}

static eqs_status sum_squares(row_pass *pass, row_block *block)
{
  direct_centered(pass, block);
  pass->squares += eqs_matrix_local_squares(&block->u);
  return EQS_OK;
}

/* Rows are counted when the weights are made. */
static eqs_status sum_updates(row_pass *pass, row_block *block)
{
  eqs_rule_findings before = pass->matrix->findings;
  direct_centered(pass, block);
  eqs_status status = update_block(pass, block);
  eqs_matrix_add_column_sums(&block->u, pass->u_means);
  pass->matrix->findings = before;
  return status;
}

static eqs_status step_after_sums(row_pass *pass, row_block *block)
{
  eqs_status status = EQS_OK;
  direct_centered(pass, block);
  EQS_TRY(update_block(pass, block));
  if (pass->u_means != NULL) eqs_matrix_subtract_means(&block->u, pass->u_means);
  EQS_TRY(
      apply_update(pass->optimizer, pass->parameter, block->scale, &block->u, &block->weight, &pass->matrix->largest));
cleanup:
  return status;
}

/* ε as a number, from the norm of all of D. */
static eqs_status find_eps(row_pass *pass)
{
  eqs_status status = EQS_OK;
  const eqs_matrix *weight = &pass->matrix->weight;
  if (weight->grid->comm != MPI_COMM_NULL)
    EQS_TRY(eqs_sum(weight->grid->comm, &pass->squares, 1, "the norm of a direction on other ranks"));
  pass->absolute = *pass->options;
  pass->absolute.eps_mode = EQS_EPS_ABSOLUTE;
  pass->absolute.eps *= sqrt(pass->squares / (double)weight->distribution.rows);
  pass->options = &pass->absolute;
cleanup:
  return status;
}

static eqs_status for_blocks(row_pass *pass, eqs_status (*visit)(row_pass *pass, row_block *block))
{
  eqs_status status = EQS_OK;
  int64_t rows = pass->matrix->weight.local_rows;
  for (int64_t first = 0; first < rows && status == EQS_OK; first += pass->block.local_rows) {
    int64_t end = first + pass->block.local_rows < rows ? first + pass->block.local_rows : rows;
    row_block block = block_of(pass, first, end);
    status = visit(pass, &block);
  }
  return status;
}

static eqs_status create_pass(eqs_optimizer *optimizer, int64_t p, int64_t i, row_pass *pass)
{
  eqs_status status = EQS_OK;
  eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
  int64_t cols = matrix->weight.local_cols, rows = block_bytes / ((int64_t)sizeof(float) * (cols > 0 ? cols : 1));
  *pass = (row_pass){.optimizer = optimizer, .parameter = p, .options = options_of(optimizer, p), .matrix = matrix};
  eqs_matrix model = eqs_matrix_rows(&matrix->weight, 0, rows > 0 ? rows : 1);
  EQS_TRY(eqs_matrix_create_like(&model, EQS_ELEMENT_FLOAT, &pass->block));
  if (pass->options->center) EQS_TRY(eqs_allocate(&pass->d_means, cols, sizeof *pass->d_means));
  if (pass->options->center) EQS_TRY(eqs_allocate(&pass->u_means, cols, sizeof *pass->u_means));
cleanup:
  return status;
}

static void free_pass(row_pass *pass)
{
  eqs_matrix_destroy(&pass->block);
  free(pass->d_means);
  free(pass->u_means);
}

static eqs_status update_by_rows(eqs_optimizer *optimizer, int64_t p, int64_t i)
{
  eqs_status status = EQS_OK;
  row_pass pass = {0};
  EQS_TRY(begin_findings(optimizer, p, i));
  EQS_TRY(create_pass(optimizer, p, i, &pass));
  bool center = pass.options->center, relative = pass.options->eps_mode == EQS_EPS_RELATIVE;
  if (!center && !relative) {
    EQS_TRY(for_blocks(&pass, step_block));
  } else {
    EQS_TRY(for_blocks(&pass, sum_directions));
    if (center) EQS_TRY(eqs_matrix_finish_means(&pass.matrix->weight, pass.d_means));
    if (relative) EQS_TRY(for_blocks(&pass, sum_squares));
    if (relative) EQS_TRY(find_eps(&pass));
    if (center) EQS_TRY(for_blocks(&pass, sum_updates));
    if (center) EQS_TRY(eqs_matrix_finish_means(&pass.matrix->weight, pass.u_means));
    EQS_TRY(for_blocks(&pass, step_after_sums));
  }
  EQS_TRY(end_findings(optimizer, p, i));
cleanup:
  free_pass(&pass);
  return status;
}

eqs_status eqs_update_matrix(eqs_optimizer *optimizer, int64_t p, int64_t i)
{
  eqs_status status = EQS_OK;
  if (goes_by_rows(options_of(optimizer, p), optimizer->parameter[p].matrix[i].grid))
    return update_by_rows(optimizer, p, i);
  EQS_TRY(eqs_make_factor(optimizer, p, i));
  EQS_TRY(eqs_update_weight(optimizer, p, i));
cleanup:
  return status;
}
