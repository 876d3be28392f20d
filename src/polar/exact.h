/* The exact solver. */
#ifndef EQS_POLAR_EXACT_H
#define EQS_POLAR_EXACT_H

#include "dist/matrix.h"
#include "polar/solver.h"

/*
 * x (xᵀx + εI)^(-1/2), ε = options->eps, by eigenvalues in float64; x is finite and not zero. nu as in eqs_polar.
 * Collective.
 */
eqs_status eqs_exact_polar(const eqs_polar_options *options, eqs_matrix *x, double *nu);

#endif
