#include "service/dispatch.h"

#include "base/log.h"
#include "service/checkpoint.h"
#include "service/phases.h"
#include "service/progress.h"
#include "service/start.h"
#include "service/step.h"

/* The command goes before the payload. */
static eqs_status exchange(eqs_session *session, eqs_command *command, eqs_wire *payload)
{
  eqs_status status = EQS_OK;
  eqs_wire message = {0};
  int64_t kind;
  const void *bytes;
  if (session->roster.trainer == 0) {
    EQS_TRY(eqs_wire_put_integer(&message, *command));
    EQS_TRY(eqs_wire_put(&message, payload->data, payload->size));
  }
  EQS_TRY(eqs_session_broadcast(session, session->roster.trainer_rank[0], &message, "the trainers' next call"));
  EQS_TRY(eqs_wire_get_integer(&message, &kind));
  EQS_TRY(eqs_wire_get(&message, message.size - message.position, &bytes));
  payload->size = payload->position = 0;
  EQS_TRY(eqs_wire_put(payload, bytes, message.size - (int64_t)sizeof kind));
  *command = (eqs_command)kind;
cleanup:
  eqs_wire_free(&message);
  return status;
}

eqs_status eqs_session_announce(eqs_session *session, eqs_command command, eqs_wire *payload)
{
  static const char *const names[] = {"eqs_session_start", "eqs_clip_grad_norm", "eqs_step",
                                      "eqs_checkpoint",    "eqs_session_phases", "eqs_session_close"};
  eqs_command heard = command;
  eqs_status status = exchange(session, &heard, payload);
  if (status == EQS_OK && heard != command) {
    status = eqs_fail(EQS_USAGE, "trainer %d calls %s while the first trainer calls %s: collective calls must agree",
                      session->roster.trainer, names[command], names[heard]);
    eqs_log(EQS_LOG_ERROR, "%s", eqs_error_message()); /* the others are in another call: nobody to agree with */
  }
  return status;
}

eqs_status eqs_session_listen(eqs_session *session, eqs_command *command, eqs_wire *payload)
{
  return exchange(session, command, payload);
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
