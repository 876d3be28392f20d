#include "service/owner_step.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "dist/communicator.h"
#include "optimizer/step.h"
#include "optimizer/update_parameter.h"

static bool is_shared(const eqs_planned_matrix *matrix)
{
  return matrix->distribution.grid_rows * matrix->distribution.grid_cols > 1;
}

/* Whether every member of a matrix's grid has elements of it, so that it hears what trainers say of the parameter. */
static bool all_members_hear(const eqs_distribution *distribution)
{
  for (int r = 0; r < distribution->grid_rows; r++)
    if (eqs_local_count(distribution->rows, distribution->row_block, r, distribution->grid_rows) == 0) return false;
  for (int c = 0; c < distribution->grid_cols; c++)
    if (eqs_local_count(distribution->cols, distribution->col_block, c, distribution->grid_cols) == 0) return false;
  return true;
}

/* The same on all owners. Only a Partial gradient comes from every trainer to every owner of the parameter. */
static bool can_be_early(const eqs_config *config, const eqs_planned_parameter *parameter)
{
  if (config->clip_grad_norm > 0 || config->skip_nonfinite || parameter->info.gradient_placement != EQS_PARTIAL)
    return false;
  for (int64_t i = 0; i < parameter->assignment.count; i++)
    if (!all_members_hear(&parameter->matrix[i].distribution)) return false;
  return true;
}

static eqs_status add_shared(eqs_owner_step *step, int64_t p)
{
  eqs_status status = EQS_OK;
  if (step->plan->parameter[p].info.frozen) return EQS_OK;
  for (int64_t i = 0; i < step->plan->parameter[p].assignment.count; i++) {
    if (step->optimizer->parameter[p].matrix[i].grid == NULL || !is_shared(&step->plan->parameter[p].matrix[i]))
      continue;
    EQS_TRY(eqs_grow(&step->shared, step->shares, sizeof *step->shared));
    step->shared[step->shares++] = (eqs_shared_matrix){.parameter = p, .matrix = i};
  }
cleanup:
  return status;
}

/* Early ones in the order in which their gradients come, then the others in that in which weights are wanted. */
static eqs_status order_shared(eqs_owner_step *step)
{
  eqs_status status = EQS_OK;
  for (int64_t p = step->plan->parameters - 1; p >= 0; p--)
    if (step->parameter[p].early) EQS_TRY(add_shared(step, p));
  for (int64_t p = 0; p < step->plan->parameters; p++)
    if (!step->parameter[p].early) EQS_TRY(add_shared(step, p));
cleanup:
  return status;
}

eqs_status eqs_owner_step_create(const eqs_plan *plan, eqs_optimizer *optimizer, const eqs_push_receiver *receiver,
                                 eqs_owner_step *step)
{
  eqs_status status = EQS_OK;
  *step = (eqs_owner_step){.plan = plan, .optimizer = optimizer, .receiver = receiver, .rendezvous = MPI_REQUEST_NULL};
  EQS_TRY(eqs_allocate(&step->parameter, plan->parameters, sizeof *step->parameter));
  EQS_TRY(eqs_allocate(&step->undone, plan->parameters, sizeof *step->undone));
  EQS_TRY(eqs_index_set_create(plan->parameters, &step->startable));
  for (int64_t p = 0; p < plan->parameters; p++) {
    eqs_parameter_updates *parameter = &step->parameter[p];
    parameter->early = can_be_early(optimizer->config, &plan->parameter[p]);
    for (int64_t i = 0; i < plan->parameter[p].assignment.count && !plan->parameter[p].info.frozen; i++)
      parameter->alone += optimizer->parameter[p].matrix[i].grid != NULL && !is_shared(&plan->parameter[p].matrix[i]);
  }
  EQS_TRY(order_shared(step));
cleanup:
  return status;
}

void eqs_owner_step_destroy(eqs_owner_step *step)
{
  free(step->parameter);
  free(step->undone);
  free(step->shared);
  eqs_index_set_destroy(&step->startable);
  *step = (eqs_owner_step){0};
}

void eqs_owner_step_receive(eqs_owner_step *step, int trainers)
{
  eqs_optimizer_begin(step->optimizer, trainers);
  for (int64_t p = 0; p < step->plan->parameters; p++) {
    eqs_parameter_updates *parameter = &step->parameter[p];
    parameter->left = parameter->alone;
    parameter->next = 0;
    parameter->measured = false;
    step->undone[p] = parameter->alone + eqs_waits_for_nu(step->optimizer, p);
  }
  for (int64_t s = 0; s < step->shares; s++) step->undone[step->shared[s].parameter]++;
  step->state = EQS_STEP_RECEIVING;
  step->held = false;
  step->measured = step->updates = step->next_shared = 0;
  eqs_index_set_clear(&step->startable);
  step->status = EQS_OK;
}

void eqs_owner_step_want(eqs_owner_step *step, int trainers, bool held)
{
  if (step->state == EQS_STEP_FAILED) return;
  if (step->state == EQS_STEP_IDLE) eqs_owner_step_receive(step, trainers);
  step->state = EQS_STEP_WANTED;
  step->held = held;
}

/* Those that have become complete. */
static void measure_gradients(eqs_owner_step *step, bool *moved)
{
  for (; step->measured < step->receiver->completes; step->measured++) {
    int64_t p = step->receiver->complete[step->measured];
    if (step->optimizer->parameter[p].present) eqs_optimizer_measure_gradient(step->optimizer, p);
    step->parameter[p].measured = true;
    if (step->parameter[p].early && step->parameter[p].left > 0) eqs_index_set_add(&step->startable, p);
    *moved = true;
  }
}

/* Whether nothing may be updated before the step is agreed on, whatever is there. */
static bool is_held(const eqs_owner_step *step)
{
  return step->state != EQS_STEP_UPDATING && (step->held || step->optimizer->settings->defer_updates != 0);
}

/* Of a matrix on several owners. The trainers' word on deferral is known once any gradient is complete. */
static bool may_start(const eqs_owner_step *step, int64_t p)
{
  return step->state == EQS_STEP_UPDATING ||
         (step->parameter[p].early && step->parameter[p].measured && !is_held(step));
}

/* Update a matrix; or, where it has no gradient or one is not finite, leave it as it is. */
static eqs_status update_or_skip(eqs_owner_step *step, int64_t p, int64_t i, bool all_finite)
{
  eqs_status status = EQS_OK;
  if (all_finite && step->optimizer->parameter[p].present) {
    status = eqs_optimizer_update(step->optimizer, p, i);
    step->updates++;
    step->updates_before_step += step->state == EQS_STEP_RECEIVING;
  }
  step->undone[p]--;
  if (step->status == EQS_OK) step->status = status;
  return status == EQS_PEER_LOST ? status : EQS_OK;
}

/* A gradient that is not finite stops no other owner, but makes no update either. */
static bool is_finite(const eqs_owner_step *step, int64_t p)
{
  return step->status == EQS_OK && step->optimizer->parameter[p].finite;
}

static eqs_status begin_rendezvous(eqs_owner_step *step, MPI_Comm members, int64_t p)
{
  step->all_finite = is_finite(step, p);
  return eqs_check_mpi(
      MPI_Iallreduce(MPI_IN_PLACE, &step->all_finite, 1, MPI_INT64_T, MPI_MIN, members, &step->rendezvous),
      "MPI_Iallreduce");
}

/* Go on with the next matrix on several owners as far as its members have come. */
static eqs_status advance_shared(eqs_owner_step *step, bool *moved)
{
  eqs_status status = EQS_OK;
  int met;
  if (step->next_shared == step->shares) return EQS_OK;
  int64_t p = step->shared[step->next_shared].parameter, i = step->shared[step->next_shared].matrix;
  if (!may_start(step, p)) return EQS_OK;
  if (step->optimizer->parameter[p].present) { /* all members know that it is, or that it is not */
    if (step->rendezvous == MPI_REQUEST_NULL)
      EQS_TRY(begin_rendezvous(step, step->optimizer->parameter[p].matrix[i].grid->comm, p));
    EQS_TRY(eqs_check_mpi(MPI_Test(&step->rendezvous, &met, MPI_STATUS_IGNORE), "MPI_Test"));
    if (!met) return EQS_OK;
  }
  step->next_shared++;
  EQS_TRY(update_or_skip(step, p, i, step->all_finite));
  *moved = true;
cleanup:
  return status;
}

/* In the order of backward, as gradients come, until the trainers want weights. */
static eqs_status advance_alone(eqs_owner_step *step, bool *moved)
{
  if (is_held(step)) return EQS_OK;
  int64_t p = step->state != EQS_STEP_RECEIVING ? eqs_index_set_least(&step->startable)
                                                : eqs_index_set_greatest(&step->startable);
  if (p < 0) return EQS_OK;
  eqs_parameter_updates *parameter = &step->parameter[p];
  const eqs_owned_matrix *matrix = step->optimizer->parameter[p].matrix;
  while (matrix[parameter->next].grid == NULL || is_shared(&step->plan->parameter[p].matrix[parameter->next]))
    parameter->next++;
  if (--parameter->left == 0) eqs_index_set_remove(&step->startable, p);
  *moved = true;
  return update_or_skip(step, p, parameter->next++, is_finite(step, p));
}

/* UPDATING to DONE, once no matrix is left. */
static void note_end(eqs_owner_step *step)
{
  bool left = eqs_index_set_least(&step->startable) >= 0 || step->next_shared < step->shares;
  if (step->state == EQS_STEP_UPDATING && !left) step->state = EQS_STEP_DONE;
}

eqs_status eqs_owner_step_advance(eqs_owner_step *step, bool *moved)
{
  eqs_status status = EQS_OK;
  bool met = false;
  if (step->in_matrix || step->state == EQS_STEP_IDLE || step->state == EQS_STEP_FAILED) return EQS_OK;
  step->in_matrix = true;
  measure_gradients(step, moved);
  EQS_TRY(advance_shared(step, &met));
  if (!met) EQS_TRY(advance_alone(step, moved));
  *moved |= met;
  note_end(step);
cleanup:
  step->in_matrix = false;
  return status;
}

/* From now on every parameter may start. */
static void let_all_start(eqs_owner_step *step)
{
  step->state = EQS_STEP_UPDATING;
  for (int64_t p = 0; p < step->plan->parameters; p++)
    if (step->parameter[p].left > 0) eqs_index_set_add(&step->startable, p);
  note_end(step);
}

eqs_status eqs_owner_step_measure(eqs_owner_step *step)
{
  bool moved;
  step->held = true;
  measure_gradients(step, &moved);
  return step->status;
}

eqs_status eqs_owner_step_agree(eqs_owner_step *step, eqs_status other)
{
  bool moved;
  char message[1024]; /* of the last failure here */
  snprintf(message, sizeof message, "%s", eqs_error_message());
  measure_gradients(step, &moved);
  if (other != EQS_OK) step->status = other;
  eqs_status status = eqs_optimizer_agree(step->optimizer);
  if (status == EQS_OK)
    status = step->status;
  else if (step->status != EQS_OK) /* all have found another one, which is printed instead */
    eqs_log(EQS_LOG_ERROR, "%s", message);
  status = eqs_agree(step->optimizer->owners, status);
  if (status != EQS_OK) step->status = status;
  if (status != EQS_OK || !step->optimizer->skipped_last) let_all_start(step);
  return status;
}

eqs_status eqs_owner_step_end(eqs_owner_step *step)
{
  eqs_status status = EQS_OK;
  MPI_Comm owners = step->optimizer->owners;
  EQS_TRY(eqs_agree(owners, step->status));
  EQS_TRY(eqs_agree(owners, eqs_optimizer_end(step->optimizer)));
cleanup:
  return status;
}

void eqs_owner_step_leave(eqs_owner_step *step, eqs_status status)
{
  step->state = status == EQS_OK ? EQS_STEP_IDLE : EQS_STEP_FAILED;
  step->deferred_status = status;
  if (status != EQS_OK) snprintf(step->deferred_message, sizeof step->deferred_message, "%s", eqs_error_message());
  for (int64_t p = 0; p < step->plan->parameters; p++) step->undone[p] = 0;
}

eqs_status eqs_owner_step_deferred(const eqs_owner_step *step)
{
  if (step->deferred_status == EQS_OK) return EQS_OK;
  return eqs_fail(step->deferred_status, "%s", step->deferred_message);
}
