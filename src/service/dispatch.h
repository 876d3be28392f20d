/*
 * The trainers' collective calls. Each has one function that all ranks run: trainers call it after they have announced
 * it, owners after they have heard the announcement.
 */
#ifndef EQS_SERVICE_DISPATCH_H
#define EQS_SERVICE_DISPATCH_H

#include "service/session.h"

typedef enum {
  EQS_COMMAND_START,
  EQS_COMMAND_CLIP,
  EQS_COMMAND_STEP,
  EQS_COMMAND_CHECKPOINT,
  EQS_COMMAND_PHASES,
  EQS_COMMAND_CLOSE,
} eqs_command;

/*
 * Tell all ranks which collective call the trainers make, with what the first trainer has to say about it.
 * On return the payload is the first trainer's. EQS_USAGE: this trainer makes another call than the first.
 */
eqs_status eqs_session_announce(eqs_session *session, eqs_command command, eqs_wire *payload);

/* The owners' counterpart: the next call. */
eqs_status eqs_session_listen(eqs_session *session, eqs_command *command, eqs_wire *payload);

/* Run an announced call on this rank. Collective over the session. */
eqs_status eqs_session_run(eqs_session *session, eqs_command command, eqs_wire *payload);

#endif
