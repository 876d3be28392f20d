#include "service/put.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/memory.h"
#include "dist/communicator.h"
#include "service/progress.h"
#include "service/weights.h"

eqs_status eqs_put(eqs_parameter *parameter, const void *weight)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_check_parameter(parameter, "eqs_put"));
  eqs_session *session = parameter->session;
  eqs_added_parameter *added = &session->parameter[parameter->index];
  EQS_TRY(eqs_check_started(session, "eqs_put"));
  EQS_TRY(eqs_check_pointer(weight, "eqs_put", "weight"));
  if (session->pushes > 0)
    EQS_TRY(
        eqs_fail(EQS_USAGE, "parameter '%s' is put after the first push of the step; put it before", added->info.name));
  if (added->put != NULL) EQS_TRY(eqs_fail(EQS_USAGE, "parameter '%s' is put twice before a step", added->info.name));
  added->put = weight;
  session->puts++;
  session->push_sender.held = true; /* its gradient is applied to the new weight */
cleanup:
  return status;
}

eqs_status eqs_begin_notices(eqs_session *session, int64_t bits)
{
  session->notices = bits | (session->puts > 0 ? EQS_NOTICE_PUTS : 0);
  return eqs_check_mpi(MPI_Iallreduce(MPI_IN_PLACE, &session->notices, 1, MPI_INT64_T, MPI_BOR, session->roster.comm,
                                      &session->notices_request),
                       "MPI_Iallreduce");
}

eqs_status eqs_finish_notices(eqs_session *session, int64_t *bits)
{
  eqs_status status = eqs_session_wait(session, &session->notices_request, "the other ranks' notices before a step");
  *bits = session->notices;
  return status;
}

/* What a trainer says of a parameter: 0, it has not put it; else what its values come to, where they must be alike. */
static int64_t word_of(const eqs_added_parameter *added)
{
  int64_t elements = 1;
  if (added->put == NULL) return 0;
  if (added->info.weight_placement == EQS_SHARD) return 1;
  for (int d = 0; d < added->info.ndim; d++) elements *= added->info.shape[d];
  uint64_t digest = XXH3_64bits(added->put, (size_t)elements * eqs_dtype_size(added->info.dtype));
  return (int64_t)(digest >> 2) + 1;
}

/* Whether all trainers say the same of what they hold alike. most and least are over the trainers. */
static eqs_status compare(const eqs_session *session, const int64_t *most, const int64_t *least)
{
  for (int64_t p = 0; p < session->plan->parameters; p++) {
    const eqs_parameter_info *info = &session->plan->parameter[p].info;
    if (most[p] == least[p] || info->weight_placement == EQS_SHARD) continue;
    eqs_status status =
        eqs_fail(EQS_USAGE,
                 least[p] == 0 ? "parameter '%s': only some trainers have written to its weight, which is "
                                 "Replicate; write the same values on all"
                               : "parameter '%s': the trainers have written different values to its "
                                 "weight, which is Replicate; write the same on all",
                 info->name);
    if (session->roster.trainer == 0) eqs_log(EQS_LOG_ERROR, "%s", eqs_error_message());
    return status;
  }
  return EQS_OK;
}

eqs_status eqs_run_puts(eqs_session *session)
{
  eqs_status status = EQS_OK;
  int64_t parameters = session->plan->parameters, *words = NULL; /* least, then -most */
  bool *travels = NULL;
  const void **weight = NULL;
  bool held = session->step.held;
  session->step.held = true; /* an owner may have all of a gradient while the weight is still on its way */
  EQS_TRY(eqs_agree(session->roster.comm, eqs_allocate(&words, 2 * parameters, sizeof *words)));
  EQS_TRY(eqs_agree(session->roster.comm, eqs_allocate(&travels, parameters, sizeof *travels)));
  EQS_TRY(eqs_agree(session->roster.comm, eqs_allocate(&weight, parameters, sizeof *weight)));
  for (int64_t p = 0; p < parameters; p++) {
    int64_t word = eqs_trains(session) ? word_of(&session->parameter[p]) : 0;
    words[p] = eqs_trains(session) ? word : INT64_MAX;
    words[parameters + p] = -word;
    if (eqs_trains(session)) weight[p] = session->parameter[p].put;
  }
  EQS_TRY(eqs_minimum(session->roster.comm, words, (int)(2 * parameters), "the trainers' new weights"));
  for (int64_t p = 0; p < parameters; p++) {
    words[parameters + p] = -words[parameters + p];
    travels[p] = words[parameters + p] > 0;
  }
  EQS_TRY(compare(session, words + parameters, words));
  EQS_TRY(eqs_move_weights(session, travels, weight));
  for (int64_t p = 0; eqs_owns(session) && p < parameters; p++)
    if (travels[p]) eqs_optimizer_changed(session->optimizer, p);
  for (int64_t p = 0; p < session->parameters; p++) session->parameter[p].put = NULL;
  session->puts = 0;
  session->push_sender.held = false;
cleanup:
  session->step.held = held;
  free(words);
  free(travels);
  free(weight);
  return status;
}
