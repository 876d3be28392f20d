/* What the parts of this room share. */
#ifndef EQS_POLAR_SOLVER_H
#define EQS_POLAR_SOLVER_H

#include "dist/product.h"
#include "polar/polar.h"

/* The normalisation s of a damped solver, from ||A||_F and ε; that of an undamped one, from ||D||_F. */
double eqs_damped_normalisation(const eqs_polar_options *options, double norm);
double eqs_undamped_normalisation(const eqs_polar_options *options, double norm);

/* Where the Gram form restarts, step by step. */
typedef struct {
  const eqs_polar_options *options;
  double limit, gain;
  int listed; /* how many of the restarts that the options list are behind */
} eqs_restarts;

eqs_restarts eqs_restarts_begin(const eqs_polar_options *options);

/* Whether it restarts before step 0, 1, ...; called for every step, in order. */
bool eqs_restarts_before(eqs_restarts *restarts, int step);

/* How often it restarts. */
int eqs_restart_count(const eqs_polar_options *options);

/*
 * The order of x's smaller Gram matrix, and which one that is: of the rows (EQS_AS_IS) or of the columns. Of a square
 * matrix it is the nominal one, which the formula names: where the columns of D differ much in size, so do the elements
 * of DᵀD, and float32 keeps its small eigenvalues; DDᵀ mixes them.
 */
int64_t eqs_smaller_side(eqs_side nominal, const eqs_matrix *x, eqs_operation *op);

/*
 * x (xᵀx + εI)^(-1/2), ε = options->eps, by eigenvalues in float64; x is finite and not zero. nu as in eqs_polar.
 * Collective.
 */
eqs_status eqs_exact_polar(const eqs_polar_options *options, eqs_matrix *x, double *nu);

#endif
