/* Adam with bias correction, ε outside the root; the decay is the optimizer's (Loshchilov and Hutter 2019). */
#include <math.h>

#include "rules/rules.h"

static eqs_status factor(const eqs_rule_options *options, int64_t step, eqs_matrix *states, eqs_matrix *d,
                         eqs_rule_findings *findings)
{
  (void)findings;
  float *u = eqs_floats(d), *average = eqs_floats(&states[0]), *square = eqs_floats(&states[1]);
  float beta1 = (float)options->betas[0], beta2 = (float)options->betas[1], eps = (float)options->eps;
  float one_minus_beta1 = (float)(1 - options->betas[0]), one_minus_beta2 = (float)(1 - options->betas[1]);
  float correction1 = (float)(1 / (1 - pow(options->betas[0], (double)step)));
  float correction2 = (float)(1 / sqrt(1 - pow(options->betas[1], (double)step)));
  int64_t count = d->local_rows * d->local_cols;
  for (int64_t i = 0; i < count; i++) {
    float g = u[i];
    average[i] = beta1 * average[i] + one_minus_beta1 * g;
    square[i] = beta2 * square[i] + one_minus_beta2 * g * g;
    u[i] = correction1 * average[i] / (correction2 * sqrtf(square[i]) + eps);
  }
  return EQS_OK;
}

static eqs_status update(const eqs_rule_options *options, eqs_rule_findings *findings, eqs_matrix *u, double *scale)
{
  (void)options, (void)findings, (void)u;
  *scale = 1;
  return EQS_OK;
}

static double flops(const eqs_rule_options *options, int64_t m, int64_t n)
{
  (void)options;
  return 12 * (double)m * (double)n;
}

const eqs_rule eqs_rule_adamw = {
    .name = "adamw",
    .keys = EQS_KEY_BETAS | EQS_KEY_EPS,
    .momentum = EQS_MOMENTUM_NONE,
    .row_wise = true,
    .element_wise = true,
    .states = 2,
    .state_names = {"exp_avg", "exp_avg_sq"},
    .factor = factor,
    .update = update,
    .flops = flops,
};
