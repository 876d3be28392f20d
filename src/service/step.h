/* The trainers' collective calls that reduce, clip and update, as all ranks run them. */
#ifndef EQS_SERVICE_STEP_H
#define EQS_SERVICE_STEP_H

#include "service/session.h"

/* Collective over the session; the payload has the first trainer's settings. */
eqs_status eqs_run_clip(eqs_session *session, eqs_wire *payload);
eqs_status eqs_run_step(eqs_session *session, eqs_wire *payload);

#endif
