#include "service/save.h"

#include "dist/communicator.h"
#include "service/progress.h"

static bool save_done(eqs_session *session, void *context)
{
  (void)context;
  return session->saver == NULL || eqs_saver_idle(session->saver);
}

eqs_status eqs_finish_save(eqs_session *session)
{
  return eqs_session_wait_until(session, save_done, NULL, "the other owners' parts of a checkpoint");
}

eqs_status eqs_save_result(const eqs_session *session)
{
  return session->saver == NULL ? EQS_OK : eqs_fail_of_owner(session, eqs_saver_result(session->saver));
}

eqs_status eqs_agree_on_save(eqs_session *session)
{
  eqs_status status = EQS_OK;
  if (session->saver == NULL) return EQS_OK;
  EQS_TRY(eqs_finish_save(session));
  EQS_TRY(eqs_agree(session->roster.owner_comm, eqs_save_result(session)));
cleanup:
  return status;
}
