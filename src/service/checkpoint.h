/* The trainers' collective calls that write a checkpoint and close the session, as all ranks run them. */
#ifndef EQS_SERVICE_CHECKPOINT_H
#define EQS_SERVICE_CHECKPOINT_H

#include "service/session.h"

/* Collective over the session; the payload has what the first trainer pushed since the last step, and its items. */
eqs_status eqs_run_checkpoint(eqs_session *session, eqs_wire *payload);
eqs_status eqs_run_close(eqs_session *session);

#endif
