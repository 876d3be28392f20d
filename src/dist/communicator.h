/*
 * Waiting for other ranks: with a deadline, without keeping a core busy, and agreeing on failures.
 */
#ifndef EQS_DIST_COMMUNICATOR_H
#define EQS_DIST_COMMUNICATOR_H

#include <mpi.h>
#include <stdbool.h>

#include "base/status.h"

/*
 * Wait for one request of comm, with its context (dist/context.h). `what` names what is waited for ("the trainers'
 * gradients") in the message. Not collective. EQS_PEER_LOST: the deadline passed; the request is still pending.
 */
eqs_status eqs_wait(MPI_Comm comm, MPI_Request *request, const char *what);

/*
 * Record that a deadline passed while waiting for `what`, and print it: a lost peer takes no part in an agreement that
 * would. Returns EQS_PEER_LOST.
 */
eqs_status eqs_fail_waiting(double deadline, const char *what);

/* Turn the result of an MPI call into a status; `call` is its name. */
eqs_status eqs_check_mpi(int code, const char *call);

/*
 * Collective operations over comm that wait as eqs_wait does; counts are checked against int. A block is allocated on
 * all ranks but the root, with its size.
 */
eqs_status eqs_broadcast(MPI_Comm comm, void *data, int64_t bytes, int root, const char *what);
eqs_status eqs_broadcast_block(MPI_Comm comm, char **block, int64_t *bytes, int root, const char *what);
eqs_status eqs_sum(MPI_Comm comm, double *values, int count, const char *what);      /* in place */
eqs_status eqs_minimum(MPI_Comm comm, int64_t *values, int count, const char *what); /* in place */

/*
 * Agree on the result of local work: every rank gives its own status and all return the same: EQS_OK if
 * all had that, else the status of the lowest failed rank, whose message becomes everybody's.
 * That rank prints it. A rank that has lost a peer waits for nobody: it returns EQS_PEER_LOST at once.
 *
 * Collective over comm.
 */
eqs_status eqs_agree(MPI_Comm comm, eqs_status local);

/*
 * End of a command that the first rank carries out alone: all ranks wait for it, however long it takes, and return its
 * status; its message is printed. So no rank is in MPI_Finalize while another ends the job, which can leave mpirun
 * hanging.
 *
 * status  [in] the first rank's counts; the others give EQS_OK
 *
 * Collective over MPI_COMM_WORLD.
 */
eqs_status eqs_share_status(eqs_status status);

/* Rank in MPI_COMM_WORLD. Not collective. */
int eqs_world_rank(void);

#endif
