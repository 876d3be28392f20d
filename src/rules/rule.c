#include "rules/rule.h"

#include <math.h>
#include <string.h>

const char *const eqs_momentum_names[EQS_MOMENTA] = {"none", "ema", "nesterov", "heavy_ball", "polar_first"};
const char *const eqs_row_mode_names[EQS_ROW_MODES] = {"inverse_eps", "inverse"};
const char *const eqs_order_names[EQS_ORDERS] = {"row_then_polar", "polar_then_row"};
const char *const eqs_nu_scope_names[EQS_NU_SCOPES] = {"tensor", "matrix"};
const char *const eqs_eps_mode_names[EQS_EPS_MODES] = {"absolute", "relative"};
const char *const eqs_scale_names[EQS_SCALES] = {"none", "sqrt_max_1_rows_over_cols", "sqrt_rows_over_cols",
                                                 "0.2_sqrt_max_dim"};

static bool keeps_sum(const char *kind)
{
  return strcmp(kind, eqs_momentum_names[EQS_MOMENTUM_NESTEROV]) == 0 ||
         strcmp(kind, eqs_momentum_names[EQS_MOMENTUM_HEAVY_BALL]) == 0;
}

bool eqs_momentum_same_buffer(const char *kind, const char *other)
{
  return strcmp(kind, other) == 0 || (keeps_sum(kind) && keeps_sum(other));
}

eqs_rule_options eqs_rule_defaults(const eqs_rule *rule)
{
  return (eqs_rule_options){
      .rule = rule,
      .momentum = rule->momentum,
      .beta = 0.95,
      .betas = {0.9, 0.95},
      .alpha = 1,
      .eps = 1e-8,
      .solver = rule->solver,
      .steps = 5,
      .form = EQS_FORM_AUTO,
      .side = rule->side,
      .scale = rule->scale,
  };
}

const char *eqs_rule_refusal(const eqs_rule_options *options)
{
  if (options->momentum == EQS_MOMENTUM_POLAR_FIRST && !options->rule->polar_first)
    return "momentum polar_first needs a rule whose factor is a polar factor (muon, polar, right_spectral, "
           "left_spectral)";
  if (!(options->rule->keys & EQS_KEY_SOLVER)) return NULL;
  const eqs_polar_lists *lists = options->lists;
  if (options->form == EQS_FORM_DIRECT && eqs_solver_damped(options->solver, options->normalisation))
    return "form direct has no place for the damping of this solver";
  if (options->solver == EQS_CUSTOM && (lists == NULL || lists->polynomials == 0))
    return "solver custom needs coefficients, like [[3.4445, -4.775, 2.0315], [2, -1.5, 0.5]]";
  if (options->form == EQS_FORM_DIRECT && lists != NULL && lists->restarts > 0)
    return "restarts are of the Gram form: leave them out, or take form auto, gram or gram_restart";
  return NULL;
}

eqs_polar_options eqs_rule_polar_options(const eqs_rule_options *options)
{
  /* Formulas with (DᵀD + εI)^(-1/2) damp an exact solver too; the polar factor itself is not damped. */
  bool damped = options->rule->damped || eqs_solver_damped(options->solver, options->normalisation);
  return (eqs_polar_options){
      .solver = options->solver,
      .steps = options->steps,
      .form = options->form,
      .side = options->side,
      .eps = damped ? options->eps : 0,
      .relative = options->eps_mode == EQS_EPS_RELATIVE,
      .centered = options->center,
      .guarded = options->several,
      .normalisation = options->normalisation,
      .lists = options->lists,
  };
}

double eqs_rule_largest(const eqs_rule_options *options, int64_t step, int64_t m, int64_t n, int64_t count, double d,
                        double *states)
{
  const eqs_rule *rule = options->rule;
  double u = 2.5, scale = eqs_shape_scale(options->scale, m, n), norm = sqrt((double)m * (double)n) * d;
  if (rule->largest != NULL) {
    u = rule->largest(options, step, d, states);
  } else if (eqs_rule_has_polar(rule)) {
    eqs_polar_options polar = eqs_rule_polar_options(options);
    u = eqs_solver_largest(&polar);
  }
  if (rule->uses_nu) { /* ν <= ||D||_F ||U||_F */
    double nu = (double)count * norm * u * sqrt((double)(m < n ? m : n));
    eqs_rule_findings bound = {.nu = nu, .squares = (double)count * norm * norm};
    u *= fmax(1, eqs_nu_scale(options, &bound));
  }
  return 2 * u * fmax(1, scale); /* centering may double it */
}

bool eqs_rule_is_damped(const eqs_rule_options *options)
{
  const eqs_rule *rule = options->rule;
  bool of_gram =
      eqs_rule_has_polar(rule) && (rule->damped || eqs_solver_damped(options->solver, options->normalisation));
  return of_gram || (rule->keys & EQS_KEY_ROW_MODE) != 0;
}

double eqs_shape_scale(eqs_scale scale, int64_t m, int64_t n)
{
  double rows = (double)m, cols = (double)n;
  switch (scale) {
  case EQS_SCALE_SQRT_MAX_1_ROWS_OVER_COLS: return sqrt(fmax(1, rows / cols));
  case EQS_SCALE_SQRT_ROWS_OVER_COLS: return sqrt(rows / cols);
  case EQS_SCALE_02_SQRT_MAX_DIM: return 0.2 * sqrt(fmax(rows, cols));
  default: return 1;
  }
}

double eqs_nu_scale(const eqs_rule_options *options, const eqs_rule_findings *findings)
{
  double least = options->eps_mode == EQS_EPS_RELATIVE ? options->eps * sqrt(findings->squares) : options->eps;
  return options->alpha == 0 ? 1 : pow(fmax(findings->nu, least), options->alpha);
}

eqs_status eqs_rule_factor(const eqs_rule_options *options, int64_t step, eqs_matrix *states, eqs_matrix *d,
                           eqs_rule_findings *findings)
{
  eqs_status status = EQS_OK;
  *findings = (eqs_rule_findings){.row_norms = findings->row_norms};
  if (options->center) EQS_TRY(eqs_matrix_center(d));
  EQS_TRY(options->rule->factor(options, step, states, d, findings));
cleanup:
  return status;
}

eqs_status eqs_rule_update(const eqs_rule_options *options, eqs_rule_findings *findings, eqs_matrix *u, double *scale)
{
  eqs_status status = EQS_OK;
  EQS_TRY(options->rule->update(options, findings, u, scale));
  if (options->center) EQS_TRY(eqs_matrix_center(u));
cleanup:
  return status;
}

bool eqs_rule_has_polar(const eqs_rule *rule)
{
  return (rule->keys & EQS_KEY_SOLVER) != 0;
}

/*
 * Times that every element goes between memory and processor. Row by row: gradient, momentum (states) and weight read,
 * momentum and weight written; centered, the momentum twice more. Around a polar factor: momentum 4, its norm 1, the
 * Gram matrix 1, the last product 4 with the part moved aside, weight 3.
 */
static double memory_passes(const eqs_rule_options *options)
{
  double states = (options->momentum != EQS_MOMENTUM_NONE) + options->rule->states;
  if (eqs_rule_has_polar(options->rule)) return 13 + (options->center ? 6 : 0);
  return options->rule->row_wise ? 3 + 2 * states + (options->center ? 2 : 0) : 10 + 2 * states;
}

double eqs_rule_seconds(const eqs_rule_options *options, const eqs_speeds *speeds, const eqs_grid *grid, int64_t m,
                        int64_t n)
{
  double elements = (double)m * (double)n / ((double)grid->rows * grid->cols), seconds = 0;
  if (eqs_rule_has_polar(options->rule)) {
    eqs_polar_options polar = eqs_rule_polar_options(options);
    seconds = eqs_polar_seconds(&polar, speeds, grid, m, n);
  }
  return seconds + sizeof(float) * elements * memory_passes(options) / speeds->triad;
}

void eqs_rule_workspace(const eqs_rule_options *options, const eqs_grid *grid, int64_t m, int64_t n, int64_t *kept,
                        int64_t *freed)
{
  eqs_polar_options polar = eqs_rule_polar_options(options);
  *kept = *freed = 0;
  if (eqs_rule_has_polar(options->rule)) eqs_polar_workspace(&polar, grid, m, n, kept, freed);
}
