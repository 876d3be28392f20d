/*
 * Polar factors and inverse square roots of distributed matrices.
 *
 * A solver is a sequence of odd polynomials p_k(x) = a x + b x³ + c x⁵ applied to the singular values of D/s,
 * together with its normalisation s. Sources: Lau and Su 2026 (arXiv 2605.18106), Amsel et al. 2025
 * (2505.16932), Jordan et al. 2024.
 */
#ifndef EQS_POLAR_POLAR_H
#define EQS_POLAR_POLAR_H

#include "dist/matrix.h"
#include "dist/speeds.h"

/*
 * The references add 1e-6 (polar_express_5) or 1e-7 to ||D||_F, as a guard against dividing by zero. Here zero matrices
 * are looked for instead, and an undamped factor does not depend on the size of D; but see `guarded`.
 */
typedef enum {
  EQS_NEWTON_SCHULZ,      /* damped, s = ||A||_F */
  EQS_POLAR_EXPRESS,      /* damped, s = 1.02 ||A||_F + ε */
  EQS_POLAR_EXPRESS_5,    /* s = 1.02 ||D||_F */
  EQS_GRAM_POLAR_EXPRESS, /* s = ||D||_F */
  EQS_JORDAN,             /* s = ||D||_F */
  EQS_YOU,                /* s = ||D||_F */
  EQS_EXACT,              /* eigenvalues of the Gram matrix in float64 */
  EQS_CUSTOM,             /* polynomials that the configuration gives, s by its `normalisation` */
  EQS_SOLVERS
} eqs_solver;

/* s of EQS_CUSTOM: ||D||_F; or ||A||_F, damped. A factor on s is one on the first polynomial's variable. */
typedef enum { EQS_NORM_FROBENIUS, EQS_NORM_GRAM, EQS_NORMALISATIONS } eqs_normalisation;

typedef enum { EQS_FORM_AUTO, EQS_FORM_DIRECT, EQS_FORM_GRAM, EQS_FORM_GRAM_RESTART, EQS_FORMS } eqs_form;

/* Which Gram matrix A the damping is added to: DᵀD + εI (right) or DDᵀ + εI (left). */
typedef enum { EQS_RIGHT, EQS_LEFT, EQS_SIDES } eqs_side;

/* Lists that a configuration may give. */
typedef struct {
  int restarts;
  int *restart; /* the Gram form restarts after so many steps; ascending */
  int polynomials;
  double (*polynomial)[3]; /* a, b, c of every step of EQS_CUSTOM; the last one repeats */
} eqs_polar_lists;

typedef struct {
  eqs_solver solver;
  int steps;     /* polynomials; not used by EQS_EXACT */
  eqs_form form; /* EQS_FORM_DIRECT is refused for damped solvers */
  eqs_side side; /* matters to damped solvers through ε only */
  double eps;    /* damping ε of the damped solvers; EQS_EXACT uses it too: 0 for the polar factor */
  bool relative; /* ε is in units of ||x||²_F / k, k the smaller side: the mean eigenvalue of the smaller Gram matrix */
  bool centered; /* x's rows sum to zero: xxᵀ is singular, and products are chosen for that */
  /*
   * Undamped solvers: add the references' constant, but at most 2e-4 ||D||_F. Heads have directions as small as 0.01,
   * where 1e-6 changes the factor by 1e-3, and recorded trajectories with it. The bound keeps the size of D from
   * mattering more than that.
   */
  bool guarded;
  eqs_normalisation normalisation; /* of EQS_CUSTOM */
  const eqs_polar_lists *lists;    /* borrowed; NULL: none */
} eqs_polar_options;

/* Names as in the configuration, indexed by the enum: "newton_schulz", "auto", "right". */
extern const char *const eqs_solver_names[EQS_SOLVERS];
extern const char *const eqs_form_names[EQS_FORMS];
extern const char *const eqs_side_names[EQS_SIDES];
extern const char *const eqs_normalisation_names[EQS_NORMALISATIONS];

/* Whether the solver damps its Gram matrix (newton_schulz, polar_express, custom by its normalisation). */
bool eqs_solver_damped(eqs_solver solver, eqs_normalisation normalisation);

/* Coefficients of step k = 0, 1, ...: a, b, c, the safety factor included. Not for EQS_EXACT. */
void eqs_solver_coefficients(const eqs_polar_options *options, int k, double coefficients[3]);

/*
 * An upper bound of the elements of a factor: 2.5, which the polynomials of all solvers stay below; what those of
 * EQS_CUSTOM come to, twice; infinity if they overflow.
 */
double eqs_polar_largest(const eqs_polar_options *options);

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

/* ||UᵀU - I||_F / √min(m, n), on the smaller side: 0 for an exact polar factor of full rank. Collective. */
eqs_status eqs_orthogonality_residual(const eqs_matrix *u, double *residual);

/*
 * Floating-point operations of eqs_polar on an m×n matrix, all ranks together, where its squares are replicated
 * (dist/squares.h); where they are distributed it asks for whole products where this counts halves.
 */
double eqs_polar_flops(const eqs_polar_options *options, int64_t m, int64_t n);

/* Predicted seconds of eqs_polar on an m×n matrix that lies on a grid, of which only rows and cols are read. */
double eqs_polar_seconds(const eqs_polar_options *options, const eqs_speeds *speeds, const eqs_grid *grid, int64_t m,
                         int64_t n);

/* Bytes of a rank's workspace in eqs_polar: what is kept for later calls, and what is freed. */
void eqs_polar_workspace(const eqs_polar_options *options, const eqs_grid *grid, int64_t m, int64_t n, int64_t *kept,
                         int64_t *freed);

#endif
