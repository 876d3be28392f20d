#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "dist/communicator.h"
#include "optimizer/optimizer.h"
#include "optimizer/update.h"

/* Call `action` for every matrix of a present parameter that this owner has a shard of, in the plan's order. */
typedef eqs_status (*matrix_action)(eqs_optimizer *optimizer, int64_t p, int64_t i, void *context);

static eqs_status for_present(eqs_optimizer *optimizer, matrix_action action, void *context)
{
  for (int64_t p = 0; p < optimizer->plan->parameters; p++) {
    if (!optimizer->parameter[p].present) continue;
    for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++) {
      if (optimizer->parameter[p].matrix[i].grid == NULL) continue;
      eqs_status status = action(optimizer, p, i, context);
      if (status != EQS_OK) return eqs_fail_in(status, "parameter '%s'", optimizer->plan->parameter[p].info.name);
    }
  }
  return EQS_OK;
}

/* An owner without a shard of a parameter cannot know whether it has a gradient; and all must take part alike. */
static eqs_status agree_on_presence(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  int64_t parameters = optimizer->plan->parameters, all_present = 1;
  int64_t *absent = NULL;
  for (int64_t p = 0; p < parameters; p++)
    if (!optimizer->parameter[p].present) all_present = 0;
  EQS_TRY(eqs_minimum(optimizer->owners, &all_present, 1, "the owners' word on which gradients are there"));
  if (all_present) goto cleanup;
  EQS_TRY(eqs_allocate_raw(&absent, parameters, sizeof *absent));
  for (int64_t p = 0; p < parameters; p++) absent[p] = !optimizer->parameter[p].present;
  EQS_TRY(eqs_minimum(optimizer->owners, absent, (int)parameters, "the owners' word on which gradients are there"));
  for (int64_t p = 0; p < parameters; p++) optimizer->parameter[p].present = !absent[p];
cleanup:
  free(absent);
  return status;
}

/* Sum of squares of this owner's gradient shards, and the first parameter with a value that is not finite. */
typedef struct {
  double squares;
  int64_t nonfinite;
} gradient_survey;

static eqs_status survey(eqs_optimizer *optimizer, int64_t p, int64_t i, void *context)
{
  gradient_survey *result = context;
  const eqs_matrix *gradient = &optimizer->parameter[p].matrix[i].gradient;
  double f = eqs_gradient_factor(optimizer, p);
  double squares = f * f * eqs_matrix_local_squares(gradient); /* no square of a float32 overflows a float64 */
  if (!isfinite(squares) && p < result->nonfinite) result->nonfinite = p;
  result->squares += squares;
  if (optimizer->diagnostics.active) optimizer->diagnostics.sums[p][EQS_SUM_GRADIENT] += squares;
  return EQS_OK;
}

static eqs_status measure_gradient(eqs_optimizer *optimizer, int64_t *nonfinite)
{
  eqs_status status = EQS_OK;
  gradient_survey result = {.nonfinite = INT64_MAX};
  EQS_TRY(for_present(optimizer, survey, &result));
  EQS_TRY(eqs_sum(optimizer->owners, &result.squares, 1, "the gradient's norm"));
  EQS_TRY(eqs_minimum(optimizer->owners, &result.nonfinite, 1, "the search for non-finite gradients"));
  optimizer->gradient_norm = sqrt(result.squares);
  *nonfinite = result.nonfinite;
cleanup:
  return status;
}

static eqs_status refuse_nonfinite(eqs_optimizer *optimizer, int64_t nonfinite)
{
  const char *name = optimizer->plan->parameter[nonfinite].info.name;
  int rank;
  MPI_Comm_rank(optimizer->owners, &rank);
  if (!optimizer->config->skip_nonfinite)
    return eqs_fail(EQS_FAILED, "step %lld: the gradient of '%s' is not finite (on_nonfinite: error)",
                    (long long)optimizer->step + 1, name);
  optimizer->skipped++;
  optimizer->skipped_last = true;
  if (rank == 0)
    eqs_log(EQS_LOG_WARNING, "step %lld: skipped, the gradient of '%s' is not finite (%lld skipped so far)",
            (long long)optimizer->step + 1, name, (long long)optimizer->skipped);
  return EQS_OK;
}

/* ν of a tensor <- the sum of its matrices' parts, each counted by the first owner of its grid. */
static eqs_status sum_nu(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  const eqs_plan *plan = optimizer->plan;
  double *nu = NULL;
  int count = 0;
  for (int64_t p = 0; p < plan->parameters; p++) count += eqs_shares_nu(&plan->parameter[p].assignment);
  if (count == 0) goto cleanup;
  EQS_TRY(eqs_allocate(&nu, count, sizeof *nu));
  count = 0;
  for (int64_t p = 0; p < plan->parameters; p++) {
    const eqs_assignment *assignment = &plan->parameter[p].assignment;
    if (!eqs_shares_nu(assignment)) continue;
    for (int64_t i = 0; i < assignment->count; i++) {
      const eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
      if (matrix->grid != NULL && matrix->grid->row == 0 && matrix->grid->col == 0) nu[count] += matrix->nu;
    }
    count++;
  }
  EQS_TRY(eqs_sum(optimizer->owners, nu, count, "the sums of nuclear norms"));
  count = 0;
  for (int64_t p = 0; p < plan->parameters; p++) {
    const eqs_assignment *assignment = &plan->parameter[p].assignment;
    if (!eqs_shares_nu(assignment)) continue;
    for (int64_t i = 0; i < assignment->count; i++) optimizer->parameter[p].matrix[i].nu = nu[count];
    count++;
  }
cleanup:
  free(nu);
  return status;
}

/* All of a matrix's step, or as much of it as comes before ν is summed. */
static eqs_status update_or_make_factor(eqs_optimizer *optimizer, int64_t p, int64_t i, void *context)
{
  (void)context;
  bool shares = eqs_shares_nu(&optimizer->plan->parameter[p].assignment);
  return shares ? eqs_make_factor(optimizer, p, i) : eqs_update_matrix(optimizer, p, i);
}

static eqs_status update_shared(eqs_optimizer *optimizer, int64_t p, int64_t i, void *context)
{
  (void)context;
  bool shares = eqs_shares_nu(&optimizer->plan->parameter[p].assignment);
  return shares ? eqs_update_weight(optimizer, p, i) : EQS_OK;
}

eqs_status eqs_optimizer_step(eqs_optimizer *optimizer, int trainers)
{
  eqs_status status = EQS_OK;
  int64_t nonfinite;
  double limit = optimizer->config->clip_grad_norm;
  optimizer->skipped_last = false;
  optimizer->trainers = trainers;
  optimizer->clip_factor = 1;
  eqs_diagnostics_begin(optimizer->config, optimizer->plan, optimizer->step + 1, &optimizer->diagnostics);

  EQS_TRY(agree_on_presence(optimizer));
  EQS_TRY(measure_gradient(optimizer, &nonfinite));
  if (nonfinite != INT64_MAX) {
    status = refuse_nonfinite(optimizer, nonfinite);
    goto cleanup;
  }
  if (limit > 0 && optimizer->gradient_norm > limit) optimizer->clip_factor = limit / optimizer->gradient_norm;
  EQS_TRY(for_present(optimizer, update_or_make_factor, NULL));
  EQS_TRY(sum_nu(optimizer));
  EQS_TRY(for_present(optimizer, update_shared, NULL));
  EQS_TRY(eqs_diagnostics_end(optimizer));
  for (int64_t p = 0; p < optimizer->plan->parameters; p++)
    optimizer->parameter[p].step += optimizer->parameter[p].present;
  optimizer->step++;
cleanup:
  return status;
}
