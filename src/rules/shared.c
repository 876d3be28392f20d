#include "rules/shared.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

eqs_status eqs_factor_polar(const eqs_rule_options *options, int64_t step, eqs_matrix *states, eqs_matrix *d,
                            eqs_rule_findings *findings)
{
  (void)step, (void)states;
  eqs_polar_options polar = eqs_rule_polar_options(options);
  eqs_polar_findings found;
  eqs_status status = eqs_polar_measured(&polar, d, options->rule->uses_nu && options->alpha != 0, &found);
  findings->nu = found.nu, findings->squares = found.squares;
  findings->damping = found.damping, findings->nonfinite = found.nonfinite;
  return status;
}

double eqs_factor_polar_flops(const eqs_rule_options *options, int64_t m, int64_t n)
{
  eqs_polar_options polar = eqs_rule_polar_options(options);
  return eqs_polar_flops(&polar, m, n) + (options->rule->uses_nu ? 2 * (double)m * (double)n : 0);
}

/* ε in the unit of rows: their root mean square, if it is relative. */
static eqs_status find_row_eps(const eqs_rule_options *options, const eqs_matrix *x, double *eps)
{
  eqs_status status = EQS_OK;
  double norm;
  *eps = options->eps;
  if (options->eps_mode == EQS_EPS_RELATIVE) {
    EQS_TRY(eqs_matrix_norm(x, &norm));
    *eps *= norm / sqrt((double)x->distribution.rows);
  }
cleanup:
  return status;
}

eqs_status eqs_normalize_rows(const eqs_rule_options *options, eqs_matrix *x, eqs_rule_findings *findings)
{
  eqs_status status = EQS_OK;
  double *factors = NULL, eps;
  EQS_TRY(eqs_allocate_raw(&factors, x->local_rows, sizeof *factors));
  EQS_TRY(find_row_eps(options, x, &eps));
  EQS_TRY(eqs_matrix_row_squares(x, factors));
  for (int64_t i = 0; i < x->local_rows; i++) {
    double norm = sqrt(factors[i]);
    findings->rows += norm > 0;
    findings->damped_rows += norm > 0 && norm < eps;
    if (findings->row_norms != NULL) findings->row_norms[i] = norm;
    factors[i] = 1 / (options->row_mode == EQS_ROW_INVERSE ? fmax(norm, eps) : norm + eps);
    if (!(norm > 0)) factors[i] = 0; /* also where ε is 0 or next to it */
  }
  eqs_matrix_scale_rows(x, factors);
cleanup:
  free(factors);
  return status;
}

eqs_status eqs_update_by_nu(const eqs_rule_options *options, eqs_rule_findings *findings, eqs_matrix *u, double *scale)
{
  *scale = eqs_shape_scale(options->scale, u->distribution.rows, u->distribution.cols);
  if (options->rule->uses_nu) *scale *= eqs_nu_scale(options, findings);
  return EQS_OK;
}
