/* The trainers' calls. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "dist/communicator.h"
#include "service/call.h"
#include "service/ending.h"
#include "service/join.h"
#include "service/phases.h"
#include "service/progress.h"
#include "service/start.h"
#include "service/trainer_data.h"

static eqs_status open_session(MPI_Comm comm, const eqs_config_source *source, eqs_session **session)
{
  eqs_status status = eqs_check_pointer(session, "eqs_session_open", "session");
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (status == EQS_OK && (!initialized || finalized || comm == MPI_COMM_NULL))
    status = eqs_fail(EQS_USAGE, "eqs_session_open: %s",
                      !initialized ? "MPI is not initialized"
                      : finalized  ? "MPI is finalized"
                                   : "comm is MPI_COMM_NULL");
  if (status == EQS_OK) status = eqs_watch_finalize();
  return status == EQS_OK ? eqs_session_join(comm, source, true, false, session) : status;
}

eqs_status eqs_session_open(MPI_Comm comm, const char *config_path, eqs_session **session)
{
  const eqs_config_source source = {.path = config_path};
  return open_session(comm, &source, session);
}

eqs_status eqs_session_open_text(MPI_Comm comm, const char *config, const char *name, eqs_session **session)
{
  const eqs_config_source source = {.path = name, .text = config != NULL ? config : ""};
  return open_session(comm, &source, session);
}

eqs_status eqs_job_trainers(MPI_Comm comm, MPI_Comm *trainers)
{
  eqs_status status = EQS_OK;
  eqs_rendezvous *rendezvous;
  bool ended;
  EQS_TRY(eqs_check_pointer(trainers, "eqs_job_trainers", "trainers"));
  EQS_TRY(eqs_watch_finalize());
  EQS_TRY(eqs_rendezvous_find(comm, &rendezvous));
  if (!rendezvous->met) EQS_TRY(eqs_rendezvous_meet(rendezvous, EQS_COMES_TO_ASK, &ended));
  *trainers = rendezvous->trainer_comm;
cleanup:
  return status;
}

eqs_status eqs_session_trainers(const eqs_session *session, MPI_Comm *trainers)
{
  eqs_status status = eqs_check_session(session, "eqs_session_trainers");
  if (status == EQS_OK) status = eqs_check_pointer(trainers, "eqs_session_trainers", "trainers");
  if (status == EQS_OK) *trainers = session->roster.trainer_comm;
  return status;
}

static eqs_status ask_to_resume(eqs_session *session, const char *path, bool if_any, const char *call)
{
  eqs_status status = eqs_check_session(session, call);
  if (status == EQS_OK && session->started) status = eqs_fail(EQS_USAGE, "%s is called after eqs_session_start", call);
  if (status != EQS_OK) return status;
  free(session->resume_path);
  session->resumes = true;
  session->if_any = if_any;
  return eqs_copy_text(&session->resume_path, path);
}

eqs_status eqs_session_resume(eqs_session *session, const char *path)
{
  return ask_to_resume(session, path, false, "eqs_session_resume");
}

eqs_status eqs_session_resume_if_any(eqs_session *session, const char *path)
{
  return ask_to_resume(session, path, true, "eqs_session_resume_if_any");
}

int eqs_session_resumed(const eqs_session *session)
{
  return eqs_check_session(session, "eqs_session_resumed") == EQS_OK && session->resumed;
}

int eqs_session_failed(const eqs_session *session)
{
  return eqs_check_session(session, "eqs_session_failed") == EQS_OK && session->failed != EQS_OK;
}

eqs_status eqs_session_start(eqs_session *session)
{
  eqs_wire payload = {0};
  eqs_status status = eqs_check_session(session, "eqs_session_start");
  if (status != EQS_OK) return status;
  if (session->started) status = eqs_fail(EQS_USAGE, "the session is started twice");
  if (status == EQS_OK) status = eqs_pack_start(session, &payload);
  if (status == EQS_OK) status = eqs_call_together(session, EQS_COMMAND_START, &payload);
  eqs_wire_free(&payload);
  return status;
}

/* What may be called only while the session runs. */
static eqs_status check_running(const eqs_session *session, const char *call)
{
  eqs_status status = eqs_check_session(session, call);
  return status == EQS_OK ? eqs_check_started(session, call) : status;
}

/* The arrays of a call with several parameters; count is not 0. */
static eqs_status check_arrays(int64_t count, eqs_parameter *const *parameters, const void *memory, const char *call,
                               const char *what)
{
  eqs_status status = EQS_OK;
  if (count < 0) return eqs_fail(EQS_USAGE, "count must be at least 0, is %lld", (long long)count);
  EQS_TRY(eqs_check_pointer(parameters, call, "parameters"));
  EQS_TRY(eqs_check_pointer(memory, call, what));
  EQS_TRY(eqs_check_parameter(parameters[0], call));
cleanup:
  return status;
}

/* Hand a gradient to the sender. */
static eqs_status add_push(eqs_parameter *parameter, const void *gradient)
{
  static const char call[] = "eqs_push";
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_check_parameter(parameter, call));
  eqs_session *session = parameter->session;
  eqs_added_parameter *added = &session->parameter[parameter->index];
  EQS_TRY(eqs_check_started(session, call));
  EQS_TRY(eqs_check_pointer(gradient, call, "gradient"));
  if (added->info.frozen)
    EQS_TRY(eqs_fail(EQS_USAGE, "parameter '%s' is frozen and has no gradient; to train it, add it without `frozen`",
                     added->info.name));
  if (added->pushed) EQS_TRY(eqs_fail(EQS_USAGE, "parameter '%s' is pushed twice in a step", added->info.name));
  if (session->clipped)
    EQS_TRY(eqs_fail(EQS_USAGE, "parameter '%s' is pushed after eqs_clip_grad_norm; push all gradients before it",
                     added->info.name));
  added->pushed = true;
  session->pushes++;
  eqs_push_sender_add(&session->push_sender, parameter->index, gradient);
cleanup:
  return status;
}

eqs_status eqs_push(eqs_parameter *parameter, const void *gradient)
{
  return eqs_push_many(1, &parameter, &gradient);
}

eqs_status eqs_push_many(int64_t count, eqs_parameter *const *parameters, const void *const *gradients)
{
  eqs_status status = EQS_OK;
  double begin = eqs_clock();
  bool moved = false;
  if (count == 0) return EQS_OK;
  EQS_TRY(check_arrays(count, parameters, gradients, "eqs_push", "gradients"));
  eqs_session *session = parameters[0]->session;
  for (int64_t i = 0; i < count; i++) EQS_TRY(add_push(parameters[i], gradients[i]));
  EQS_TRY(eqs_session_advance(session, &moved));
  session->seconds[EQS_PHASE_PUSH] += eqs_clock() - begin;
cleanup:
  return status;
}

/* A call with the step's settings. */
static eqs_status call_with_settings(eqs_session *session, eqs_command command)
{
  eqs_wire payload = {0};
  double begin = eqs_clock();
  eqs_status status = eqs_wire_put(&payload, session->settings, eqs_settings_bytes(session->config->groups));
  if (status == EQS_OK) status = eqs_call_together(session, command, &payload);
  eqs_wire_free(&payload);
  session->seconds[EQS_PHASE_STEP] += eqs_clock() - begin;
  return status;
}

eqs_status eqs_clip_grad_norm(eqs_session *session, double max_norm, double *norm)
{
  eqs_status status = EQS_OK;
  EQS_TRY(check_running(session, "eqs_clip_grad_norm"));
  EQS_TRY(eqs_check_pointer(norm, "eqs_clip_grad_norm", "norm"));
  if (!(max_norm > 0)) EQS_TRY(eqs_fail(EQS_USAGE, "eqs_clip_grad_norm: max_norm must be positive, is %g", max_norm));
  if (session->clipped) EQS_TRY(eqs_fail(EQS_USAGE, "eqs_clip_grad_norm is called twice in a step"));
  session->settings->max_norm = max_norm;
  EQS_TRY(call_with_settings(session, EQS_COMMAND_CLIP));
  *norm = session->info.gradient_norm;
cleanup:
  return status;
}

eqs_status eqs_step(eqs_session *session)
{
  eqs_status status = EQS_OK;
  EQS_TRY(check_running(session, "eqs_step"));
  EQS_TRY(call_with_settings(session, EQS_COMMAND_STEP));
cleanup:
  return status;
}

typedef struct {
  eqs_pull_receiver *receiver;
  const eqs_pull_sender *sender; /* of this rank, if it is an owner */
  int64_t parameter;
} pull_wait;

static bool weight_arrived(eqs_session *session, void *context)
{
  const pull_wait *wait = context;
  int owner;
  (void)session;
  return eqs_pull_receiver_has(wait->receiver, wait->parameter, &owner);
}

/* An embedded rank's own sends need it: after its last pull it stays until the others have theirs. */
static bool nothing_to_send(eqs_session *session, void *context)
{
  const pull_wait *wait = context;
  return !eqs_owns(session) || eqs_pull_sender_done(wait->sender);
}

static eqs_status await_weight(eqs_session *session, pull_wait *wait)
{
  char owner_name[EQS_OWNER_NAME_SIZE], what[EQS_OWNER_NAME_SIZE + 32];
  int owner;
  if (eqs_pull_receiver_has(wait->receiver, wait->parameter, &owner)) return EQS_OK;
  eqs_roster_name_owner(&session->roster, owner, owner_name);
  snprintf(what, sizeof what, "weights from %s", owner_name);
  return eqs_session_wait_until(session, weight_arrived, wait, what);
}

static eqs_status pull(eqs_parameter *parameter, void *weight)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_check_parameter(parameter, "eqs_pull"));
  eqs_session *session = parameter->session;
  EQS_TRY(eqs_check_started(session, "eqs_pull"));
  EQS_TRY(eqs_check_pointer(weight, "eqs_pull", "weight"));
  bool frozen = session->parameter[parameter->index].info.frozen != 0;
  pull_wait wait = {.receiver = frozen ? &session->frozen_receiver : &session->pull_receiver,
                    .sender = frozen ? &session->frozen_sender : &session->pull_sender,
                    .parameter = parameter->index};
  if (!wait.receiver->available[parameter->index])
    EQS_TRY(eqs_fail(EQS_USAGE, "parameter '%s': there is no new weight to pull",
                     session->parameter[parameter->index].info.name));
  EQS_TRY(await_weight(session, &wait));
  EQS_TRY(eqs_pull_receiver_take(wait.receiver, parameter->index, weight));
  if (eqs_pull_receiver_done(wait.receiver))
    EQS_TRY(eqs_session_wait_until(session, nothing_to_send, &wait, "the trainers to take this owner's weights"));
cleanup:
  return status;
}

eqs_status eqs_pull(eqs_parameter *parameter, void *weight)
{
  return eqs_pull_many(1, &parameter, &weight);
}

eqs_status eqs_pull_many(int64_t count, eqs_parameter *const *parameters, void *const *weights)
{
  eqs_status status = EQS_OK;
  double begin = eqs_clock();
  if (count == 0) return EQS_OK;
  EQS_TRY(check_arrays(count, parameters, weights, "eqs_pull", "weights"));
  eqs_session *session = parameters[0]->session;
  for (int64_t i = 0; i < count && status == EQS_OK; i++) status = pull(parameters[i], weights[i]);
  session->seconds[EQS_PHASE_PULL] += eqs_clock() - begin;
cleanup:
  return status;
}

eqs_status eqs_session_step_info(const eqs_session *session, eqs_step_info *info)
{
  eqs_status status = eqs_check_session(session, "eqs_session_step_info");
  return status == EQS_OK ? eqs_give_struct(&session->info, sizeof session->info, "eqs_step_info", info) : status;
}

int eqs_checkpoint_due(const eqs_session *session)
{
  return check_running(session, "eqs_checkpoint_due") == EQS_OK &&
         eqs_policy_due(session->config, &session->policy, &session->info);
}

int eqs_stop_requested(const eqs_session *session)
{
  return check_running(session, "eqs_stop_requested") == EQS_OK && eqs_policy_stops(&session->policy);
}

eqs_status eqs_checkpoint(eqs_session *session, const eqs_trainer_item *items, int count)
{
  eqs_wire payload = {0};
  eqs_status status = EQS_OK;
  EQS_TRY(check_running(session, "eqs_checkpoint"));
  if (session->config->checkpoint.directory == NULL)
    EQS_TRY(eqs_fail(EQS_USAGE, "a checkpoint is to be written, but the configuration has no `checkpoint: {directory: "
                                "...}`"));
  session->own_items.size = 0;
  EQS_TRY(eqs_wire_put_integer(&payload, session->pushes));
  EQS_TRY(eqs_pack_items(session, items, count, &payload, &session->own_items));
  EQS_TRY(eqs_call_together(session, EQS_COMMAND_CHECKPOINT, &payload));
cleanup:
  eqs_wire_free(&payload);
  return status;
}

/* Phases into the program's array, whose elements may be of another version's size. */
static eqs_status give_phases(const eqs_phase *from, int count, eqs_phase *phases)
{
  eqs_status status = EQS_OK;
  size_t stride;
  memcpy(&stride, phases, sizeof stride);
  for (int k = 0; k < count; k++) {
    char *to = (char *)phases + (size_t)k * stride;
    memcpy(to, &stride, sizeof stride); /* that of the first is enough */
    EQS_TRY(eqs_give_struct(&from[k], sizeof *from, "eqs_phase", to));
  }
cleanup:
  return status;
}

eqs_status eqs_session_phases(eqs_session *session, eqs_phase *phases, int capacity, int *count)
{
  eqs_wire payload = {0};
  eqs_phase all[EQS_PHASES];
  eqs_status status = EQS_OK;
  EQS_TRY(check_running(session, "eqs_session_phases"));
  EQS_TRY(eqs_check_pointer(count, "eqs_session_phases", "count"));
  *count = 0;
  if (capacity > 0) EQS_TRY(eqs_check_pointer(phases, "eqs_session_phases", "phases"));
  if (session->failed == EQS_OK) {
    status = eqs_session_announce(session, EQS_COMMAND_PHASES, &payload);
    if (status == EQS_OK) status = eqs_run_phases(session, all, capacity < EQS_PHASES ? capacity : EQS_PHASES, count);
    eqs_note_outcome(session, status);
    if (status == EQS_OK) status = give_phases(all, *count, phases);
  }
cleanup:
  eqs_wire_free(&payload);
  return status;
}

eqs_status eqs_session_traffic(const eqs_session *session, eqs_traffic *traffic)
{
  eqs_status status = eqs_check_session(session, "eqs_session_traffic");
  return status == EQS_OK ? eqs_give_struct(&session->traffic, sizeof session->traffic, "eqs_traffic", traffic)
                          : status;
}

eqs_status eqs_session_close(eqs_session **session)
{
  if (session == NULL || *session == NULL) return EQS_OK;
  eqs_status status = eqs_check_session(*session, "eqs_session_close");
  return status == EQS_OK ? eqs_session_end(session) : status;
}
