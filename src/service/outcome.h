/* How the owners' part of a collective call ended. */
#ifndef EQS_SERVICE_OUTCOME_H
#define EQS_SERVICE_OUTCOME_H

#include "service/session.h"

/*
 * The owners' result goes to everybody: all return the first owner's status and have its message and step info.
 * Collective over the session.
 */
eqs_status eqs_share_outcome(eqs_session *session, eqs_status owners_status);

#endif
