#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "checkpoint/save_optimizer.h"
#include "dist/communicator.h"
#include "service/session.h"

static bool save_done(eqs_session *session, void *context)
{
  (void)context;
  return session->saver == NULL || eqs_saver_idle(session->saver);
}

/* Wait for a checkpoint that is on its way. */
static eqs_status finish_save(eqs_session *session)
{
  return eqs_session_wait_until(session, save_done, NULL, "the other owners' parts of a checkpoint");
}

/* How the last checkpoint in the background has ended on this owner. */
static eqs_status save_result(const eqs_session *session)
{
  return session->saver == NULL ? EQS_OK : eqs_saver_result(session->saver);
}

/* Wait for it and agree on how it has ended. Collective over the owners. */
static eqs_status settle_save(eqs_session *session)
{
  eqs_status status = EQS_OK;
  if (session->saver == NULL) return EQS_OK;
  EQS_TRY(finish_save(session));
  EQS_TRY(eqs_agree(session->roster.owner_comm, save_result(session)));
cleanup:
  return status;
}

/* A checkpoint that is on its way when the session fails is still finished: nobody waits for the trainers then. */
static eqs_status save_before_failing(eqs_session *session, eqs_status failure)
{
  char message[1024];
  if (!eqs_owns(session) || save_done(session, NULL)) return failure;
  snprintf(message, sizeof message, "%s", eqs_error_message());
  return finish_save(session) == EQS_PEER_LOST ? EQS_PEER_LOST : eqs_fail(failure, "%s", message);
}

eqs_status eqs_share_outcome(eqs_session *session, eqs_status owners_status)
{
  eqs_status status = EQS_OK;
  eqs_wire outcome = {0};
  int64_t shared = owners_status;
  const char *message;
  const void *info;
  if (owners_status != EQS_OK && owners_status != EQS_PEER_LOST)
    owners_status = save_before_failing(session, owners_status);
  if (owners_status == EQS_PEER_LOST) return owners_status; /* nobody would listen */
  if (session->roster.owner == 0) {
    const eqs_optimizer *optimizer = session->optimizer;
    if (optimizer != NULL)
      session->info = (eqs_step_info){.step = optimizer->step + optimizer->agreed, /* its end may be to come */
                                      .skipped = optimizer->skipped,
                                      .skipped_last = optimizer->skipped_last,
                                      .gradient_norm = optimizer->gradient_norm};
    EQS_TRY(eqs_wire_put_integer(&outcome, owners_status));
    EQS_TRY(eqs_wire_put_text(&outcome, owners_status == EQS_OK ? NULL : eqs_error_message()));
    EQS_TRY(eqs_wire_put(&outcome, &session->info, sizeof session->info));
  }
  EQS_TRY(eqs_session_broadcast(session, session->roster.owner_rank[0], &outcome, "the owners' result"));
  EQS_TRY(eqs_wire_get_integer(&outcome, &shared));
  EQS_TRY(eqs_wire_get_text(&outcome, &message));
  EQS_TRY(eqs_wire_get(&outcome, sizeof session->info, &info));
  memcpy(&session->info, info, sizeof session->info);
  if (shared != EQS_OK) status = eqs_fail((eqs_status)shared, "%s", message);
cleanup:
  eqs_wire_free(&outcome);
  return status;
}

static bool gradients_moved(eqs_session *session, void *context)
{
  (void)context;
  return (!eqs_trains(session) || eqs_push_sender_done(&session->push_sender)) &&
         (!eqs_owns(session) || eqs_push_receiver_done(&session->push_receiver));
}

static bool weights_moved(eqs_session *session, void *context)
{
  (void)context;
  return (!eqs_trains(session) ||
          (eqs_pull_receiver_done(&session->pull_receiver) && eqs_pull_receiver_done(&session->frozen_receiver))) &&
         (!eqs_owns(session) ||
          (eqs_pull_sender_done(&session->pull_sender) && eqs_pull_sender_done(&session->frozen_sender)));
}

/* What trainers did not pull of the last weights is thrown away. */
static eqs_status finish_pulls(eqs_session *session)
{
  eqs_status status = EQS_OK;
  if (eqs_trains(session)) EQS_TRY(eqs_pull_receiver_discard(&session->pull_receiver));
  if (eqs_trains(session)) EQS_TRY(eqs_pull_receiver_discard(&session->frozen_receiver));
  EQS_TRY(eqs_session_wait_until(session, weights_moved, NULL, "the trainers to take the last step's weights"));
cleanup:
  return status;
}

/* The settings of the step as the first trainer has them. */
static eqs_status read_settings(eqs_session *session, eqs_wire *payload)
{
  int64_t bytes = eqs_settings_bytes(session->config->groups);
  const void *settings;
  eqs_status status = eqs_wire_get(payload, bytes, &settings);
  if (status != EQS_OK) return status;
  memcpy(session->settings, settings, (size_t)bytes);
  if (eqs_owns(session)) eqs_optimizer_set(session->optimizer, session->settings);
  return EQS_OK;
}

/* The trainers are in eqs_step: the rest of the work is wanted. */
static void begin_work(eqs_session *session)
{
  if (session->late != EQS_OK) return;
  if (!session->work.begun) eqs_work_begin(&session->work, session->roster.trainers);
  session->work.announced = true;
  session->work.held = session->clipped;
}

static bool work_done(eqs_session *session, void *context)
{
  (void)context;
  return eqs_work_done(&session->work);
}

/* Wait until every matrix is settled. */
static eqs_status finish_updates(eqs_session *session)
{
  return eqs_session_wait_until(session, work_done, NULL, "the other owners of a matrix");
}

/*
 * The owners' result of the step, as the trainers are to hear it; weights begin to leave. After a failure no owner
 * leaves before the others are out of what they have in common.
 */
static eqs_status agree_on_step(eqs_session *session)
{
  if (session->late != EQS_OK) return session->late;
  double begin = eqs_clock(), busy = eqs_session_busy(session);
  eqs_status status = eqs_work_agree(&session->work, save_result(session));
  session->seconds[EQS_PHASE_WAIT] += eqs_clock() - begin - (eqs_session_busy(session) - busy);
  if (status == EQS_OK && !session->optimizer->skipped_last) eqs_pull_sender_start(&session->pull_sender);
  if (status == EQS_OK || status == EQS_PEER_LOST) return status;
  eqs_status settled = finish_updates(session);
  return settled != EQS_OK ? settled : status;
}

static eqs_status end_work(eqs_session *session)
{
  eqs_status status = EQS_OK;
  EQS_TRY(finish_updates(session));
  double begin = eqs_clock(), busy = eqs_session_busy(session);
  status = eqs_work_end(&session->work);
  session->seconds[EQS_PHASE_UPDATE] += eqs_clock() - begin - (eqs_session_busy(session) - busy);
cleanup:
  return status;
}

static void begin_pushes(eqs_session *session)
{
  eqs_push_sender_reset(&session->push_sender);
  session->pushes = 0;
  session->clipped = false;
  session->settings->max_norm = 0;
  for (int64_t p = 0; p < session->parameters; p++) session->parameter[p].pushed = false;
}

/*
 * All gradients to the owners, after the weights that were put. *told is what the ranks had to tell besides `bits`.
 * Collective over the session.
 */
static eqs_status collect_gradients(eqs_session *session, int64_t bits, int64_t *told)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_begin_telling(session, bits));
  EQS_TRY(finish_pulls(session));
  if (eqs_owns(session)) begin_work(session);
  if (eqs_trains(session)) session->push_sender.flushed = true;
  EQS_TRY(eqs_finish_telling(session, told));
  if (*told & EQS_TELL_PUTS) EQS_TRY(eqs_run_puts(session));
  EQS_TRY(eqs_session_wait_until(session, gradients_moved, NULL, "the trainers' gradients"));
cleanup:
  return status;
}

/* An owner's part of eqs_clip_grad_norm: the norm; whether a parameter was updated without the limit, which matters. */
static eqs_status measure_gradient(eqs_session *session)
{
  eqs_status status = EQS_OK;
  eqs_optimizer *optimizer = session->optimizer;
  double max_norm = session->settings->max_norm, updates = (double)session->work.updates;
  EQS_TRY(eqs_work_survey(&session->work));
  EQS_TRY(eqs_optimizer_norm(optimizer));
  EQS_TRY(eqs_sum(optimizer->owners, &updates, 1, "the owners' updates before the gradient was clipped"));
  if (updates > 0 && eqs_clip_factor(optimizer->gradient_norm, max_norm) < 1) {
    status = eqs_fail(
        EQS_USAGE,
        "step %lld: the gradient's norm %g is over the limit %g, but owners have updated parameters of this "
        "step without it: say that it will be clipped, in Python with Optimizer(..., clips_gradients=True), in C "
        "with eqs_session_defer_updates before the step's first push",
        (long long)optimizer->step + 1, optimizer->gradient_norm, max_norm);
    if (session->roster.owner == 0) eqs_log(EQS_LOG_ERROR, "%s", eqs_error_message());
  }
cleanup:
  return status;
}

eqs_status eqs_run_clip(eqs_session *session, eqs_wire *payload)
{
  eqs_status status = EQS_OK, result = EQS_OK;
  int64_t told;
  EQS_TRY(read_settings(session, payload));
  session->clipped = true;
  session->work.held = true; /* nothing more is updated before the step */
  EQS_TRY(collect_gradients(session, 0, &told));
  if (eqs_owns(session)) result = session->late != EQS_OK ? session->late : measure_gradient(session);
  EQS_TRY(eqs_share_outcome(session, result));
cleanup:
  return status;
}

/*
 * Trainers go on as soon as it is known what the step is; owners, when its weights are there. What fails after the
 * trainers have left is told by the next collective call; until then weights are sent, as they are, to those who wait.
 */
eqs_status eqs_run_step(eqs_session *session, eqs_wire *payload)
{
  eqs_status status = EQS_OK, result = EQS_OK;
  int64_t told, wishes = eqs_policy_wish(session->config, &session->policy, session->roster.owner == 0);
  EQS_TRY(read_settings(session, payload));
  EQS_TRY(collect_gradients(session, wishes, &told));
  eqs_policy_hear(&session->policy, told & ((1 << EQS_POLICY_BITS) - 1));

  session->clipped = false;
  if (eqs_owns(session)) result = agree_on_step(session);
  EQS_TRY(eqs_share_outcome(session, result));

  bool taken = !session->info.skipped_last; /* otherwise the weights are as they were */
  if (eqs_trains(session)) begin_pushes(session);
  if (taken && eqs_trains(session)) eqs_pull_receiver_start(&session->pull_receiver);
  if (taken && eqs_owns(session)) {
    session->late = end_work(session);
    if (eqs_trains(session) || session->late == EQS_PEER_LOST) status = session->late; /* nobody has gone on */
    if (status != EQS_OK) status = eqs_share_outcome(session, status);
  }
  if (eqs_owns(session)) {
    eqs_work_leave(&session->work);
    eqs_push_receiver_reset(&session->push_receiver);
  }
cleanup:
  return status;
}

/* What the first trainer has pushed may be in some weights already: there is no state between two steps to write. */
static eqs_status check_between_steps(eqs_session *session, int64_t pushes)
{
  if (pushes == 0) return EQS_OK;
  eqs_status status = eqs_fail(EQS_USAGE, "eqs_checkpoint is called after the first push of a step");
  if (session->roster.trainer == 0) eqs_log(EQS_LOG_ERROR, "%s", eqs_error_message());
  return eqs_share_outcome(session, status);
}

/* An owner's part: once the checkpoint before is there, this one. Collective over the owners. */
static eqs_status save(eqs_session *session, const eqs_checkpoint_item *items, int count)
{
  eqs_status status = session->late;
  const eqs_config *config = session->config;
  const eqs_checkpoint_directory to = {.path = config->checkpoint.directory,
                                       .keep = config->checkpoint.keep,
                                       .keep_every = config->checkpoint.keep_every};
  double begin = eqs_clock();
  if (status != EQS_OK) return status;
  EQS_TRY(settle_save(session));
  EQS_TRY(eqs_agree(session->roster.owner_comm, eqs_directory_lock_renew(session->lock)));
  EQS_TRY(eqs_checkpoint_save_optimizer(session->optimizer, &to, session->saver, items, count));
cleanup:
  session->seconds[EQS_PHASE_CHECKPOINT] += eqs_clock() - begin;
  return status;
}

eqs_status eqs_run_checkpoint(eqs_session *session, eqs_wire *payload)
{
  eqs_status status = EQS_OK, result = EQS_OK;
  eqs_checkpoint_item *items = NULL;
  eqs_wire own = {0};
  int64_t pushes, told;
  int count;
  EQS_TRY(eqs_wire_get_integer(payload, &pushes));
  EQS_TRY(check_between_steps(session, pushes));
  EQS_TRY(eqs_begin_telling(session, session->own_items.size > 0 ? EQS_TELL_ITEMS : 0));
  EQS_TRY(eqs_finish_telling(session, &told));
  if (told & EQS_TELL_PUTS) EQS_TRY(finish_pulls(session));
  if (told & EQS_TELL_PUTS) EQS_TRY(eqs_run_puts(session));
  if (told & EQS_TELL_ITEMS) EQS_TRY(eqs_share_own_items(session, &own));
  EQS_TRY(eqs_unpack_items(payload, &own, &items, &count));
  if (eqs_owns(session)) result = save(session, items, count);
  EQS_TRY(eqs_share_outcome(session, result));
  eqs_policy_saved(&session->policy);
cleanup:
  free(items);
  eqs_wire_free(&own);
  return status;
}

eqs_status eqs_run_close(eqs_session *session)
{
  eqs_status status = EQS_OK, result = EQS_OK;
  if (!session->started) return EQS_OK;
  EQS_TRY(finish_pulls(session));
  if (eqs_owns(session)) result = session->late != EQS_OK ? session->late : settle_save(session);
  EQS_TRY(eqs_share_outcome(session, result));
cleanup:
  return status;
}

/* The side of every phase, and its name. */
static const struct {
  const char *name;
  bool owner;
} phase_table[EQS_PHASES] = {
    [EQS_PHASE_PUSH] = {"trainer push", false},
    [EQS_PHASE_STEP] = {"trainer step", false},
    [EQS_PHASE_PULL] = {"trainer pull", false},
    [EQS_PHASE_WAIT] = {"owner wait", true},
    [EQS_PHASE_RECEIVE] = {"owner receive", true},
    [EQS_PHASE_UPDATE] = {"owner update", true},
    [EQS_PHASE_SEND] = {"owner send", true},
    [EQS_PHASE_HIDDEN] = {"owner hidden", true},
    [EQS_PHASE_CHECKPOINT] = {"owner checkpoint", true},
};

eqs_status eqs_run_phases(eqs_session *session, eqs_phase *phases, int capacity, int *count)
{
  typedef struct {
    double value;
    int rank;
  } located;
  eqs_status status = EQS_OK;
  located mine[2 * EQS_PHASES], most[2 * EQS_PHASES];
  double sums[EQS_PHASES];
  MPI_Comm comm = session->roster.comm;
  MPI_Request requests[2];
  int rank;
  MPI_Comm_rank(comm, &rank);
  for (int k = 0; k < EQS_PHASES; k++) {
    bool has = phase_table[k].owner ? eqs_owns(session) : eqs_trains(session);
    /* the minimum is the maximum of the negative */
    mine[k] = (located){has ? session->seconds[k] : -INFINITY, rank};
    mine[EQS_PHASES + k] = (located){has ? -session->seconds[k] : -INFINITY, rank};
    sums[k] = has ? session->seconds[k] : 0;
  }
  double totals[EQS_PHASES];
  EQS_TRY(eqs_share_outcome(session, session->late));
  EQS_TRY(eqs_check_mpi(MPI_Iallreduce(mine, most, 2 * EQS_PHASES, MPI_DOUBLE_INT, MPI_MAXLOC, comm, &requests[0]),
                        "MPI_Iallreduce"));
  EQS_TRY(eqs_check_mpi(MPI_Iallreduce(sums, totals, EQS_PHASES, MPI_DOUBLE, MPI_SUM, comm, &requests[1]),
                        "MPI_Iallreduce"));
  EQS_TRY(eqs_session_wait(session, &requests[0], "the table of phases"));
  EQS_TRY(eqs_session_wait(session, &requests[1], "the table of phases"));
  if (count != NULL) *count = 0;
  for (int k = 0; k < EQS_PHASES && k < capacity; k++) {
    int ranks = phase_table[k].owner ? session->roster.owners : session->roster.trainers;
    phases[k] = (eqs_phase){.minimum = -most[EQS_PHASES + k].value,
                            .mean = totals[k] / ranks,
                            .maximum = most[k].value,
                            .slowest = most[k].rank};
    strcpy(phases[k].name, phase_table[k].name);
    *count = k + 1;
  }
cleanup:
  return status;
}
