#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "checkpoint/optimizer_state.h"
#include "dist/communicator.h"
#include "service/session.h"

eqs_status eqs_share_outcome(eqs_session *session, eqs_status owners_status)
{
  eqs_status status = EQS_OK;
  eqs_wire outcome = {0};
  int64_t shared = owners_status;
  const char *message;
  const void *info;
  if (owners_status == EQS_PEER_LOST) return owners_status; /* nobody would listen */
  if (session->roster.owner == 0) {
    const eqs_optimizer *optimizer = session->optimizer;
    if (optimizer != NULL)
      session->info = (eqs_step_info){.step = optimizer->step,
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
  return (!eqs_trains(session) || eqs_pull_receiver_done(&session->pull_receiver)) &&
         (!eqs_owns(session) || eqs_pull_sender_done(&session->pull_sender));
}

/* What trainers did not pull of the last weights is thrown away. */
static eqs_status finish_pulls(eqs_session *session)
{
  eqs_status status = EQS_OK;
  if (eqs_trains(session)) EQS_TRY(eqs_pull_receiver_discard(&session->pull_receiver));
  EQS_TRY(eqs_session_wait_until(session, weights_moved, NULL, "the trainers to take the last step's weights"));
cleanup:
  return status;
}

/* Learning rates and the gradients' scale as the first trainer set them. */
static eqs_status read_settings(eqs_session *session, eqs_wire *payload)
{
  eqs_status status = EQS_OK;
  int64_t bytes = session->config->groups * (int64_t)sizeof(double);
  const void *lr, *scale;
  EQS_TRY(eqs_wire_get(payload, sizeof session->gradient_scale, &scale));
  EQS_TRY(eqs_wire_get(payload, bytes, &lr));
  memcpy(&session->gradient_scale, scale, sizeof session->gradient_scale);
  memcpy(session->lr, lr, (size_t)bytes);
  if (eqs_owns(session)) {
    session->optimizer->gradient_scale = session->gradient_scale;
    memcpy(session->optimizer->lr, lr, (size_t)bytes);
  }
cleanup:
  return status;
}

static eqs_status owners_step(eqs_session *session)
{
  double begin = eqs_clock();
  eqs_status status = eqs_optimizer_step(session->optimizer, session->roster.trainers);
  status = eqs_agree(session->roster.owner_comm, status);
  session->seconds[EQS_PHASE_UPDATE] += eqs_clock() - begin;
  return status;
}

eqs_status eqs_run_step(eqs_session *session, eqs_wire *payload)
{
  eqs_status status = EQS_OK, result = EQS_OK;
  EQS_TRY(read_settings(session, payload));

  EQS_TRY(finish_pulls(session));
  if (eqs_trains(session)) session->push_sender.flushed = true;
  EQS_TRY(eqs_session_wait_until(session, gradients_moved, NULL, "the trainers' gradients"));

  if (eqs_owns(session)) result = owners_step(session);
  EQS_TRY(eqs_share_outcome(session, result));

  if (eqs_owns(session)) eqs_push_receiver_reset(&session->push_receiver);
  if (eqs_trains(session)) {
    eqs_push_sender_reset(&session->push_sender);
    for (int64_t p = 0; p < session->parameters; p++) session->parameter[p]->pushed = false;
  }
  if (session->info.skipped_last) goto cleanup; /* the weights are as they were */
  if (eqs_owns(session)) eqs_pull_sender_start(&session->pull_sender);
  if (eqs_trains(session)) eqs_pull_receiver_start(&session->pull_receiver);
cleanup:
  return status;
}

eqs_status eqs_run_checkpoint(eqs_session *session, eqs_wire *payload)
{
  eqs_status status = EQS_OK, result = EQS_OK;
  eqs_trainer_item *items = NULL;
  int64_t count;
  double begin = eqs_clock();
  EQS_TRY(eqs_wire_get_integer(payload, &count));
  EQS_TRY(eqs_allocate(&items, count, sizeof *items));
  for (int64_t i = 0; i < count; i++) {
    int64_t size;
    EQS_TRY(eqs_wire_get_text(payload, &items[i].key));
    EQS_TRY(eqs_wire_get_integer(payload, &size));
    EQS_TRY(eqs_wire_get(payload, size, &items[i].bytes));
    items[i].size = (size_t)size;
  }
  if (eqs_owns(session)) {
    result = eqs_optimizer_save(session->optimizer, session->config->checkpoint.directory,
                                session->config->checkpoint.keep, items, (int)count);
    session->seconds[EQS_PHASE_CHECKPOINT] += eqs_clock() - begin;
  }
  EQS_TRY(eqs_share_outcome(session, result));
cleanup:
  free(items);
  return status;
}

eqs_status eqs_run_close(eqs_session *session)
{
  return session->started ? finish_pulls(session) : EQS_OK;
}

/* The side of every phase, and its name. */
static const struct {
  const char *name;
  bool owner;
} phase_table[EQS_PHASES] = {
    [EQS_PHASE_PUSH] = {"trainer push", false},    [EQS_PHASE_STEP] = {"trainer step", false},
    [EQS_PHASE_PULL] = {"trainer pull", false},    [EQS_PHASE_WAIT] = {"owner wait", true},
    [EQS_PHASE_RECEIVE] = {"owner receive", true}, [EQS_PHASE_UPDATE] = {"owner update", true},
    [EQS_PHASE_SEND] = {"owner send", true},       [EQS_PHASE_CHECKPOINT] = {"owner checkpoint", true},
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
