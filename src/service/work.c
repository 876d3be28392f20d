#include "service/work.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "dist/communicator.h"

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

static eqs_status add_shared(eqs_work *work, int64_t p)
{
  eqs_status status = EQS_OK;
  if (work->plan->parameter[p].info.frozen) return EQS_OK;
  for (int64_t i = 0; i < work->plan->parameter[p].assignment.count; i++) {
    if (work->optimizer->parameter[p].matrix[i].grid == NULL || !is_shared(&work->plan->parameter[p].matrix[i]))
      continue;
    EQS_TRY(eqs_grow(&work->shared, work->shares, sizeof *work->shared));
    work->shared[work->shares++] = (eqs_shared_matrix){.parameter = p, .matrix = i};
  }
cleanup:
  return status;
}

/* Early ones in the order in which their gradients come, then the others in that in which weights are wanted. */
static eqs_status order_shared(eqs_work *work)
{
  eqs_status status = EQS_OK;
  for (int64_t p = work->plan->parameters - 1; p >= 0; p--)
    if (work->parameter[p].early) EQS_TRY(add_shared(work, p));
  for (int64_t p = 0; p < work->plan->parameters; p++)
    if (!work->parameter[p].early) EQS_TRY(add_shared(work, p));
cleanup:
  return status;
}

eqs_status eqs_work_create(const eqs_plan *plan, eqs_optimizer *optimizer, const eqs_push_receiver *receiver,
                           eqs_work *work)
{
  eqs_status status = EQS_OK;
  *work = (eqs_work){.plan = plan, .optimizer = optimizer, .receiver = receiver, .meeting = MPI_REQUEST_NULL};
  EQS_TRY(eqs_allocate(&work->parameter, plan->parameters, sizeof *work->parameter));
  EQS_TRY(eqs_allocate(&work->undone, plan->parameters, sizeof *work->undone));
  EQS_TRY(eqs_index_set_create(plan->parameters, &work->startable));
  for (int64_t p = 0; p < plan->parameters; p++) {
    eqs_parameter_work *parameter = &work->parameter[p];
    parameter->early = can_be_early(optimizer->config, &plan->parameter[p]);
    for (int64_t i = 0; i < plan->parameter[p].assignment.count && !plan->parameter[p].info.frozen; i++)
      parameter->alone += optimizer->parameter[p].matrix[i].grid != NULL && !is_shared(&plan->parameter[p].matrix[i]);
  }
  EQS_TRY(order_shared(work));
cleanup:
  return status;
}

void eqs_work_destroy(eqs_work *work)
{
  free(work->parameter);
  free(work->undone);
  free(work->shared);
  eqs_index_set_destroy(&work->startable);
  *work = (eqs_work){0};
}

void eqs_work_begin(eqs_work *work, int trainers)
{
  eqs_optimizer_begin(work->optimizer, trainers);
  for (int64_t p = 0; p < work->plan->parameters; p++) {
    eqs_parameter_work *parameter = &work->parameter[p];
    parameter->left = parameter->alone;
    parameter->next = 0;
    parameter->surveyed = false;
    work->undone[p] = parameter->alone + eqs_waits_for_nu(work->optimizer, p);
  }
  for (int64_t s = 0; s < work->shares; s++) work->undone[work->shared[s].parameter]++;
  work->begun = true;
  work->announced = work->agreed = work->held = false;
  work->surveys = work->updates = work->next_shared = 0;
  eqs_index_set_clear(&work->startable);
  work->status = EQS_OK;
}

/* Look at the gradients that have become complete. */
static void survey(eqs_work *work, bool *moved)
{
  for (; work->surveys < work->receiver->completes; work->surveys++) {
    int64_t p = work->receiver->complete[work->surveys];
    if (work->optimizer->parameter[p].present) eqs_optimizer_survey(work->optimizer, p);
    work->parameter[p].surveyed = true;
    if (work->parameter[p].early && work->parameter[p].left > 0) eqs_index_set_add(&work->startable, p);
    *moved = true;
  }
}

/* Whether nothing may be updated before the step is agreed on, whatever is there. */
static bool is_held(const eqs_work *work)
{
  return !work->agreed && (work->held || work->optimizer->settings->defer_updates != 0);
}

/* Of a matrix on several owners. The trainers' word on deferral is known once any gradient is complete. */
static bool may_start(const eqs_work *work, int64_t p)
{
  return work->agreed || (work->parameter[p].early && work->parameter[p].surveyed && !is_held(work));
}

/* Update a matrix; or, where it has no gradient or is not to be touched, only count it. */
static eqs_status settle(eqs_work *work, int64_t p, int64_t i, bool sound)
{
  eqs_status status = EQS_OK;
  if (sound && work->optimizer->parameter[p].present) {
    status = eqs_optimizer_update(work->optimizer, p, i);
    work->updates++;
    work->updates_before_step += !work->announced;
  }
  work->undone[p]--;
  if (work->status == EQS_OK) work->status = status;
  return status == EQS_PEER_LOST ? status : EQS_OK;
}

/* A gradient that is not finite stops no other owner, but makes no update either. */
static bool is_sound(const eqs_work *work, int64_t p)
{
  return work->status == EQS_OK && work->optimizer->parameter[p].finite;
}

static eqs_status call_meeting(eqs_work *work, MPI_Comm members, int64_t p)
{
  work->sound = is_sound(work, p);
  return eqs_check_mpi(MPI_Iallreduce(MPI_IN_PLACE, &work->sound, 1, MPI_INT64_T, MPI_MIN, members, &work->meeting),
                       "MPI_Iallreduce");
}

/* Go on with the next matrix on several owners as far as its members have come. */
static eqs_status advance_shared(eqs_work *work, bool *moved)
{
  eqs_status status = EQS_OK;
  int met;
  if (work->next_shared == work->shares) return EQS_OK;
  int64_t p = work->shared[work->next_shared].parameter, i = work->shared[work->next_shared].matrix;
  if (!may_start(work, p)) return EQS_OK;
  if (work->optimizer->parameter[p].present) { /* all members know that it is, or that it is not */
    if (work->meeting == MPI_REQUEST_NULL)
      EQS_TRY(call_meeting(work, work->optimizer->parameter[p].matrix[i].grid->comm, p));
    EQS_TRY(eqs_check_mpi(MPI_Test(&work->meeting, &met, MPI_STATUS_IGNORE), "MPI_Test"));
    if (!met) return EQS_OK;
  }
  work->next_shared++;
  EQS_TRY(settle(work, p, i, work->sound));
  *moved = true;
cleanup:
  return status;
}

/* In the order of backward, as gradients come, until the trainers want weights. */
static eqs_status advance_alone(eqs_work *work, bool *moved)
{
  if (is_held(work)) return EQS_OK;
  int64_t p = work->announced ? eqs_index_set_least(&work->startable) : eqs_index_set_greatest(&work->startable);
  if (p < 0) return EQS_OK;
  eqs_parameter_work *parameter = &work->parameter[p];
  const eqs_owned_matrix *matrix = work->optimizer->parameter[p].matrix;
  while (matrix[parameter->next].grid == NULL || is_shared(&work->plan->parameter[p].matrix[parameter->next]))
    parameter->next++;
  if (--parameter->left == 0) eqs_index_set_remove(&work->startable, p);
  *moved = true;
  return settle(work, p, parameter->next++, is_sound(work, p));
}

eqs_status eqs_work_advance(eqs_work *work, bool *moved)
{
  eqs_status status = EQS_OK;
  bool met = false;
  if (!work->begun || work->busy) return EQS_OK;
  work->busy = true;
  survey(work, moved);
  EQS_TRY(advance_shared(work, &met));
  if (!met) EQS_TRY(advance_alone(work, moved));
  *moved |= met;
cleanup:
  work->busy = false;
  return status;
}

/* From now on every parameter may start. */
static void let_all_start(eqs_work *work)
{
  work->agreed = true;
  for (int64_t p = 0; p < work->plan->parameters; p++)
    if (work->parameter[p].left > 0) eqs_index_set_add(&work->startable, p);
}

eqs_status eqs_work_survey(eqs_work *work)
{
  bool moved;
  work->held = true;
  survey(work, &moved);
  return work->status;
}

eqs_status eqs_work_agree(eqs_work *work, eqs_status other)
{
  bool moved;
  char message[1024]; /* of the last failure here */
  snprintf(message, sizeof message, "%s", eqs_error_message());
  survey(work, &moved);
  if (other != EQS_OK) work->status = other;
  eqs_status status = eqs_optimizer_agree(work->optimizer);
  if (status == EQS_OK)
    status = work->status;
  else if (work->status != EQS_OK) /* what all have found is told, so this is not */
    eqs_log(EQS_LOG_ERROR, "%s", message);
  status = eqs_agree(work->optimizer->owners, status);
  if (status != EQS_OK) work->status = status;
  if (status != EQS_OK || !work->optimizer->skipped_last) let_all_start(work);
  return status;
}

bool eqs_work_done(const eqs_work *work)
{
  return work->agreed && eqs_index_set_least(&work->startable) < 0 && work->next_shared == work->shares;
}

eqs_status eqs_work_end(eqs_work *work)
{
  eqs_status status = EQS_OK;
  MPI_Comm owners = work->optimizer->owners;
  EQS_TRY(eqs_agree(owners, work->status));
  EQS_TRY(eqs_agree(owners, eqs_optimizer_end(work->optimizer)));
cleanup:
  return status;
}

void eqs_work_leave(eqs_work *work)
{
  work->begun = work->announced = false;
  for (int64_t p = 0; p < work->plan->parameters; p++) work->undone[p] = 0;
}
