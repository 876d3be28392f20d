#include "optimizer/update.h"

double eqs_gradient_factor(const eqs_optimizer *optimizer, int64_t p)
{
  bool takes_mean = optimizer->plan->parameter[p].info.gradient == EQS_PARTIAL && !optimizer->config->reduce_sum;
  return optimizer->clip_factor / (optimizer->gradient_scale * (takes_mean ? optimizer->trainers : 1));
}

/* f G (or, for polar_first, the polar factor of it) -> direction, in place; the momentum is updated. */
static void apply_momentum(const eqs_rule_options *options, double f, eqs_matrix *momentum, eqs_matrix *gradient)
{
  switch (options->momentum) {
  case EQS_MOMENTUM_EMA:
  case EQS_MOMENTUM_POLAR_FIRST:
    eqs_matrix_combine((1 - options->beta) * f, gradient, options->beta, momentum);
    eqs_matrix_copy(momentum, gradient);
    break;
  case EQS_MOMENTUM_NESTEROV:
    eqs_matrix_combine(f, gradient, options->beta, momentum);
    eqs_matrix_combine(options->beta, momentum, f, gradient);
    break;
  case EQS_MOMENTUM_HEAVY_BALL:
    eqs_matrix_combine(f, gradient, options->beta, momentum);
    eqs_matrix_copy(momentum, gradient);
    break;
  default:
    if (f != 1) eqs_matrix_scale(gradient, f);
  }
}

eqs_status eqs_make_factor(eqs_optimizer *optimizer, int64_t p, int64_t i)
{
  eqs_status status = EQS_OK;
  const eqs_rule_options *options = &optimizer->plan->parameter[p].assignment.options;
  eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
  double f = eqs_gradient_factor(optimizer, p);
  bool factor_first = options->momentum == EQS_MOMENTUM_POLAR_FIRST;
  if (!factor_first)
    apply_momentum(options, f, &matrix->momentum, &matrix->gradient);
  else if (f != 1)
    eqs_matrix_scale(&matrix->gradient, f);
  eqs_diagnostics_add_squares(&optimizer->diagnostics, p, EQS_SUM_DIRECTION, &matrix->gradient);
  EQS_TRY(eqs_rule_factor(options, optimizer->parameter[p].step + 1, matrix->states, &matrix->gradient, &matrix->nu));
  EQS_TRY(eqs_diagnostics_add_factor(&optimizer->diagnostics, p, options, &matrix->gradient, matrix->nu));
  if (factor_first) apply_momentum(options, 1, &matrix->momentum, &matrix->gradient);
cleanup:
  return status;
}

eqs_status eqs_update_weight(eqs_optimizer *optimizer, int64_t p, int64_t i)
{
  eqs_status status = EQS_OK;
  const eqs_assignment *assignment = &optimizer->plan->parameter[p].assignment;
  eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
  double lr = eqs_learning_rate(optimizer, assignment->group);
  EQS_TRY(eqs_rule_update(&assignment->options, matrix->nu, &matrix->gradient));
  eqs_diagnostics_add_squares(&optimizer->diagnostics, p, EQS_SUM_WEIGHT, &matrix->weight);
  EQS_TRY(eqs_diagnostics_add_update(&optimizer->diagnostics, p, &matrix->gradient));
  eqs_matrix_combine(-lr, &matrix->gradient, 1 - lr * assignment->options.weight_decay, &matrix->weight);
cleanup:
  return status;
}

bool eqs_shares_nu(const eqs_assignment *assignment)
{
  const eqs_rule_options *options = &assignment->options;
  return options->rule->uses_nu && options->alpha != 0 && options->nu_scope == EQS_NU_TENSOR && assignment->count > 1;
}
