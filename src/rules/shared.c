#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "rules/rules.h"

eqs_polar_options eqs_factor_options(const eqs_rule_options *options)
{
  /* Formulas with (DᵀD + εI)^(-1/2) damp an exact solver too; the polar factor itself is not damped. */
  bool damped = options->rule->damped || eqs_solver_damped(options->solver, options->normalisation);
  return (eqs_polar_options){
      .solver = options->solver,
      .steps = options->steps,
      .form = options->form,
      .side = options->side,
      .eps = damped ? options->eps : 0,
      .centered = options->center,
      .guarded = options->several,
      .normalisation = options->normalisation,
      .lists = options->lists,
  };
}

eqs_status eqs_factor_polar(const eqs_rule_options *options, int64_t step, eqs_matrix *states, eqs_matrix *d,
                            double *nu)
{
  (void)step, (void)states;
  eqs_polar_options polar = eqs_factor_options(options);
  bool with_nu = options->rule->uses_nu && options->alpha != 0;
  return eqs_polar(&polar, d, with_nu ? nu : NULL);
}

double eqs_factor_polar_flops(const eqs_rule_options *options, int64_t m, int64_t n)
{
  eqs_polar_options polar = eqs_factor_options(options);
  return eqs_polar_flops(&polar, m, n) + (options->rule->uses_nu ? 2 * (double)m * (double)n : 0);
}

eqs_status eqs_normalize_rows(const eqs_rule_options *options, eqs_matrix *x)
{
  eqs_status status = EQS_OK;
  double *factors = NULL;
  EQS_TRY(eqs_allocate_raw(&factors, x->local_rows, sizeof *factors));
  EQS_TRY(eqs_matrix_row_squares(x, factors));
  for (int64_t i = 0; i < x->local_rows; i++) {
    double norm = sqrt(factors[i]);
    factors[i] = 1 / (options->row_mode == EQS_ROW_INVERSE ? fmax(norm, options->eps) : norm + options->eps);
    if (!(factors[i] < INFINITY)) factors[i] = 0; /* a zero row with ε = 0 */
  }
  eqs_matrix_scale_rows(x, factors);
cleanup:
  free(factors);
  return status;
}

eqs_status eqs_update_by_nu(const eqs_rule_options *options, double nu, eqs_matrix *u, double *scale)
{
  *scale = eqs_scale_factor(options->scale, u->layout.rows, u->layout.cols);
  if (options->rule->uses_nu) *scale *= eqs_nu_factor(options, nu);
  return EQS_OK;
}
