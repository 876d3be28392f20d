/*
 * The solvers, and what is chosen of them.
 *
 * A solver is a sequence of odd polynomials p_k(x) = a x + b x³ + c x⁵ applied to the singular values of D/s,
 * together with its normalisation s. Sources: Lau and Su 2026 (arXiv 2605.18106), Amsel et al. 2025
 * (2505.16932), Jordan et al. 2024.
 */
#ifndef EQS_POLAR_SOLVER_H
#define EQS_POLAR_SOLVER_H

#include <stdbool.h>

#include "dist/product.h"

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

/*
 * The Gram matrix that a formula with this side names. A square matrix is evaluated with this one: where the columns of
 * D differ much in size, so do the elements of DᵀD, and float32 keeps its small eigenvalues; DDᵀ mixes them.
 */
eqs_operation eqs_nominal_gram(eqs_side side);

/* Whether the solver damps its Gram matrix (newton_schulz, polar_express, custom by its normalisation). */
bool eqs_solver_damped(eqs_solver solver, eqs_normalisation normalisation);

/* Coefficients of step k = 0, 1, ...: a, b, c, the safety factor included. Not for EQS_EXACT. */
void eqs_solver_coefficients(const eqs_polar_options *options, int k, double coefficients[3]);

/*
 * An upper bound of the elements of a factor: 2.5, which the polynomials of all solvers stay below; what those of
 * EQS_CUSTOM come to, twice; infinity if they overflow.
 */
double eqs_solver_largest(const eqs_polar_options *options);

/* The normalisation s of a damped solver, from ||A||_F and ε; that of an undamped one, from ||D||_F. */
double eqs_damped_normalisation(const eqs_polar_options *options, double norm);
double eqs_undamped_normalisation(const eqs_polar_options *options, double norm);

#endif
