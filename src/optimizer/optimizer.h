/*
 * The optimizer: weights, state and gradients of all parameters as shards on the owners, and one step over them.
 * Functions are called by all owners; "collective" means over them.
 */
#ifndef EQS_OPTIMIZER_OPTIMIZER_H
#define EQS_OPTIMIZER_OPTIMIZER_H

#include "dist/matrix.h"
#include "optimizer/diagnostics.h"
#include "optimizer/plan.h"

enum { EQS_MAX_STATES = 2 };

/* A matrix on this owner; all zero where the owner is not a member of its grid. */
typedef struct {
  const eqs_grid *grid; /* NULL if not a member */
  eqs_matrix weight;
  eqs_matrix momentum; /* data NULL if the parameter has none */
  eqs_matrix states[EQS_MAX_STATES];
  eqs_matrix gradient; /* before the step: the sum over the trainers; used up by it */
  double nu;
} eqs_owned_matrix;

typedef struct {
  int64_t step;             /* steps this parameter has taken */
  bool present;             /* whether it has a gradient in this step */
  eqs_owned_matrix *matrix; /* as many as the plan's */
} eqs_owned_parameter;

typedef struct eqs_optimizer {
  const eqs_config *config; /* borrowed, as are plan and owners */
  const eqs_plan *plan;
  MPI_Comm owners;
  eqs_grid_cache *grids;
  eqs_owned_parameter *parameter;
  double *lr;            /* of every group */
  double gradient_scale; /* gradients come multiplied by this; 1 at first */
  int trainers;          /* in the step under way: how many contributions EQS_PARTIAL gradients are the sum of */
  double clip_factor;    /* in the step under way */
  int64_t step, skipped;
  bool skipped_last;
  double gradient_norm;
  eqs_diagnostics diagnostics;
} eqs_optimizer;

/* Allocate zeros as the plan says. Collective. */
eqs_status eqs_optimizer_create(const eqs_config *config, const eqs_plan *plan, MPI_Comm owners,
                                eqs_optimizer **optimizer);

/* Free; sets *optimizer to NULL. Collective. */
void eqs_optimizer_destroy(eqs_optimizer **optimizer);

/* The learning rate of a group in the step under way, its schedule included. Not collective. */
double eqs_learning_rate(const eqs_optimizer *optimizer, int group);

/*
 * Take one step with the gradients in `gradient` of the parameters that are `present` (of this owner's
 * matrices; owners need not agree on it before).
 *
 * trainers  [in] how many contributions EQS_PARTIAL gradients are the sum of (`reduce: mean`)
 *
 * Collective. EQS_FAILED: a non-finite gradient and `on_nonfinite: error`; nothing was changed but gradients.
 */
eqs_status eqs_optimizer_step(eqs_optimizer *optimizer, int trainers);

#endif
