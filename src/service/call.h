/* A trainer's part of a collective call. */
#ifndef EQS_SERVICE_CALL_H
#define EQS_SERVICE_CALL_H

#include "service/dispatch.h"

/* Announce a collective call and run it. After a failure the session makes none any more: its status and message. */
eqs_status eqs_call_together(eqs_session *session, eqs_command command, eqs_wire *payload);

/* Remember how a collective call ended. Not collective. */
void eqs_note_outcome(eqs_session *session, eqs_status status);

/* Close a session that is open; nothing is exchanged after a failure. Sets *session to NULL. Collective. */
eqs_status eqs_session_end(eqs_session **session);

#endif
