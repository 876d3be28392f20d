/*
 * Diagnostics: what a step did to every parameter, as lines of JSON in the configuration's `metrics: {path, every}`.
 * Sums over the owners' shards; one reduction per step that is measured.
 */
#ifndef EQS_OPTIMIZER_DIAGNOSTICS_H
#define EQS_OPTIMIZER_DIAGNOSTICS_H

#include "dist/matrix.h"
#include "optimizer/plan.h"

/* Sums over all shards of a parameter. */
typedef enum {
  EQS_SUM_GRADIENT,  /* squares of G */
  EQS_SUM_DIRECTION, /* squares of D */
  EQS_SUM_NU,        /* ν(D) */
  EQS_SUM_UPDATE,    /* squares of U */
  EQS_SUM_WEIGHT,    /* squares of W, before the step */
  EQS_SUM_RESIDUAL,  /* ||UᵀU - I||²_F / min(m, n) of the polar factors */
  EQS_SUM_RESIDUALS, /* how many matrices that is the sum of */
  EQS_SUM_ROW_NORMS, /* norms of the rows of U */
  EQS_SUM_ROWS,      /* how many rows */
  EQS_SUM_DAMPING,   /* share of ε in the matrices whose rule has one beside eigenvalues or rows */
  EQS_SUM_DAMPINGS,  /* how many matrices that is the sum of */
  EQS_SUMS
} eqs_diagnostic_sum;

typedef struct {
  bool active;              /* whether the step under way is measured */
  double (*sums)[EQS_SUMS]; /* of every parameter */
} eqs_diagnostics;

eqs_status eqs_diagnostics_create(int64_t parameters, eqs_diagnostics *diagnostics);
void eqs_diagnostics_destroy(eqs_diagnostics *diagnostics);

/* Begin a step: measured if `every` divides its number. */
void eqs_diagnostics_begin(const eqs_config *config, const eqs_plan *plan, int64_t step, eqs_diagnostics *diagnostics);

/* Add the squares of this rank's shard. Not collective. Nothing happens in a step that is not measured. */
void eqs_diagnostics_add_squares(eqs_diagnostics *diagnostics, int64_t parameter, eqs_diagnostic_sum sum,
                                 const eqs_matrix *x);

/* Add ν, and the orthogonality residual if the rule's factor is a polar factor. Collective over factor's grid. */
eqs_status eqs_diagnostics_add_factor(eqs_diagnostics *diagnostics, int64_t parameter, const eqs_rule_options *options,
                                      const eqs_matrix *factor, double nu);

/* Add the share of ε. Collective over the grid of x, the matrix, of which only grid and layout are read. */
eqs_status eqs_diagnostics_add_damping(eqs_diagnostics *diagnostics, int64_t parameter, const eqs_rule_options *options,
                                       const eqs_matrix *x, const eqs_rule_findings *findings);

/* Add U and the norms of its rows. Collective over u's grid. */
eqs_status eqs_diagnostics_add_update(eqs_diagnostics *diagnostics, int64_t parameter, const eqs_matrix *u);

#endif
