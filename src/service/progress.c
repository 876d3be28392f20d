#include "service/progress.h"

#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "dist/communicator.h"

double eqs_session_busy(const eqs_session *session)
{
  return session->seconds[EQS_PHASE_RECEIVE] + session->seconds[EQS_PHASE_UPDATE] + session->seconds[EQS_PHASE_SEND];
}

/* Advance one transport; its time is added to *spent if anything happened. */
#define ADVANCE(transport, call, spent)                                                                                \
  do {                                                                                                                 \
    double begin = eqs_clock();                                                                                        \
    bool advanced = false;                                                                                             \
    EQS_TRY(call(transport, &session->traffic, &advanced));                                                            \
    if (advanced) *(spent) += eqs_clock() - begin;                                                                     \
    *moved |= advanced;                                                                                                \
  } while (0)

static eqs_status advance_transports(eqs_session *session, bool *moved)
{
  eqs_status status = EQS_OK;
  double uncounted = 0; /* a trainer's time is that of the call it waits in */
  if (eqs_trains(session)) {
    ADVANCE(&session->push_sender, eqs_push_sender_advance, &uncounted);
    ADVANCE(&session->pull_receiver, eqs_pull_receiver_advance, &uncounted);
    ADVANCE(&session->frozen_receiver, eqs_pull_receiver_advance, &uncounted);
  }
  if (eqs_owns(session)) {
    ADVANCE(&session->push_receiver, eqs_push_receiver_advance, &session->seconds[EQS_PHASE_RECEIVE]);
    ADVANCE(&session->pull_sender, eqs_pull_sender_advance, &session->seconds[EQS_PHASE_SEND]);
    ADVANCE(&session->frozen_sender, eqs_pull_sender_advance, &session->seconds[EQS_PHASE_SEND]);
  }
cleanup:
  return status;
}

/*
 * An owner of a service job works whenever it waits. An embedded rank does in eqs_step only: elsewhere it would meet
 * other ranks while they are in collectives of their own. A new step needs the weights of the last one to have left.
 */
static bool may_work(eqs_session *session)
{
  const eqs_owner_step *step = &session->step;
  if (!eqs_owns(session) || step->in_matrix || step->state == EQS_STEP_FAILED) return false;
  if (step->state != EQS_STEP_IDLE) return true;
  return !eqs_trains(session) && session->push_receiver.completes > 0 && eqs_pull_sender_done(&session->pull_sender);
}

static eqs_status work(eqs_session *session, bool *moved)
{
  double begin = eqs_clock(), busy = eqs_session_busy(session);
  bool advanced = false;
  if (session->step.state == EQS_STEP_IDLE) eqs_owner_step_receive(&session->step, session->roster.trainers);
  eqs_status status = eqs_owner_step_advance(&session->step, &advanced);
  if (advanced) session->seconds[EQS_PHASE_UPDATE] += eqs_clock() - begin - (eqs_session_busy(session) - busy);
  *moved |= advanced;
  return status;
}

/*
 * From their call of eqs_step until they have the weights, trainers may be waiting; before it they compute gradients.
 * A rank that is trainer and owner always waits for itself.
 */
static bool trainers_wait(const eqs_session *session)
{
  return eqs_trains(session) || eqs_owner_step_wanted(&session->step) || !eqs_pull_sender_done(&session->pull_sender);
}

eqs_status eqs_session_advance(eqs_session *session, bool *moved)
{
  eqs_status status = EQS_OK;
  double busy = eqs_session_busy(session);
  if (!session->started) return EQS_OK;
  if (session->saver != NULL) EQS_TRY(eqs_saver_advance(session->saver, moved));
  bool hidden = !session->step.in_matrix && !trainers_wait(session); /* inside of a matrix, its time includes this */
  EQS_TRY(advance_transports(session, moved));
  if (may_work(session)) EQS_TRY(work(session, moved));
  if (hidden) session->seconds[EQS_PHASE_HIDDEN] += eqs_session_busy(session) - busy;
cleanup:
  return status;
}

static eqs_status advance(void *session, bool *moved)
{
  return eqs_session_advance(session, moved);
}

eqs_status eqs_session_attach_context(eqs_session *session, MPI_Comm comm, eqs_counts *counts)
{
  session->context =
      (eqs_context){.deadline = eqs_job_deadline(), .advance = advance, .owner = session, .counts = counts};
  return eqs_context_attach(comm, &session->context);
}

eqs_status eqs_session_wait_until(eqs_session *session, bool (*condition)(eqs_session *session, void *context),
                                  void *context, const char *what)
{
  eqs_status status = EQS_OK;
  double begin = eqs_clock(), last_moved = begin, busy = eqs_session_busy(session);
  int looks = 0;
  while (!condition(session, context)) {
    bool moved = false;
    EQS_TRY(eqs_session_advance(session, &moved));
    if (moved) {
      looks = 0;
      last_moved = eqs_clock();
    } else {
      if (eqs_clock() - last_moved > session->context.deadline) {
        status = eqs_fail_waiting(session->context.deadline, what);
        goto cleanup;
      }
      eqs_backoff(&looks);
    }
  }
cleanup:
  if (eqs_owns(session)) session->seconds[EQS_PHASE_WAIT] += eqs_clock() - begin - (eqs_session_busy(session) - busy);
  return status;
}

static bool request_done(eqs_session *session, void *context)
{
  (void)session;
  int done = 0;
  MPI_Test(context, &done, MPI_STATUS_IGNORE);
  return done != 0;
}

eqs_status eqs_session_wait(eqs_session *session, MPI_Request *request, const char *what)
{
  return eqs_session_wait_until(session, request_done, request, what);
}

eqs_status eqs_session_broadcast(eqs_session *session, int root, eqs_wire *wire, const char *what)
{
  eqs_status status = EQS_OK;
  MPI_Request request;
  int rank;
  eqs_envelope *first = &session->envelope;
  MPI_Comm_rank(session->roster.comm, &rank);
  memset(first, 0, sizeof *first);
  if (rank == root) {
    first->size = wire->size;
    if (wire->size > 0 && wire->size <= (int64_t)sizeof first->bytes)
      memcpy(first->bytes, wire->data, (size_t)wire->size);
  } else {
    wire->size = wire->position = 0;
  }
  EQS_TRY(eqs_check_mpi(MPI_Ibcast(first, (int)sizeof *first, MPI_BYTE, root, session->roster.comm, &request),
                        "MPI_Ibcast"));
  EQS_TRY(eqs_session_wait(session, &request, what));
  bool large = first->size > (int64_t)sizeof first->bytes;
  if (rank != root) {
    if (large) {
      eqs_wire_free(wire);
      EQS_TRY(eqs_allocate(&wire->data, first->size, 1));
      wire->size = wire->capacity = first->size;
    } else {
      EQS_TRY(eqs_wire_put(wire, first->bytes, first->size));
    }
  }
  if (large) EQS_TRY(eqs_broadcast(session->roster.comm, wire->data, first->size, root, what));
cleanup:
  return status;
}
