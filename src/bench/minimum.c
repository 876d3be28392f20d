#include "bench/minimum.h"

#include <math.h>

#include "optimizer/plan.h"

double eqs_minimal_polar_flops(const eqs_polar_options *options, int64_t m, int64_t n)
{
  if (options->solver == EQS_EXACT) return eqs_polar_flops(options, m, n);
  double shorter = fmin((double)m, (double)n), longer = fmax((double)m, (double)n), steps = options->steps;
  double square = pow(shorter, 3), gram_and_apply = 3 * shorter * shorter * longer;
  double coefficients[3];
  eqs_solver_coefficients(options, 0, coefficients);
  double quintic = coefficients[2] != 0;
  return fmin(gram_and_apply + ((3 + quintic) * steps - 3) * square, steps * (gram_and_apply + quintic * square));
}

eqs_least_cost eqs_minimal_update(const eqs_rule_options *options, int64_t m, int64_t n)
{
  const eqs_polar_options polar = {
      .solver = options->solver, .steps = options->steps, .side = options->side, .lists = options->lists};
  return (eqs_least_cost){
      .flops = eqs_rule_has_polar(options->rule) ? eqs_minimal_polar_flops(&polar, m, n) : 0,
      .bytes = (double)m * (double)n * sizeof(float) * (1 + 2 * eqs_state_count(options)),
  };
}
