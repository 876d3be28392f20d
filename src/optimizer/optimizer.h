/*
 * The optimizer: weights, state and gradients of all parameters as shards on the owners, and one step over them.
 * Functions are called by all owners; "collective" means over them.
 */
#ifndef EQS_OPTIMIZER_OPTIMIZER_H
#define EQS_OPTIMIZER_OPTIMIZER_H

#include "dist/matrix.h"
#include "optimizer/diagnostics.h"
#include "optimizer/kept_state.h"
#include "optimizer/plan.h"
#include "optimizer/settings.h"

/* The largest magnitudes (eqs_magnitude) of this owner's part, as the last update left them. */
typedef struct {
  bool known; /* weight and states are as that update left them */
  uint32_t weight, momentum, state[EQS_MAX_STATES];
} eqs_largest;

/* A matrix on this owner; all zero where the owner is not a member of its grid. */
typedef struct {
  const eqs_grid *grid; /* NULL if not a member */
  eqs_matrix weight;
  eqs_matrix momentum; /* data NULL if the parameter has none */
  eqs_matrix states[EQS_MAX_STATES];
  eqs_matrix gradient;        /* before the step: the sum over the trainers; used up by it. data NULL: frozen */
  eqs_rule_findings findings; /* in the step under way */
  eqs_largest largest;
} eqs_owned_matrix;

typedef struct {
  int64_t step;             /* steps this parameter has taken */
  eqs_rule_options options; /* as in force */
  bool damping_reported;    /* whether the first owner has warned that ε decides the update */
  bool present;             /* whether it has a gradient in this step */
  bool finite;              /* in the step under way: this owner's part of the gradient */
  double squares; /* in the step under way: sum of squares of that part, as eqs_gradient_multiplier scales it */
  eqs_owned_matrix *matrix; /* as many as the plan's */
  eqs_kept_state kept;      /* of a frozen parameter */
} eqs_owned_parameter;

typedef struct eqs_optimizer {
  const eqs_config *config; /* borrowed, as are plan and owners */
  const eqs_plan *plan;
  MPI_Comm owners;
  eqs_grid_cache *grids;
  eqs_owned_parameter *parameter;
  eqs_settings *settings;  /* as in force */
  int trainers;            /* in the step under way: how many contributions EQS_PARTIAL gradients are the sum of */
  bool measures_in_update; /* in the step under way: updates by rows take the squares of their gradients */
  double clip_coefficient; /* in the step under way */
  int64_t nonfinite;       /* in the step under way: the first overflow that this owner has met (overflow.h) */
  bool agreed;             /* whether the owners have agreed on the step under way, and it is taken */
  int64_t step, skipped;   /* steps taken to their ends, steps skipped */
  bool skipped_last;
  double gradient_norm;
  eqs_diagnostics diagnostics;
} eqs_optimizer;

/* Weight (0), momentum (1), states of the rule (2, 3) of a matrix; of frozen parameters 1 to 3 are what is kept. */
static inline eqs_matrix *eqs_owned_state(eqs_owned_matrix *matrix, int index)
{
  if (index == 0) return &matrix->weight;
  return index == 1 ? &matrix->momentum : &matrix->states[index - 2];
}

/* Allocate zeros as the plan says. Collective. */
eqs_status eqs_optimizer_create(const eqs_config *config, const eqs_plan *plan, MPI_Comm owners,
                                eqs_optimizer **optimizer);

/* Say that a parameter's weight is another than the last step left. Not collective. */
void eqs_optimizer_changed(eqs_optimizer *optimizer, int64_t p);

/* Free; sets *optimizer to NULL. Collective. */
void eqs_optimizer_destroy(eqs_optimizer **optimizer);

/* Take settings for the step; they may lie in a message, unaligned. Not collective. */
void eqs_optimizer_set(eqs_optimizer *optimizer, const void *settings);

/* The learning rate of a group in the step under way, its schedule included. Not collective. */
double eqs_learning_rate(const eqs_optimizer *optimizer, int group);

#endif
