/*
 * The optimizer: weights, state and gradients of all parameters as shards on the owners, and one step over them.
 * Functions are called by all owners; "collective" means over them.
 */
#ifndef EQS_OPTIMIZER_OPTIMIZER_H
#define EQS_OPTIMIZER_OPTIMIZER_H

#include "base/attribute.h"
#include "dist/matrix.h"
#include "optimizer/diagnostics.h"
#include "optimizer/plan.h"
#include "optimizer/settings.h"

enum { EQS_MAX_STATES = 2, EQS_MAX_KEPT = EQS_MAX_STATES + 1 };

/* What a frozen parameter keeps of the checkpoint that was restored, to be written again: momentum, states, facts. */
typedef struct {
  int states;
  char *state_name[EQS_MAX_KEPT]; /* of eqs_owned_state 1, 2, ... */
  int attributes;
  eqs_attribute *attribute; /* names and texts allocated */
} eqs_kept_state;

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
  bool damping_told;        /* whether the first owner has warned that ε decides the update */
  bool present;             /* whether it has a gradient in this step */
  bool finite;              /* in the step under way: this owner's part of the gradient */
  double squares;           /* in the step under way: sum of squares of that part, as eqs_gradient_factor scales it */
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
  bool surveys_on_the_way; /* in the step under way: updates by rows take the squares of their gradients */
  double clip_factor;      /* in the step under way */
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

/*
 * Have a frozen parameter keep states of these names, zeros for now, and these attributes, instead of what it keeps.
 * At most EQS_MAX_KEPT states. Not collective. Forget: keep nothing.
 */
eqs_status eqs_optimizer_keep(eqs_optimizer *optimizer, int64_t p, int states, const char *const *name, int attributes,
                              const eqs_attribute *attribute);
void eqs_optimizer_forget_kept(eqs_optimizer *optimizer, int64_t p);
void eqs_kept_state_free(eqs_kept_state *kept);

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

/*
 * A step in pieces, so that parameters can be updated while gradients of others are still on their way:
 *
 *     begin            settings are set before a parameter is surveyed
 *     survey           every present parameter, when this owner's part of its gradient is complete
 *     agree            after all surveys: presence of gradients, their norm, non-finite values
 *     update           every matrix of a present parameter that this owner has a shard of: after agree; or after the
 *                      survey, where neither clipping nor `on_nonfinite: skip` needs the other gradients, and all
 *                      members of the matrix's grid know that the parameter is present
 *     end              after all updates, unless the step is skipped
 *
 * The bits of the result do not depend on the order of surveys and updates.
 *
 * trainers  [in] how many contributions EQS_PARTIAL gradients are the sum of (`reduce: mean`)
 */
void eqs_optimizer_begin(eqs_optimizer *optimizer, int trainers);

/* Not collective. */
void eqs_optimizer_survey(eqs_optimizer *optimizer, int64_t p);

/*
 * Set gradient_norm alone, after all surveys: for who wants to know it before the step is agreed on. Collective.
 */
eqs_status eqs_optimizer_norm(eqs_optimizer *optimizer);

/* What a program's max_norm multiplies a gradient of a norm by: torch.nn.utils.clip_grad_norm_'s formula. */
double eqs_clip_factor(double norm, double max_norm);

/*
 * Collective. With `on_nonfinite: skip` the step is skipped, too, where its updates would overflow.
 * Sets gradient_norm, clip_factor, skipped_last, and `present` alike on all owners.
 * EQS_FAILED: a non-finite gradient and `on_nonfinite: error`.
 */
eqs_status eqs_optimizer_agree(eqs_optimizer *optimizer);

/* Update a matrix's weight; or only make its factor, where eqs_waits_for_nu. Collective over the matrix's grid. */
eqs_status eqs_optimizer_update(eqs_optimizer *optimizer, int64_t p, int64_t i);

/* Whether the parameter's weight is updated by eqs_optimizer_end, because ν is a sum over several matrices. */
bool eqs_waits_for_nu(const eqs_optimizer *optimizer, int64_t p);

/* The updates of a parameter that waits for ν, after all factors: the matrices' sum, then weights. Collective. */
eqs_status eqs_update_waiting(eqs_optimizer *optimizer, int64_t p);

/*
 * The updates that waited for ν, diagnostics, counts. Collective. EQS_FAILED: state or a weight has overflown, with
 * step, parameter and which.
 */
eqs_status eqs_optimizer_end(eqs_optimizer *optimizer);

/*
 * All of it at once, with the gradients in `gradient` of the parameters that are `present` (of this owner's
 * matrices; owners need not agree on it before).
 *
 * Collective. EQS_FAILED: a non-finite gradient and `on_nonfinite: error`; nothing was changed but gradients.
 */
eqs_status eqs_optimizer_step(eqs_optimizer *optimizer, int trainers);

#endif
