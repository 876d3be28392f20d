/*
 * Where the ranks of a job meet before every session, on a communicator of the library's own: trainers when they open
 * one, owners when they are ready to serve. Whoever waits sleeps.
 */
#ifndef EQS_SERVICE_RENDEZVOUS_H
#define EQS_SERVICE_RENDEZVOUS_H

#include <mpi.h>
#include <stdbool.h>

#include "base/status.h"

typedef struct {
  MPI_Comm comm;     /* of the job's ranks */
  int first_trainer; /* rank in comm */
  int trainers;      /* how many */
  int sessions;      /* that are open here */
  bool stay;         /* owners come again after a session, until the trainers end */
} eqs_rendezvous;

/*
 * The rendezvous of a communicator; made when it is asked for first. Valid until MPI_Finalize.
 * Collective over comm, the first time.
 */
eqs_status eqs_rendezvous_find(MPI_Comm comm, eqs_rendezvous **rendezvous);

/*
 * Wait for all ranks, and learn who is who.
 *
 * trains  [in]  whether this rank trains
 * stays   [in]  of an owner: whether it comes again after the session. Then it waits without limit; and this rank, if
 * it trains, tells it in MPI_Finalize that there are no more sessions ended   [out] the trainers have called
 * MPI_Finalize: there is no session
 *
 * Collective. EQS_USAGE: a job without trainers; a second session of trainers whose owners serve the first one.
 * EQS_PEER_LOST.
 */
eqs_status eqs_rendezvous_meet(eqs_rendezvous *rendezvous, bool trains, bool stays, bool *ended);

/* A session that was opened here is over; owners do not come again after one that failed. Not collective. */
void eqs_rendezvous_leave(eqs_rendezvous *rendezvous, eqs_status status);

#endif
