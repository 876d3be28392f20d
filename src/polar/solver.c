#include "polar/solver.h"

#include <math.h>
#include <stddef.h>

const char *const eqs_solver_names[EQS_SOLVERS] = {
    [EQS_NEWTON_SCHULZ] = "newton_schulz",
    [EQS_POLAR_EXPRESS] = "polar_express",
    [EQS_POLAR_EXPRESS_5] = "polar_express_5",
    [EQS_GRAM_POLAR_EXPRESS] = "gram_polar_express",
    [EQS_JORDAN] = "jordan",
    [EQS_YOU] = "you",
    [EQS_EXACT] = "exact",
    [EQS_CUSTOM] = "custom",
};
const char *const eqs_form_names[EQS_FORMS] = {
    [EQS_FORM_AUTO] = "auto",
    [EQS_FORM_DIRECT] = "direct",
    [EQS_FORM_GRAM] = "gram",
    [EQS_FORM_GRAM_RESTART] = "gram_restart",
};
const char *const eqs_normalisation_names[EQS_NORMALISATIONS] = {
    [EQS_NORM_FROBENIUS] = "frobenius",
    [EQS_NORM_GRAM] = "gram",
};
const char *const eqs_side_names[EQS_SIDES] = {[EQS_RIGHT] = "right", [EQS_LEFT] = "left"};

/* Rows a, b, c; the last one repeats. */

static const double newton_schulz[][3] = {{1.5, -0.5, 0}};

/* Amsel et al. 2025, for singular values from 1e-3 on, eight steps. */
static const double polar_express_8[][3] = {
    {8.28721201814563, -23.595886519098837, 17.300387312530933},
    {4.107059111542203, -2.9478499167379106, 0.5448431082926601},
    {3.9486908534822946, -2.908902115962949, 0.5518191394370137},
    {3.3184196573706015, -2.488488024314874, 0.51004894012372},
    {2.300652019954817, -1.6689039845747493, 0.4188073119525673},
    {1.891301407787398, -1.2679958271945868, 0.37680408948524835},
    {1.8750014808534479, -1.2500016453999487, 0.3750001645474248},
    {1.875, -1.25, 0.375},
};
enum { unsafe_steps_8 = 7 }; /* those that take the safety factor */
static const double safety = 1.05;

static const double polar_express_5[][3] = {
    {8.156554524902461, -22.48329292557795, 15.878769915207462},
    {4.042929935166739, -2.808917465908714, 0.5000178451051316},
    {3.8916678022926607, -2.772484153217685, 0.5060648178503393},
    {3.285753657755655, -2.3681294933425376, 0.46449024233003106},
    {2.3465413258596377, -1.7097828382687081, 0.42323551169305323},
};

static const double jordan[][3] = {{3.4445, -4.7750, 2.0315}};

static const double you[][3] = {
    {4.0848, -6.8946, 2.9270}, {3.9505, -6.3029, 2.6377}, {3.7418, -5.5913, 2.3037},
    {2.8769, -3.1427, 1.2046}, {2.8366, -3.0525, 1.2012},
};

/* s = factor · norm + eps_factor · ε, or + guard where it is asked for */
typedef struct {
  const double (*coefficients)[3];
  int count, unsafe_steps;
  bool damped;
  double factor, eps_factor, guard;
} solver;

static const double largest_guard = 2e-4; /* of the norm */

#define COEFFICIENTS(table) .coefficients = table, .count = sizeof table / sizeof table[0]

static const solver solvers[EQS_SOLVERS] = {
    [EQS_NEWTON_SCHULZ] = {COEFFICIENTS(newton_schulz), .damped = true, .factor = 1},
    [EQS_POLAR_EXPRESS] = {COEFFICIENTS(polar_express_8), .unsafe_steps = unsafe_steps_8, .damped = true,
                           .factor = 1.02, .eps_factor = 1},
    [EQS_POLAR_EXPRESS_5] = {COEFFICIENTS(polar_express_5), .factor = 1.02, .guard = 1e-6},
    [EQS_GRAM_POLAR_EXPRESS] = {COEFFICIENTS(polar_express_8), .unsafe_steps = unsafe_steps_8, .factor = 1,
                                .guard = 1e-7},
    [EQS_JORDAN] = {COEFFICIENTS(jordan), .factor = 1, .guard = 1e-7},
    [EQS_YOU] = {COEFFICIENTS(you), .factor = 1, .guard = 1e-7},
    [EQS_EXACT] = {.coefficients = NULL},
    [EQS_CUSTOM] = {.coefficients = NULL, .factor = 1, .guard = 1e-7},
};

eqs_operation eqs_nominal_gram(eqs_side side)
{
  return side == EQS_LEFT ? EQS_AS_IS : EQS_TRANSPOSED;
}

bool eqs_solver_damped(eqs_solver which, eqs_normalisation normalisation)
{
  return which == EQS_CUSTOM ? normalisation == EQS_NORM_GRAM : solvers[which].damped;
}

void eqs_solver_coefficients(const eqs_polar_options *options, int k, double coefficients[3])
{
  const solver *s = &solvers[options->solver];
  const double(*rows)[3] = s->coefficients;
  int count = s->count;
  if (options->solver == EQS_CUSTOM) {
    rows = (const double(*)[3])options->lists->polynomial;
    count = options->lists->polynomials;
  }
  const double *row = rows[k < count ? k : count - 1];
  double shrink = k < s->unsafe_steps ? safety : 1;
  coefficients[0] = row[0] / shrink;
  coefficients[1] = row[1] / (shrink * shrink * shrink);
  coefficients[2] = row[2] / (shrink * shrink * shrink * shrink * shrink);
}

double eqs_damped_normalisation(const eqs_polar_options *options, double norm)
{
  const solver *s = &solvers[options->solver];
  return s->factor * norm + s->eps_factor * options->eps;
}

double eqs_undamped_normalisation(const eqs_polar_options *options, double norm)
{
  const solver *s = &solvers[options->solver];
  return s->factor * norm + (options->guarded ? fmin(s->guard, largest_guard * norm) : 0);
}

double eqs_solver_largest(const eqs_polar_options *options)
{
  enum { mesh = 512 };
  double largest = 1.25;
  for (int i = 1; options->solver == EQS_CUSTOM && i <= mesh; i++) {
    double x = (double)i / mesh;
    for (int step = 0; step < options->steps; step++) {
      double p[3];
      eqs_solver_coefficients(options, step, p);
      x *= p[0] + x * x * (p[1] + x * x * p[2]);
    }
    largest = fabs(x) <= largest ? largest : fabs(x); /* also if it is not a number */
  }
  return isfinite(largest) ? 2 * largest : INFINITY;
}
