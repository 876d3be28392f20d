#include "optimizer/optimizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "optimizer/schedule.h"
#include "rules/rules.h"

static eqs_status create_matrix(const eqs_rule_options *options, const eqs_grid *grid,
                                const eqs_distribution *distribution, eqs_owned_matrix *matrix)
{
  eqs_status status = EQS_OK;
  if (!eqs_grid_member(grid)) return EQS_OK;
  matrix->grid = grid;
  EQS_TRY(eqs_matrix_create(grid, distribution->rows, distribution->cols, distribution->row_block,
                            distribution->col_block, EQS_ELEMENT_FLOAT, &matrix->weight));
  if (options->rule == &eqs_rule_frozen) goto cleanup;
  EQS_TRY(eqs_matrix_create(grid, distribution->rows, distribution->cols, distribution->row_block,
                            distribution->col_block, EQS_ELEMENT_FLOAT, &matrix->gradient));
  if (options->momentum != EQS_MOMENTUM_NONE)
    EQS_TRY(eqs_matrix_create(grid, distribution->rows, distribution->cols, distribution->row_block,
                              distribution->col_block, EQS_ELEMENT_FLOAT, &matrix->momentum));
  for (int s = 0; s < options->rule->states; s++)
    EQS_TRY(eqs_matrix_create(grid, distribution->rows, distribution->cols, distribution->row_block,
                              distribution->col_block, EQS_ELEMENT_FLOAT, &matrix->states[s]));
cleanup:
  return status;
}

static eqs_status create_parameter(eqs_optimizer *optimizer, int64_t p)
{
  eqs_status status = EQS_OK;
  const eqs_planned_parameter *planned = &optimizer->plan->parameter[p];
  eqs_owned_parameter *parameter = &optimizer->parameter[p];
  EQS_TRY(eqs_allocate(&parameter->matrix, planned->assignment.count, sizeof *parameter->matrix));
  for (int64_t i = 0; i < planned->assignment.count; i++) {
    const eqs_planned_matrix *matrix = &planned->matrix[i];
    const eqs_grid *grid;
    EQS_TRY(eqs_grid_get(optimizer->grids, matrix->first_owner, matrix->distribution.grid_rows,
                         matrix->distribution.grid_cols, &grid));
    EQS_TRY(create_matrix(&planned->assignment.options, grid, &matrix->distribution, &parameter->matrix[i]));
  }
cleanup:
  return status;
}

eqs_status eqs_optimizer_create(const eqs_config *config, const eqs_plan *plan, MPI_Comm owners, eqs_optimizer **result)
{
  eqs_status status = EQS_OK;
  eqs_optimizer *optimizer = NULL;
  *result = NULL;
  EQS_TRY(eqs_allocate(&optimizer, 1, sizeof *optimizer));
  optimizer->config = config, optimizer->plan = plan, optimizer->owners = owners;
  EQS_TRY(eqs_grid_cache_create(owners, &optimizer->grids));
  EQS_TRY(eqs_allocate(&optimizer->parameter, plan->parameters, sizeof *optimizer->parameter));
  for (int64_t p = 0; p < plan->parameters; p++)
    optimizer->parameter[p].options = plan->parameter[p].assignment.options;
  EQS_TRY(eqs_settings_create(config, &optimizer->settings));
  EQS_TRY(eqs_diagnostics_create(plan->parameters, &optimizer->diagnostics));
  for (int64_t p = 0; p < plan->parameters && status == EQS_OK; p++) status = create_parameter(optimizer, p);
cleanup:
  status = eqs_agree(owners, status);
  if (status != EQS_OK) eqs_optimizer_destroy(&optimizer);
  *result = optimizer;
  return status;
}

void eqs_optimizer_destroy(eqs_optimizer **result)
{
  eqs_optimizer *optimizer = *result;
  if (optimizer == NULL) return;
  for (int64_t p = 0; optimizer->parameter != NULL && p < optimizer->plan->parameters; p++) {
    eqs_owned_parameter *parameter = &optimizer->parameter[p];
    for (int64_t i = 0; parameter->matrix != NULL && i < optimizer->plan->parameter[p].assignment.count; i++) {
      eqs_owned_matrix *matrix = &parameter->matrix[i];
      eqs_matrix_destroy(&matrix->weight);
      eqs_matrix_destroy(&matrix->gradient);
      eqs_matrix_destroy(&matrix->momentum);
      free(matrix->findings.row_norms);
      for (int s = 0; s < EQS_MAX_STATES; s++) eqs_matrix_destroy(&matrix->states[s]);
    }
    free(parameter->matrix);
    eqs_kept_state_free(&parameter->kept);
  }
  free(optimizer->parameter);
  free(optimizer->settings);
  eqs_diagnostics_destroy(&optimizer->diagnostics);
  eqs_grid_cache_destroy(&optimizer->grids);
  free(optimizer);
  *result = NULL;
}

void eqs_optimizer_changed(eqs_optimizer *optimizer, int64_t p)
{
  for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++)
    optimizer->parameter[p].matrix[i].largest.known = false;
}

void eqs_optimizer_set(eqs_optimizer *optimizer, const void *settings)
{
  size_t bytes = (size_t)eqs_settings_bytes(optimizer->config->groups);
  if (memcmp(optimizer->settings, settings, bytes) == 0) return; /* as every message of a step but the first */
  memcpy(optimizer->settings, settings, bytes);
  for (int64_t p = 0; p < optimizer->plan->parameters; p++) {
    int group = optimizer->plan->parameter[p].assignment.group;
    if (group >= 0) eqs_settings_apply(&optimizer->settings->group[group], &optimizer->parameter[p].options);
  }
}

double eqs_learning_rate(const eqs_optimizer *optimizer, int group)
{
  return optimizer->settings->group[group].lr *
         eqs_schedule_multiple(&optimizer->config->group[group].schedule, optimizer->step + 1);
}
