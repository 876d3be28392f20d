#include "service/weights.h"

#include "service/progress.h"

/* The transport of initial weights, used once. */
typedef struct {
  eqs_push_sender sender;
  eqs_push_receiver receiver;
} initial_transport;

static eqs_status advance_initial(eqs_session *session, initial_transport *initial, bool *moved)
{
  eqs_status status = EQS_OK;
  eqs_traffic uncounted = {0};
  if (eqs_trains(session)) EQS_TRY(eqs_push_sender_advance(&initial->sender, &uncounted, moved));
  if (eqs_owns(session)) EQS_TRY(eqs_push_receiver_advance(&initial->receiver, &uncounted, moved));
cleanup:
  return status;
}

typedef struct {
  initial_transport *initial;
  eqs_status status;
} initial_wait;

static bool initial_moved(eqs_session *session, void *context)
{
  initial_wait *wait = context;
  bool moved = false;
  wait->status = advance_initial(session, wait->initial, &moved);
  return wait->status != EQS_OK || ((!eqs_trains(session) || eqs_push_sender_done(&wait->initial->sender)) &&
                                    (!eqs_owns(session) || eqs_push_receiver_done(&wait->initial->receiver)));
}

eqs_status eqs_move_weights(eqs_session *session, const bool *travels, const void *const *weight)
{
  eqs_status status = EQS_OK;
  initial_transport initial = {0};
  initial_wait wait = {.initial = &initial};
  if (eqs_trains(session)) {
    EQS_TRY(
        eqs_push_sender_create(&session->roster, session->plan, EQS_ROUTE_INITIAL, travels, NULL, 0, &initial.sender));
    for (int64_t p = 0; p < session->parameters; p++)
      if (travels[p] && weight[p] != NULL) eqs_push_sender_add(&initial.sender, p, weight[p]);
    initial.sender.flushed = true;
  }
  if (eqs_owns(session))
    EQS_TRY(eqs_push_receiver_create(&session->roster, session->plan, EQS_ROUTE_INITIAL, travels, session->optimizer,
                                     eqs_trains(session) ? &initial.sender : NULL, &initial.receiver));
  EQS_TRY(eqs_session_wait_until(session, initial_moved, &wait, "the trainers' weights"));
  status = wait.status;
cleanup:
  if (eqs_trains(session)) eqs_push_sender_destroy(&initial.sender);
  if (eqs_owns(session)) eqs_push_receiver_destroy(&initial.receiver);
  return status;
}

static bool weights_moved(eqs_session *session, void *context)
{
  (void)context;
  return (!eqs_trains(session) ||
          (eqs_pull_receiver_done(&session->pull_receiver) && eqs_pull_receiver_done(&session->frozen_receiver))) &&
         (!eqs_owns(session) ||
          (eqs_pull_sender_done(&session->pull_sender) && eqs_pull_sender_done(&session->frozen_sender)));
}

eqs_status eqs_finish_pulls(eqs_session *session)
{
  eqs_status status = EQS_OK;
  if (eqs_trains(session)) EQS_TRY(eqs_pull_receiver_discard(&session->pull_receiver));
  if (eqs_trains(session)) EQS_TRY(eqs_pull_receiver_discard(&session->frozen_receiver));
  EQS_TRY(eqs_session_wait_until(session, weights_moved, NULL, "the trainers to take the last step's weights"));
cleanup:
  return status;
}
