#include "service/checkpoint.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "checkpoint/save_optimizer.h"
#include "dist/communicator.h"
#include "service/outcome.h"
#include "service/put.h"
#include "service/save.h"
#include "service/trainer_data.h"
#include "service/weights.h"

/* What the first trainer has pushed may be in some weights already: there is no state between two steps to write. */
static eqs_status check_between_steps(eqs_session *session, int64_t pushes)
{
  if (pushes == 0) return EQS_OK;
  eqs_status status = eqs_fail(EQS_USAGE, "eqs_checkpoint is called after the first push of a step");
  if (session->roster.trainer == 0) eqs_log(EQS_LOG_ERROR, "%s", eqs_error_message());
  return eqs_share_outcome(session, status);
}

/* An owner's part: once the checkpoint before is there, this one. Collective over the owners. */
static eqs_status save(eqs_session *session, const eqs_checkpoint_item *items, int count)
{
  eqs_status status = eqs_owner_step_deferred(&session->step);
  const eqs_config *config = session->config;
  const eqs_checkpoint_directory to = {.path = config->checkpoint.directory,
                                       .keep = config->checkpoint.keep,
                                       .keep_every = config->checkpoint.keep_every};
  double begin = eqs_clock();
  if (status != EQS_OK) return status;
  EQS_TRY(eqs_agree_on_save(session));
  EQS_TRY(eqs_agree(session->roster.owner_comm, eqs_fail_of_owner(session, eqs_directory_lock_renew(session->lock))));
  EQS_TRY(eqs_checkpoint_save_optimizer(session->optimizer, &to, session->saver, items, count));
cleanup:
  session->seconds[EQS_PHASE_CHECKPOINT] += eqs_clock() - begin;
  return status;
}

eqs_status eqs_run_checkpoint(eqs_session *session, eqs_wire *payload)
{
  eqs_status status = EQS_OK, result = EQS_OK;
  eqs_checkpoint_item *items = NULL;
  eqs_wire own = {0};
  int64_t pushes, notices;
  int count;
  EQS_TRY(eqs_wire_get_integer(payload, &pushes));
  EQS_TRY(check_between_steps(session, pushes));
  EQS_TRY(eqs_begin_notices(session, session->own_items.size > 0 ? EQS_NOTICE_ITEMS : 0));
  EQS_TRY(eqs_finish_notices(session, &notices));
  if (notices & EQS_NOTICE_PUTS) EQS_TRY(eqs_finish_pulls(session));
  if (notices & EQS_NOTICE_PUTS) EQS_TRY(eqs_run_puts(session));
  if (notices & EQS_NOTICE_ITEMS) EQS_TRY(eqs_share_own_items(session, &own));
  EQS_TRY(eqs_unpack_items(payload, &own, &items, &count));
  if (eqs_owns(session)) result = save(session, items, count);
  EQS_TRY(eqs_share_outcome(session, result));
  eqs_policy_saved(&session->policy);
cleanup:
  free(items);
  eqs_wire_free(&own);
  return status;
}

eqs_status eqs_run_close(eqs_session *session)
{
  eqs_status status = EQS_OK, result = EQS_OK;
  if (!session->started) return EQS_OK;
  EQS_TRY(eqs_finish_pulls(session));
  if (eqs_owns(session)) result = eqs_owner_step_deferred(&session->step);
  if (eqs_owns(session) && result == EQS_OK) result = eqs_agree_on_save(session);
  EQS_TRY(eqs_share_outcome(session, result));
cleanup:
  return status;
}
