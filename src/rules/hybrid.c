/*
 * Row norms and a one-sided polar factor together (arXiv 2605.18106):
 *
 *     row_then_polar   R = row_norm(D), centered again if D was;  U = max(ν(R), ε)^α R (RᵀR + εI)^(-1/2)
 *     polar_then_row   U = row_norm(max(ν, ε)^α D (DᵀD + εI)^(-1/2)), where the row norm cancels α but for its ε
 *
 * with the left Gram matrix under `side: left`.
 */
#include "rules/rules.h"
#include "rules/shared.h"

static eqs_status factor(const eqs_rule_options *options, int64_t step, eqs_matrix *states, eqs_matrix *d,
                         eqs_rule_findings *findings)
{
  eqs_status status = EQS_OK;
  if (options->order == EQS_ROW_THEN_POLAR) {
    EQS_TRY(eqs_normalize_rows(options, d, findings));
    if (options->center) EQS_TRY(eqs_matrix_center(d));
  }
  EQS_TRY(eqs_factor_polar(options, step, states, d, findings));
cleanup:
  return status;
}

static eqs_status update(const eqs_rule_options *options, eqs_rule_findings *findings, eqs_matrix *u, double *scale)
{
  eqs_status status = EQS_OK;
  if (options->order == EQS_ROW_THEN_POLAR) return eqs_update_by_nu(options, findings, u, scale);
  eqs_matrix_scale(u, eqs_nu_scale(options, findings));
  /* The factor of a centered D is centered but for rounding, which the polynomial amplified: not into the norms. */
  if (options->center) EQS_TRY(eqs_matrix_center(u));
  EQS_TRY(eqs_normalize_rows(options, u, findings));
  *scale = eqs_shape_scale(options->scale, u->distribution.rows, u->distribution.cols);
cleanup:
  return status;
}

static double flops(const eqs_rule_options *options, int64_t m, int64_t n)
{
  return eqs_factor_polar_flops(options, m, n) + 3 * (double)m * (double)n;
}

const eqs_rule eqs_rule_hybrid = {
    .name = "hybrid",
    .about = "row norms and a damped polar factor, for matrices whose rows are units: heads, routers, experts",
    .keys = EQS_KEY_MOMENTUM | EQS_KEY_BETA | EQS_KEY_ALPHA | EQS_KEY_ROW_MODE | EQS_KEY_ORDER | EQS_KEY_SIDE |
            EQS_KEY_CENTER | EQS_KEY_SCALE | EQS_KEY_NU_SCOPE | EQS_KEY_LAYOUT | EQS_KEYS_OF_POLAR,
    .momentum = EQS_MOMENTUM_EMA,
    .solver = EQS_POLAR_EXPRESS,
    .center = true,
    .uses_nu = true,
    .damped = true,
    .factor = factor,
    .update = update,
    .flops = flops,
};
