#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "dist/communicator.h"
#include "optimizer/damping.h"
#include "optimizer/optimizer.h"
#include "optimizer/update.h"

void eqs_optimizer_begin(eqs_optimizer *optimizer, int trainers)
{
  optimizer->trainers = trainers;
  optimizer->clip_factor = 1;
  optimizer->surveys_on_the_way = false;
  for (int64_t p = 0; p < optimizer->plan->parameters; p++) {
    optimizer->parameter[p].finite = true;
    optimizer->parameter[p].squares = 0;
  }
  eqs_diagnostics_begin(optimizer->config, optimizer->plan, optimizer->step + 1, &optimizer->diagnostics);
}

void eqs_optimizer_survey(eqs_optimizer *optimizer, int64_t p)
{
  eqs_owned_parameter *parameter = &optimizer->parameter[p];
  double f = eqs_gradient_factor(optimizer, p);
  for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++)
    if (parameter->matrix[i].grid != NULL) /* no square of a float32 overflows a float64 */
      parameter->squares += f * f * eqs_matrix_local_squares(&parameter->matrix[i].gradient);
  parameter->finite = isfinite(parameter->squares);
  if (optimizer->diagnostics.active) optimizer->diagnostics.sums[p][EQS_SUM_GRADIENT] += parameter->squares;
}

/* Whether this owner is a member of a grid of the parameter's. */
static bool holds(const eqs_optimizer *optimizer, int64_t p)
{
  for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++)
    if (optimizer->parameter[p].matrix[i].grid != NULL) return true;
  return false;
}

/* What the owners agree on by their minima. */
typedef struct {
  int64_t all_present; /* 0: a parameter has no gradient as far as one of its owners knows */
  int64_t nonfinite;   /* the first parameter with a value that is not finite; INT64_MAX if none has */
} gradient_minima;

static gradient_minima local_minima(const eqs_optimizer *optimizer)
{
  gradient_minima minima = {.all_present = 1, .nonfinite = INT64_MAX};
  for (int64_t p = optimizer->plan->parameters - 1; p >= 0; p--) {
    if (!optimizer->parameter[p].present && holds(optimizer, p)) minima.all_present = 0;
    if (!optimizer->parameter[p].finite) minima.nonfinite = p;
  }
  return minima;
}

/* An owner without a shard of a parameter cannot know whether it has a gradient; and all must take part alike. */
static eqs_status agree_on_presence(eqs_optimizer *optimizer, bool all_present)
{
  eqs_status status = EQS_OK;
  int64_t parameters = optimizer->plan->parameters;
  int64_t *absent = NULL;
  EQS_TRY(eqs_allocate(&absent, parameters, sizeof *absent));
  for (int64_t p = 0; p < parameters; p++)
    absent[p] = !optimizer->parameter[p].present && !(all_present && optimizer->plan->parameter[p].assignment.count);
  if (!all_present)
    EQS_TRY(eqs_minimum(optimizer->owners, absent, (int)parameters, "the owners' word on which gradients are there"));
  for (int64_t p = 0; p < parameters; p++) optimizer->parameter[p].present = !absent[p];
cleanup:
  free(absent);
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

eqs_status eqs_optimizer_norm(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  double squares = 0;
  for (int64_t p = 0; p < optimizer->plan->parameters; p++) squares += optimizer->parameter[p].squares;
  EQS_TRY(eqs_sum(optimizer->owners, &squares, 1, "the gradient's norm"));
  optimizer->gradient_norm = sqrt(squares);
cleanup:
  return status;
}

double eqs_clip_factor(double norm, double max_norm)
{
  double factor = max_norm / (norm + 1e-6);
  return factor < 1 ? factor : 1;
}

/* What the gradient is multiplied by, for the limit of the configuration and that of the program. */
static double clip_factor(const eqs_optimizer *optimizer)
{
  double norm = optimizer->gradient_norm, limit = optimizer->config->clip_grad_norm;
  double factor = limit > 0 && norm > limit ? limit / norm : 1;
  double own = optimizer->settings->max_norm > 0 ? eqs_clip_factor(norm, optimizer->settings->max_norm) : 1;
  return own < factor ? own : factor;
}

eqs_status eqs_optimizer_agree(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  gradient_minima minima = local_minima(optimizer);
  EQS_TRY(eqs_minimum(optimizer->owners, (int64_t *)&minima, 2, "the owners' word on their gradients"));
  EQS_TRY(eqs_optimizer_norm(optimizer));
  EQS_TRY(agree_on_presence(optimizer, minima.all_present));

  optimizer->skipped_last = false;
  if (minima.nonfinite != INT64_MAX) {
    status = refuse_nonfinite(optimizer, minima.nonfinite);
    goto cleanup;
  }
  optimizer->clip_factor = clip_factor(optimizer);
  optimizer->agreed = true;
cleanup:
  return status;
}

bool eqs_waits_for_nu(const eqs_optimizer *optimizer, int64_t p)
{
  return eqs_shares_nu(&optimizer->plan->parameter[p].assignment);
}

eqs_status eqs_optimizer_update(eqs_optimizer *optimizer, int64_t p, int64_t i)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_waits_for_nu(optimizer, p) ? eqs_make_factor(optimizer, p, i) : eqs_update_matrix(optimizer, p, i));
cleanup:
  return status == EQS_OK ? status : eqs_fail_in(status, "parameter '%s'", optimizer->plan->parameter[p].info.name);
}

/* ν of a tensor, and ||D||², <- the sums of its matrices' parts, each counted by the first owner of its grid. */
static eqs_status sum_nu(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  const eqs_plan *plan = optimizer->plan;
  double *sums = NULL, *next;
  int count = 0;
  for (int64_t p = 0; p < plan->parameters; p++) count += eqs_waits_for_nu(optimizer, p);
  if (count == 0) goto cleanup;
  EQS_TRY(eqs_allocate(&sums, 2 * (int64_t)count, sizeof *sums));
  next = sums;
  for (int64_t p = 0; p < plan->parameters; p++) {
    if (!eqs_waits_for_nu(optimizer, p)) continue;
    for (int64_t i = 0; i < plan->parameter[p].assignment.count; i++) {
      const eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
      if (matrix->grid == NULL || matrix->grid->row != 0 || matrix->grid->col != 0) continue;
      next[0] += matrix->findings.nu;
      next[1] += matrix->findings.squares;
    }
    next += 2;
  }
  EQS_TRY(eqs_sum(optimizer->owners, sums, 2 * count, "the sums of nuclear norms"));
  next = sums;
  for (int64_t p = 0; p < plan->parameters; p++) {
    if (!eqs_waits_for_nu(optimizer, p)) continue;
    for (int64_t i = 0; i < plan->parameter[p].assignment.count; i++) {
      optimizer->parameter[p].matrix[i].findings.nu = next[0];
      optimizer->parameter[p].matrix[i].findings.squares = next[1];
    }
    next += 2;
  }
cleanup:
  free(sums);
  return status;
}

static eqs_status update_those_that_waited(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  int64_t p = 0;
  EQS_TRY(sum_nu(optimizer));
  for (; p < optimizer->plan->parameters; p++) {
    if (!optimizer->parameter[p].present || !eqs_waits_for_nu(optimizer, p)) continue;
    for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++)
      if (optimizer->parameter[p].matrix[i].grid != NULL) EQS_TRY(eqs_update_weight(optimizer, p, i));
  }
  return EQS_OK;
cleanup:
  return p < optimizer->plan->parameters
             ? eqs_fail_in(status, "parameter '%s'", optimizer->plan->parameter[p].info.name)
             : status;
}

eqs_status eqs_optimizer_end(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  EQS_TRY(update_those_that_waited(optimizer));
  EQS_TRY(eqs_damping_tell(optimizer));
  EQS_TRY(eqs_diagnostics_end(optimizer));
  for (int64_t p = 0; p < optimizer->plan->parameters; p++)
    optimizer->parameter[p].step += optimizer->parameter[p].present;
  optimizer->step++;
cleanup:
  optimizer->agreed = false;
  return status;
}

/* The gradients that were surveyed with their updates count too. */
static eqs_status agree_again(eqs_optimizer *optimizer)
{
  for (int64_t p = 0; p < optimizer->plan->parameters; p++) {
    eqs_owned_parameter *parameter = &optimizer->parameter[p];
    parameter->finite = isfinite(parameter->squares);
    if (optimizer->diagnostics.active && parameter->present && eqs_can_survey_on_the_way(optimizer, p))
      optimizer->diagnostics.sums[p][EQS_SUM_GRADIENT] += parameter->squares;
  }
  return eqs_optimizer_agree(optimizer);
}

static eqs_status update_all(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  for (int64_t p = 0; p < optimizer->plan->parameters; p++)
    for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++)
      if (optimizer->parameter[p].present && optimizer->parameter[p].matrix[i].grid != NULL)
        EQS_TRY(eqs_optimizer_update(optimizer, p, i));
cleanup:
  return status;
}

eqs_status eqs_optimizer_step(eqs_optimizer *optimizer, int trainers)
{
  eqs_status status = EQS_OK;
  bool on_the_way = !(optimizer->config->clip_grad_norm > 0 || optimizer->config->skip_nonfinite);
  eqs_optimizer_begin(optimizer, trainers);
  for (int64_t p = 0; p < optimizer->plan->parameters; p++)
    if (optimizer->parameter[p].present && !(on_the_way && eqs_can_survey_on_the_way(optimizer, p)))
      eqs_optimizer_survey(optimizer, p);
  EQS_TRY(eqs_optimizer_agree(optimizer));
  if (optimizer->skipped_last) goto cleanup;
  optimizer->surveys_on_the_way = on_the_way;
  EQS_TRY(update_all(optimizer));
  if (on_the_way) EQS_TRY(agree_again(optimizer));
  EQS_TRY(eqs_optimizer_end(optimizer));
cleanup:
  return status;
}
