/*
 * Polar factors and inverse square roots of distributed matrices.
 */
#ifndef EQS_POLAR_POLAR_H
#define EQS_POLAR_POLAR_H

#include "dist/matrix.h"
#include "dist/speeds.h"
#include "polar/solver.h"

/*
 * x <- its polar factor as the solver approximates it: Q Vᵀ of x = Q Σ Vᵀ; for damped solvers
 * x (xᵀx + εI)^(-1/2) (right) or (xxᵀ + εI)^(-1/2) x (left). A zero matrix stays zero; rank-deficient input
 * gives a finite result (EQS_EXACT: the factor of the numerical row space, zero elsewhere). With solvers that converge
 * to 1, ||x||_2 <= 1.3 for any input and any number of steps: the Gram form restarts where it needs to (restarts.c).
 *
 * options  [in]
 * x        [in, out] float32
 * nu       [out] <x before, x after>, the nuclear norm where the factor is exact; may be NULL
 *
 * Collective over x's grid. The same input on the same grid gives the same bits.
 * EQS_USAGE: a form that the solver has not.
 */
eqs_status eqs_polar(const eqs_polar_options *options, eqs_matrix *x, double *nu);

/* The same, and what it finds on the way. */
typedef struct {
  double nu;      /* <x before, x after>; 0 unless asked for */
  double squares; /* ||x before||²_F */
  double damping; /* ε / (ε + mean eigenvalue of the smaller Gram matrix), 0 ... 1; 0 without damping, and for x = 0 */
  bool nonfinite; /* why EQS_FAILED is returned: x has elements that are not finite. The same on all members */
} eqs_polar_findings;

eqs_status eqs_polar_measured(const eqs_polar_options *options, eqs_matrix *x, bool with_nu,
                              eqs_polar_findings *findings);

/*
 * Floating-point operations of eqs_polar on an m×n matrix, all ranks together, where its symmetric set is replicated
 * (dist/symmetric_set.h); where that is distributed it asks for whole products where this counts halves.
 */
double eqs_polar_flops(const eqs_polar_options *options, int64_t m, int64_t n);

/* Predicted seconds of eqs_polar on an m×n matrix that lies on a grid, of which only rows and cols are read. */
double eqs_polar_seconds(const eqs_polar_options *options, const eqs_speeds *speeds, const eqs_grid *grid, int64_t m,
                         int64_t n);

/* Bytes of a rank's workspace in eqs_polar: what is kept for later calls, and what is freed. */
void eqs_polar_workspace(const eqs_polar_options *options, const eqs_grid *grid, int64_t m, int64_t n, int64_t *kept,
                         int64_t *freed);

#endif
