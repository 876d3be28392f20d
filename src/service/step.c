#include "service/step.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "dist/communicator.h"
#include "optimizer/step.h"
#include "service/outcome.h"
#include "service/progress.h"
#include "service/put.h"
#include "service/save.h"
#include "service/weights.h"

static bool gradients_moved(eqs_session *session, void *context)
{
  (void)context;
  return (!eqs_trains(session) || eqs_push_sender_done(&session->push_sender)) &&
         (!eqs_owns(session) || eqs_push_receiver_done(&session->push_receiver));
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

static bool updates_done(eqs_session *session, void *context)
{
  (void)context;
  return session->step.state == EQS_STEP_DONE || session->step.state == EQS_STEP_FAILED;
}

/* Wait until every matrix is updated, or left as it is. */
static eqs_status finish_updates(eqs_session *session)
{
  return eqs_session_wait_until(session, updates_done, NULL, "the other owners of a matrix");
}

/*
 * The owners' result of the step, as the trainers are to hear it; weights begin to leave. After a failure no owner
 * leaves before the others are out of what they have in common.
 */
static eqs_status agree_on_step(eqs_session *session)
{
  eqs_status status = eqs_owner_step_deferred(&session->step);
  if (status != EQS_OK) return status;
  double begin = eqs_clock(), busy = eqs_session_busy(session);
  status = eqs_owner_step_agree(&session->step, eqs_save_result(session));
  session->seconds[EQS_PHASE_WAIT] += eqs_clock() - begin - (eqs_session_busy(session) - busy);
  if (status == EQS_OK && !session->optimizer->skipped_last) eqs_pull_sender_start(&session->pull_sender);
  if (status == EQS_OK || status == EQS_PEER_LOST) return status;
  eqs_status finished = finish_updates(session);
  return finished != EQS_OK ? finished : status;
}

static eqs_status end_updates(eqs_session *session)
{
  eqs_status status = EQS_OK;
  EQS_TRY(finish_updates(session));
  double begin = eqs_clock(), busy = eqs_session_busy(session);
  status = eqs_owner_step_end(&session->step);
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
 * All gradients to the owners, after the weights that were put. `bits` are this rank's notices, *notices those of all
 * ranks. Collective over the session.
 */
static eqs_status collect_gradients(eqs_session *session, int64_t bits, int64_t *notices)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_begin_notices(session, bits));
  EQS_TRY(eqs_finish_pulls(session));
  if (eqs_owns(session)) eqs_owner_step_want(&session->step, session->roster.trainers, session->clipped);
  if (eqs_trains(session)) session->push_sender.flushed = true;
  EQS_TRY(eqs_finish_notices(session, notices));
  if (*notices & EQS_NOTICE_PUTS) EQS_TRY(eqs_run_puts(session));
  EQS_TRY(eqs_session_wait_until(session, gradients_moved, NULL, "the trainers' gradients"));
cleanup:
  return status;
}

/* An owner's part of eqs_clip_grad_norm: the norm; whether a parameter was updated without the limit, which matters. */
static eqs_status measure_gradients(eqs_session *session)
{
  eqs_status status = EQS_OK;
  eqs_optimizer *optimizer = session->optimizer;
  double max_norm = session->settings->max_norm, updates = (double)session->step.updates;
  EQS_TRY(eqs_owner_step_measure(&session->step));
  EQS_TRY(eqs_optimizer_norm(optimizer));
  EQS_TRY(eqs_sum(optimizer->owners, &updates, 1, "the owners' updates before the gradient was clipped"));
  if (updates > 0 && eqs_clip_coefficient(optimizer->gradient_norm, max_norm) < 1) {
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
  int64_t notices;
  EQS_TRY(read_settings(session, payload));
  session->clipped = true;
  session->step.held = true; /* nothing more is updated before the step */
  EQS_TRY(collect_gradients(session, 0, &notices));
  if (eqs_owns(session)) result = eqs_owner_step_deferred(&session->step);
  if (eqs_owns(session) && result == EQS_OK) result = measure_gradients(session);
  EQS_TRY(eqs_share_outcome(session, result));
cleanup:
  return status;
}

/*
 * Trainers go on as soon as it is known what the step is; owners, when its weights are there. What fails after the
 * trainers have left is reported by the next collective call; until then weights are sent, as they are, to those who
 * wait.
 */
eqs_status eqs_run_step(eqs_session *session, eqs_wire *payload)
{
  eqs_status status = EQS_OK, result = EQS_OK, deferred = EQS_OK;
  int64_t notices, wishes = eqs_policy_wish(session->config, &session->policy, session->roster.owner == 0);
  EQS_TRY(read_settings(session, payload));
  EQS_TRY(collect_gradients(session, wishes, &notices));
  eqs_policy_hear(&session->policy, notices & ((1 << EQS_POLICY_BITS) - 1));

  session->clipped = false;
  if (eqs_owns(session)) result = agree_on_step(session);
  EQS_TRY(eqs_share_outcome(session, result));

  bool taken = !session->info.skipped_last; /* otherwise the weights are as they were */
  if (eqs_trains(session)) begin_pushes(session);
  if (taken && eqs_trains(session)) eqs_pull_receiver_start(&session->pull_receiver);
  if (taken && eqs_owns(session)) {
    deferred = end_updates(session);
    if (eqs_trains(session) || deferred == EQS_PEER_LOST) status = deferred; /* nobody has gone on */
    if (status != EQS_OK) status = eqs_share_outcome(session, status);
  }
  if (eqs_owns(session)) {
    eqs_owner_step_leave(&session->step, deferred);
    eqs_push_receiver_reset(&session->push_receiver);
  }
cleanup:
  return status;
}
