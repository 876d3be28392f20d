/* Waiting, during which everything that is under way goes on. */
#ifndef EQS_SERVICE_PROGRESS_H
#define EQS_SERVICE_PROGRESS_H

#include "service/session.h"

/*
 * Send and receive what can be without waiting, and do a piece of an owner's work. *moved is set if anything happened.
 */
eqs_status eqs_session_advance(eqs_session *session, bool *moved);

/*
 * From now on that goes on in the waits of other rooms too, on comm and what is made of it (dist/context.h), with the
 * job's deadline. Work is counted in `counts`, which may be NULL.
 */
eqs_status eqs_session_attach_context(eqs_session *session, MPI_Comm comm, eqs_counts *counts);

/* Seconds that this owner has spent on what is not waiting. */
double eqs_session_busy(const eqs_session *session);

/* Wait until a condition holds, or for a request. EQS_PEER_LOST: the deadline passed. */
eqs_status eqs_session_wait_until(eqs_session *session, bool (*condition)(eqs_session *session, void *context),
                                  void *context, const char *what);
eqs_status eqs_session_wait(eqs_session *session, MPI_Request *request, const char *what);

/* Broadcast a wire's bytes from a rank of the session's communicator. Collective over the session. */
eqs_status eqs_session_broadcast(eqs_session *session, int root, eqs_wire *wire, const char *what);

#endif
