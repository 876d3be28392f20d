/* Opening a session: the ranks meet, read the configuration and find out who is who; and leaving it. */
#ifndef EQS_SERVICE_JOIN_H
#define EQS_SERVICE_JOIN_H

#include "service/session.h"

/* Where the configuration comes from: a file, or a text. */
typedef struct {
  const char *path;
  const char *text;
} eqs_config_source;

/*
 * Meet the other ranks and open a session; NULL without an error: the trainers have ended (`stays`, see
 * eqs_rendezvous_meet). Collective over comm.
 */
eqs_status eqs_session_join(MPI_Comm comm, const eqs_config_source *source, bool trains, bool stays,
                            eqs_session **session);

/*
 * Free the session, after it ended with a status. Freeing communicators and grids needs all peers: where one is
 * lost, the memory is left to the end of the process.
 */
void eqs_session_leave(eqs_session **session, eqs_status status);

#endif
