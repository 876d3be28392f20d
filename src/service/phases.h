/* The table of seconds per phase. */
#ifndef EQS_SERVICE_PHASES_H
#define EQS_SERVICE_PHASES_H

#include "service/session.h"

/* Collective over the session; owners give NULL, 0, NULL. */
eqs_status eqs_run_phases(eqs_session *session, eqs_phase *phases, int capacity, int *count);

#endif
