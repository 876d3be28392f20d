/*
 * The plan: which owners hold which matrix, in which distribution. Every rank computes it alike from the same inputs;
 * nothing of it is gathered or sent, and no timing of the job enters it.
 */
#ifndef EQS_OPTIMIZER_PLAN_H
#define EQS_OPTIMIZER_PLAN_H

#include "model/assign.h"
#include "model/config.h"

typedef struct {
  eqs_distribution distribution;
  int first_owner; /* rank among the owners of the grid's (0, 0) */
  double flops;    /* per step, all owners together */
} eqs_planned_matrix;

typedef struct {
  eqs_parameter_info info; /* name and module_type allocated */
  int64_t aliases;
  char **alias; /* other names of the same tensor, allocated */
  eqs_assignment assignment;
  eqs_planned_matrix *matrix; /* assignment.count */
} eqs_planned_parameter;

typedef struct {
  eqs_model_shape model; /* as the plan knows it */
  int owners;
  int64_t parameters;
  eqs_planned_parameter *parameter;
  double *owner_seconds; /* predicted seconds per step of every owner */
  int64_t *owner_bytes;  /* weights, state and gradients that every owner holds */
  int64_t
      *owner_peak; /* largest resident memory of every owner's process, predicted: with workspace, buffers, program */
} eqs_plan;

/*
 * Make the plan.
 *
 * config      [in]
 * model       [in]  what is known of it besides the parameters; NULL: nothing
 * owners      [in]
 * parameters  [in]
 * info        [in]  copied
 * plan        [out]
 *
 * EQS_USAGE: as eqs_config_assign; a forced grid with more ranks than owners; more than 2^48 elements or 2^20 matrices
 * together. Not collective.
 */
eqs_status eqs_plan_make(const eqs_config *config, const eqs_model_shape *model, int owners, int64_t parameters,
                         const eqs_parameter_info *info, eqs_plan **plan);

/* Another name of parameter p, by which a checkpoint may have it. Not collective. */
eqs_status eqs_plan_add_alias(eqs_plan *plan, int64_t p, const char *name);

/* Free; sets *plan to NULL. */
void eqs_plan_free(eqs_plan **plan);

/*
 * Predicted seconds of the messages of a step of the busiest owner, with `trainers` that push full gradients and pull
 * full weights in their dtype.
 */
double eqs_plan_message_seconds(const eqs_config *config, const eqs_plan *plan, int trainers);

/* The matrices of the optimizer that a parameter keeps from step to step: weight, momentum, the rule's states. */
int eqs_state_count(const eqs_rule_options *options);

/* Elements of all matrices of a parameter. */
int64_t eqs_planned_elements(const eqs_planned_parameter *parameter);

/* Bytes that the owners hold for a parameter together: weight, state and gradient, float32. */
int64_t eqs_planned_bytes(const eqs_planned_parameter *parameter);

#endif
