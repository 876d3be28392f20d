/*
 * Where the Gram form restarts.
 *
 * Every step multiplies a small eigenvalue of R by a², and so it does with the rounding errors of R, which are about
 * 1e-7 of its largest eigenvalue. In the null space of D, where R has nothing but errors, a negative eigenvalue that
 * has grown to -1 grows without bound from there. A restart computes R anew, from an X in whose null space there is
 * next to nothing. So the gain, the product of a² since the last restart, is to stay below a limit.
 */
#include "polar/restarts.h"

/*
 * An error of 1e-7 that has become some percent does no harm yet: ||U||_2 as it should be for ranks from 1, conditions
 * up to 1e12, orders up to 1024. Five steps of every solver stay below it.
 */
static const double harmless_gain = 2e5;
/* What is worth its restarts where there have to be some: 16 steps of polar_express leave ||UUᵀ - I||_2 near 1e-6. */
static const double accurate_gain = 2e3;

enum { default_restart = 2 }; /* of form gram_restart (Zhang et al. 2026) */

static bool lists_restarts(const eqs_polar_options *options)
{
  return options->lists != NULL && options->lists->restarts > 0;
}

static double gain_of(const eqs_polar_options *options, int step)
{
  double p[3];
  eqs_solver_coefficients(options, step, p);
  return p[0] * p[0] > 1 ? p[0] * p[0] : 1;
}

/* Of all errors that meet R again: those of the last step do not. */
static double total_gain(const eqs_polar_options *options)
{
  double gain = 1;
  for (int step = 0; step + 1 < options->steps; step++) gain *= gain_of(options, step);
  return gain;
}

eqs_restarts eqs_restarts_begin(const eqs_polar_options *options)
{
  bool as_few_as_possible = options->form == EQS_FORM_GRAM || lists_restarts(options);
  bool needs_one = options->form == EQS_FORM_GRAM_RESTART || total_gain(options) > harmless_gain;
  return (eqs_restarts){
      .options = options, .limit = as_few_as_possible || !needs_one ? harmless_gain : accurate_gain, .gain = 1};
}

static bool is_listed(eqs_restarts *restarts, int step)
{
  const eqs_polar_options *options = restarts->options;
  if (!lists_restarts(options)) return options->form == EQS_FORM_GRAM_RESTART && step == default_restart;
  if (restarts->listed == options->lists->restarts || options->lists->restart[restarts->listed] != step) return false;
  restarts->listed++;
  return true;
}

bool eqs_restarts_before(eqs_restarts *restarts, int step)
{
  bool listed = is_listed(restarts, step), restart = step > 0 && (listed || restarts->gain > restarts->limit);
  if (restart) restarts->gain = 1;
  restarts->gain *= gain_of(restarts->options, step);
  return restart;
}

int eqs_restart_count(const eqs_polar_options *options)
{
  eqs_restarts restarts = eqs_restarts_begin(options);
  int count = 0;
  for (int step = 0; step < options->steps; step++) count += eqs_restarts_before(&restarts, step);
  return count;
}
