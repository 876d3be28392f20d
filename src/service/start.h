/* The start of a session: the plan, the transports, the initial weights or those of a checkpoint. */
#ifndef EQS_SERVICE_START_H
#define EQS_SERVICE_START_H

#include "service/session.h"

/* Pack this trainer's parameters and its wish to resume. */
eqs_status eqs_pack_start(const eqs_session *session, eqs_wire *payload);

/* Collective over the session. */
eqs_status eqs_run_start(eqs_session *session, eqs_wire *payload);

#endif
