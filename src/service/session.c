#include "service/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

void eqs_session_free(eqs_session **result)
{
  eqs_session *session = *result;
  if (session == NULL) return;
  eqs_saver_destroy(&session->saver);
  eqs_directory_lock_release(&session->lock);
  eqs_work_destroy(&session->work);
  eqs_push_sender_destroy(&session->push_sender);
  eqs_push_receiver_destroy(&session->push_receiver);
  eqs_pull_sender_destroy(&session->pull_sender);
  eqs_pull_receiver_destroy(&session->pull_receiver);
  eqs_pull_sender_destroy(&session->frozen_sender);
  eqs_pull_receiver_destroy(&session->frozen_receiver);
  eqs_optimizer_destroy(&session->optimizer);
  eqs_plan_free(&session->plan);
  eqs_config_free(&session->config);
  for (int64_t p = 0; p < session->parameters; p++) {
    for (int64_t a = 0; a < session->parameter[p].aliases; a++) free(session->parameter[p].alias[a]);
    free(session->parameter[p].alias);
    free(session->parameter[p].given_name);
    free((char *)session->parameter[p].info.name);
    free((char *)session->parameter[p].info.module_type);
    free((char *)session->parameter[p].info.role);
  }
  eqs_handles_close(&session->handles);
  eqs_lookup_free(&session->names);
  eqs_lookup_free(&session->addresses);
  free(session->parameter);
  free(session->resume_path);
  free(session->restored_group);
  free(session->settings);
  free(session->restored_step);
  eqs_wire_free(&session->own_items);
  eqs_wire_free(&session->trainer_data);
  eqs_roster_free(&session->roster);
  free(session);
  *result = NULL;
}

eqs_status eqs_session_run(eqs_session *session, eqs_command command, eqs_wire *payload)
{
  switch (command) {
  case EQS_COMMAND_START: return eqs_run_start(session, payload);
  case EQS_COMMAND_CLIP: return eqs_run_clip(session, payload);
  case EQS_COMMAND_STEP: return eqs_run_step(session, payload);
  case EQS_COMMAND_CHECKPOINT: return eqs_run_checkpoint(session, payload);
  case EQS_COMMAND_PHASES: return eqs_run_phases(session, NULL, 0, NULL);
  default: return eqs_run_close(session);
  }
}

void eqs_session_leave(eqs_session **session, eqs_status status)
{
  if (*session == NULL) return;
  (*session)->context.advance = NULL;
  eqs_policy_end(&(*session)->policy);
  eqs_session_unregister(*session);
  eqs_rendezvous_leave((*session)->rendezvous, status);
  if (status == EQS_PEER_LOST) {
    eqs_handles_close(&(*session)->handles);
    *session = NULL;
  } else {
    eqs_session_free(session);
  }
}

/* One session; *ended: the trainers have no more. */
static eqs_status serve(MPI_Comm comm, bool stays, bool *ended)
{
  eqs_session *session;
  eqs_wire payload = {0};
  eqs_command command = EQS_COMMAND_START;
  eqs_status status = eqs_session_join(comm, NULL, false, stays, &session);
  *ended = session == NULL;
  while (status == EQS_OK && session != NULL && command != EQS_COMMAND_CLOSE) {
    status = eqs_session_listen(session, &command, &payload);
    if (status == EQS_OK) status = eqs_session_run(session, command, &payload);
  }
  eqs_wire_free(&payload);
  eqs_session_leave(&session, status);
  return status;
}

eqs_status eqs_serve(MPI_Comm comm)
{
  bool ended;
  return serve(comm, false, &ended);
}

eqs_status eqs_serve_all(MPI_Comm comm)
{
  bool ended = false;
  eqs_status status = EQS_OK;
  while (status == EQS_OK && !ended) status = serve(comm, true, &ended);
  return status;
}
