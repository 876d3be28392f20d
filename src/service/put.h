/* Weights that trainers put: announced, compared and moved to the owners before the next step, clipping or checkpoint.
 */
#ifndef EQS_SERVICE_PUT_H
#define EQS_SERVICE_PUT_H

#include "service/session.h"

/*
 * Tell all ranks bits that only some may know, by their disjunction: EQS_TELL_...; begin, and wait for the answer.
 * Owners have none. Collective over the session.
 */
enum { EQS_TELL_PUTS = 1 << EQS_POLICY_BITS, EQS_TELL_ITEMS = 2 << EQS_POLICY_BITS };
eqs_status eqs_begin_telling(eqs_session *session, int64_t bits);
eqs_status eqs_finish_telling(eqs_session *session, int64_t *bits);

/* Move the weights that trainers have put. Collective over the session. EQS_USAGE: they differ. */
eqs_status eqs_run_puts(eqs_session *session);

#endif
