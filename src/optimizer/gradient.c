#include "optimizer/gradient.h"

double eqs_gradient_multiplier(const eqs_optimizer *optimizer, int64_t p)
{
  bool takes_mean =
      optimizer->plan->parameter[p].info.gradient_placement == EQS_PARTIAL && !optimizer->config->reduce_sum;
  return optimizer->clip_coefficient / (optimizer->settings->gradient_scale * (takes_mean ? optimizer->trainers : 1));
}

eqs_momentum_coefficients eqs_momentum_coefficients_of(const eqs_rule_options *options, double f)
{
  switch (options->momentum) {
  case EQS_MOMENTUM_NESTEROV:
    return (eqs_momentum_coefficients){.keep = options->beta, .take = f, .of_g = f, .of_m = options->beta};
  case EQS_MOMENTUM_HEAVY_BALL: return (eqs_momentum_coefficients){.keep = options->beta, .take = f, .of_m = 1};
  default: return (eqs_momentum_coefficients){.keep = options->beta, .take = (1 - options->beta) * f, .of_m = 1};
  }
}
