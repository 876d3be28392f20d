/*
 * Adam with bias correction, ε outside the root; the decay is the optimizer's (Loshchilov and Hutter 2019).
 *
 * The average of squares is a float32: a gradient of 1e20 makes it infinite under β2 = 0.95, and not under 0.999, as in
 * PyTorch, whose elements stand still from then on. Here the step is an error, or is skipped (`on_nonfinite`).
 */
#include <math.h>

#include "rules/rules.h"

static eqs_status factor(const eqs_rule_options *options, int64_t step, eqs_matrix *states, eqs_matrix *d,
                         eqs_rule_findings *findings)
{
  float *u = eqs_floats(d), *average = eqs_floats(&states[0]), *square = eqs_floats(&states[1]);
  float beta1 = (float)options->betas[0], beta2 = (float)options->betas[1], eps = (float)options->eps;
  float one_minus_beta1 = (float)(1 - options->betas[0]), one_minus_beta2 = (float)(1 - options->betas[1]);
  float correction1 = (float)(1 / (1 - pow(options->betas[0], (double)step)));
  float correction2 = (float)(1 / sqrt(1 - pow(options->betas[1], (double)step)));
  int64_t count = d->local_rows * d->local_cols;
  uint32_t largest_average = 0, largest_square = 0;
  for (int64_t i = 0; i < count; i++) {
    float g = u[i];
    average[i] = beta1 * average[i] + one_minus_beta1 * g;
    square[i] = beta2 * square[i] + one_minus_beta2 * g * g;
    uint32_t size_of_average = eqs_magnitude(average[i]), size_of_square = eqs_magnitude(square[i]);
    u[i] = correction1 * average[i] / (correction2 * sqrtf(square[i]) + eps);
    largest_average = size_of_average > largest_average ? size_of_average : largest_average;
    largest_square = size_of_square > largest_square ? size_of_square : largest_square;
  }
  findings->largest[0] = largest_average;
  findings->largest[1] = largest_square;
  return EQS_OK;
}

static double largest(const eqs_rule_options *options, int64_t step, double d, double *states)
{
  states[0] = options->betas[0] * states[0] + (1 - options->betas[0]) * d;
  states[1] = options->betas[1] * states[1] + (1 - options->betas[1]) * d * d;
  return states[0] / (1 - pow(options->betas[0], (double)step)) / options->eps;
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
    .about = "element by element, for norms, biases and everything that is no matrix",
    .keys = EQS_KEY_BETAS | EQS_KEY_EPS,
    .momentum = EQS_MOMENTUM_NONE,
    .row_wise = true,
    .element_wise = true,
    .states = 2,
    .state_names = {"exp_avg", "exp_avg_sq"},
    .factor = factor,
    .update = update,
    .largest = largest,
    .flops = flops,
};
