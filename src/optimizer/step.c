#include "optimizer/step.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "dist/communicator.h"
#include "optimizer/damping.h"
#include "optimizer/gradient.h"
#include "optimizer/metrics.h"
#include "optimizer/nonfinite.h"
#include "optimizer/overflow.h"
#include "optimizer/update.h"
#include "optimizer/update_parameter.h"

void eqs_optimizer_begin(eqs_optimizer *optimizer, int trainers)
{
  optimizer->trainers = trainers;
  optimizer->clip_coefficient = 1;
  optimizer->measures_in_update = false;
  optimizer->nonfinite = INT64_MAX;
  for (int64_t p = 0; p < optimizer->plan->parameters; p++) {
    optimizer->parameter[p].finite = true;
    optimizer->parameter[p].squares = 0;
  }
  eqs_diagnostics_begin(optimizer->config, optimizer->plan, optimizer->step + 1, &optimizer->diagnostics);
}

void eqs_optimizer_measure_gradient(eqs_optimizer *optimizer, int64_t p)
{
  eqs_owned_parameter *parameter = &optimizer->parameter[p];
  double f = eqs_gradient_multiplier(optimizer, p);
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
  int64_t nonfinite;   /* the first parameter with a gradient that is not finite; INT64_MAX if none has */
  int64_t certain;     /* 0: an owner cannot exclude that an update overflows, and must know before it (`skip`) */
} gradient_minima;

static gradient_minima local_minima(eqs_optimizer *optimizer)
{
  gradient_minima minima = {.all_present = 1, .nonfinite = INT64_MAX, .certain = 1};
  for (int64_t p = optimizer->plan->parameters - 1; p >= 0; p--) {
    bool frozen = optimizer->plan->parameter[p].info.frozen != 0;
    if (!frozen && !optimizer->parameter[p].present && holds(optimizer, p)) minima.all_present = 0;
    if (!optimizer->parameter[p].finite) minima.nonfinite = p;
    if (optimizer->config->skip_nonfinite && optimizer->parameter[p].present && eqs_may_overflow(optimizer, p))
      minima.certain = 0;
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
  for (int64_t p = 0; p < parameters; p++) {
    const eqs_planned_parameter *planned = &optimizer->plan->parameter[p];
    bool assumed = all_present && planned->assignment.count > 0 && !planned->info.frozen;
    absent[p] = !optimizer->parameter[p].present && !assumed;
  }
  if (!all_present)
    EQS_TRY(eqs_minimum(optimizer->owners, absent, (int)parameters, "the owners' word on which gradients are there"));
  for (int64_t p = 0; p < parameters; p++) optimizer->parameter[p].present = !absent[p];
cleanup:
  free(absent);
  return status;
}

static eqs_status refuse_nonfinite(eqs_optimizer *optimizer, int64_t code)
{
  char words[1024];
  if (!optimizer->config->skip_nonfinite) return eqs_fail_nonfinite(optimizer, code);
  optimizer->skipped++;
  optimizer->skipped_last = true;
  eqs_nonfinite_text(optimizer, code, words, sizeof words);
  if (eqs_grid_cache_rank(optimizer->grids) == 0)
    eqs_log(EQS_LOG_WARNING, "step %lld: skipped, %s (%lld skipped so far)", (long long)optimizer->step + 1, words,
            (long long)optimizer->skipped);
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

double eqs_clip_coefficient(double norm, double max_norm)
{
  double factor = max_norm / (norm + 1e-6);
  return factor < 1 ? factor : 1;
}

/* What the gradient is multiplied by, for the limit of the configuration and that of the program. */
static double clip_coefficient(const eqs_optimizer *optimizer)
{
  double norm = optimizer->gradient_norm, limit = optimizer->config->clip_grad_norm;
  double factor = limit > 0 && norm > limit ? limit / norm : 1;
  double own = optimizer->settings->max_norm > 0 ? eqs_clip_coefficient(norm, optimizer->settings->max_norm) : 1;
  return own < factor ? own : factor;
}

eqs_status eqs_optimizer_agree(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  int64_t overflow = INT64_MAX;
  gradient_minima minima = local_minima(optimizer);
  EQS_TRY(eqs_minimum(optimizer->owners, (int64_t *)&minima, 3, "the owners' word on their gradients"));
  EQS_TRY(eqs_optimizer_norm(optimizer));
  EQS_TRY(agree_on_presence(optimizer, minima.all_present));

  optimizer->skipped_last = false;
  if (minima.nonfinite != INT64_MAX) {
    status = refuse_nonfinite(optimizer, eqs_nonfinite_code(minima.nonfinite, EQS_NONFINITE_GRADIENT));
    goto cleanup;
  }
  optimizer->clip_coefficient = clip_coefficient(optimizer);
  if (!minima.certain) EQS_TRY(eqs_try_updates(optimizer, &overflow));
  if (overflow != INT64_MAX) {
    status = refuse_nonfinite(optimizer, overflow);
    goto cleanup;
  }
  optimizer->agreed = true;
cleanup:
  return status;
}

/* What is known only after the updates: values that are not finite, and where ε outweighs a direction. */
static eqs_status look_back(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  struct {
    int64_t nonfinite, quiet;
  } minima = {.nonfinite = optimizer->nonfinite, .quiet = !eqs_damping_unreported(optimizer)};
  EQS_TRY(eqs_minimum(optimizer->owners, (int64_t *)&minima, 2, "the owners' word on their updates"));
  if (minima.nonfinite != INT64_MAX) return eqs_fail_nonfinite(optimizer, minima.nonfinite);
  if (!minima.quiet) EQS_TRY(eqs_report_damping(optimizer));
cleanup:
  return status;
}

eqs_status eqs_optimizer_end(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_update_all_waiting(optimizer));
  EQS_TRY(look_back(optimizer));
  EQS_TRY(eqs_metrics_write(optimizer));
  for (int64_t p = 0; p < optimizer->plan->parameters; p++)
    optimizer->parameter[p].step += optimizer->parameter[p].present;
  optimizer->step++;
cleanup:
  optimizer->agreed = false;
  return status;
}

/*
 * What is known only now of gradients that were measured with their updates: the norm of the whole, and values that are
 * not finite, which are an error when the step ends.
 */
static eqs_status complete_measurements(eqs_optimizer *optimizer)
{
  for (int64_t p = optimizer->plan->parameters - 1; p >= 0; p--) {
    eqs_owned_parameter *parameter = &optimizer->parameter[p];
    int64_t code = eqs_nonfinite_code(p, EQS_NONFINITE_GRADIENT);
    parameter->finite = isfinite(parameter->squares);
    if (!parameter->finite && code < optimizer->nonfinite) optimizer->nonfinite = code;
    if (optimizer->diagnostics.active && parameter->present && eqs_measures_in_update(optimizer, p))
      optimizer->diagnostics.sums[p][EQS_SUM_GRADIENT] += parameter->squares;
  }
  return eqs_optimizer_norm(optimizer);
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
  bool in_update = !(optimizer->config->clip_grad_norm > 0 || optimizer->config->skip_nonfinite);
  eqs_optimizer_begin(optimizer, trainers);
  for (int64_t p = 0; p < optimizer->plan->parameters; p++)
    if (optimizer->parameter[p].present && !(in_update && eqs_measures_in_update(optimizer, p)))
      eqs_optimizer_measure_gradient(optimizer, p);
  EQS_TRY(eqs_optimizer_agree(optimizer));
  if (optimizer->skipped_last) goto cleanup;
  optimizer->measures_in_update = in_update;
  EQS_TRY(update_all(optimizer));
  if (in_update) EQS_TRY(complete_measurements(optimizer));
  EQS_TRY(eqs_optimizer_end(optimizer));
cleanup:
  return status;
}
