/* The owners' calls. */
#include "service/dispatch.h"
#include "service/join.h"

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
