/* Weights that trainers put: announced, compared and moved to the owners before the next step, clipping or checkpoint.
 */
#ifndef EQS_SERVICE_PUT_H
#define EQS_SERVICE_PUT_H

#include "service/session.h"

/*
 * Notices that only some ranks have, as bits, become those of all by a disjunction: begin, and wait for the result.
 * Collective over the session.
 */
enum { EQS_NOTICE_PUTS = 1 << EQS_POLICY_BITS, EQS_NOTICE_ITEMS = 2 << EQS_POLICY_BITS };
eqs_status eqs_begin_notices(eqs_session *session, int64_t bits);
eqs_status eqs_finish_notices(eqs_session *session, int64_t *bits);

/* Move the weights that trainers have put. Collective over the session. EQS_USAGE: they differ. */
eqs_status eqs_run_puts(eqs_session *session);

#endif
