/* What the parts of this room share. */
#ifndef EQS_POLAR_SOLVER_H
#define EQS_POLAR_SOLVER_H

#include "dist/product.h"
#include "polar/polar.h"

/* The normalisation s of a solver, from ||D||_F, or of a damped one from ||A||_F and ε. */
double eqs_solver_normalisation(eqs_solver solver, double norm, double eps);

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
