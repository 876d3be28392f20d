#include "service/outcome.h"

#include <stdio.h>
#include <string.h>

#include "service/progress.h"
#include "service/save.h"

/* A checkpoint that is on its way when the session fails is still finished: nobody waits for the trainers then. */
static eqs_status save_before_failing(eqs_session *session, eqs_status failure)
{
  char message[1024];
  if (!eqs_owns(session) || session->saver == NULL || eqs_saver_idle(session->saver)) return failure;
  snprintf(message, sizeof message, "%s", eqs_error_message());
  return eqs_finish_save(session) == EQS_PEER_LOST ? EQS_PEER_LOST : eqs_fail(failure, "%s", message);
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
