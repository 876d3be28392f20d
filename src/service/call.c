#include "service/call.h"

#include <stdio.h>

#include "service/join.h"
#include "service/progress.h"

void eqs_note_outcome(eqs_session *session, eqs_status status)
{
  session->failed = status;
  if (status != EQS_OK) snprintf(session->failure, sizeof session->failure, "%s", eqs_error_message());
}

eqs_status eqs_call_together(eqs_session *session, eqs_command command, eqs_wire *payload)
{
  if (session->failed != EQS_OK)
    return eqs_fail(session->failed, "the session has failed before: %s", session->failure);
  eqs_status status = eqs_session_announce(session, command, payload);
  if (status == EQS_OK) status = eqs_session_run(session, command, payload);
  eqs_note_outcome(session, status);
  return status;
}

eqs_status eqs_session_end(eqs_session **session)
{
  eqs_status status = EQS_OK;
  eqs_wire payload = {0};
  if ((*session)->failed == EQS_OK) status = eqs_call_together(*session, EQS_COMMAND_CLOSE, &payload);
  eqs_wire_free(&payload);
  eqs_session_leave(session, (*session)->failed);
  return status;
}
