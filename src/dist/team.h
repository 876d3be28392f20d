/*
 * The ranks of a process grid that work on the same small matrices together. Those of one host share memory: a matrix
 * that all need is there once, and each rank writes its part of it in place. Between hosts the parts are exchanged.
 *
 * Ranks are numbered host by host; so number and rank in the grid's communicator may differ.
 */
#ifndef EQS_DIST_TEAM_H
#define EQS_DIST_TEAM_H

#include <mpi.h>
#include <stdint.h>

#include "base/status.h"

typedef struct eqs_team_segment eqs_team_segment; /* memory shared by a host's ranks */

typedef struct {
  int ranks, number;         /* how many; of this one */
  int hosts, host;           /* likewise */
  int host_ranks, host_rank; /* of this host; of this rank among them: 0 is the host's leader */
  int *first;                /* number of every host's first rank; hosts + 1 elements */
  MPI_Comm host_comm;        /* this host's ranks; MPI_COMM_NULL if there is only this one */
  MPI_Comm leaders;          /* ranked by host; MPI_COMM_NULL if this is no leader, or the only one */
  eqs_team_segment *segment;
} eqs_team;

/*
 * Make a team of comm's ranks; MPI_COMM_NULL: of this rank alone.
 * Collective over comm.
 */
eqs_status eqs_team_create(MPI_Comm comm, eqs_team *team);

/* Collective over comm. Safe on a zeroed struct. */
void eqs_team_destroy(eqs_team *team);

/*
 * For tests: let teams made from now on take every `ranks` of a communicator for a host of their own; 0: hosts as they
 * are. The same on all ranks.
 */
void eqs_team_set_host_ranks(int ranks);

/*
 * Memory that all ranks of the host see, at least `floats` long, aligned to 64 bytes; it was zero when it was new.
 * What was there before stays only if it is large enough already. Where the host has no shared memory left, ranks get
 * memory of their own and count as hosts by themselves.
 *
 * Collective over the team.
 */
eqs_status eqs_team_reserve(eqs_team *team, int64_t floats, float **memory);

/* Wait for the other ranks of this host; what they wrote to the segment can be read then. Collective over the host. */
eqs_status eqs_team_wait(eqs_team *team);

/*
 * The rows of a symmetric n×n matrix that a rank computes: end[p] - 1 is the last of number p's. Multiples of `step`
 * but for the last, and of about the same work in the lower triangle each.
 */
int64_t eqs_team_first_row(const eqs_team *team, int64_t n, int64_t step, int number);

/*
 * Between hosts: every host's part of `packed`, where that of host h is first[h] ... first[h + 1] - 1, goes to all
 * others / is summed over all hosts, each host keeping the sum of its own part. Called by leaders only, collective over
 * them.
 */
eqs_status eqs_team_exchange(const eqs_team *team, const int64_t *first, float *packed);
eqs_status eqs_team_reduce(const eqs_team *team, const int64_t *first, float *packed);

#endif
