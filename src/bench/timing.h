/* Timing over ranks, and of messages between them. */
#ifndef EQS_BENCH_TIMING_H
#define EQS_BENCH_TIMING_H

#include <mpi.h>

#include "base/status.h"

/* Work that is timed, or that comes before it. */
typedef eqs_status (*eqs_work)(void *context);

/*
 * Do work on all ranks at once: they begin together and each takes its own time; those that are done sleep until the
 * others are.
 *
 * seconds  [out] of the slowest rank
 * slowest  [out] which one that is
 *
 * Collective over comm. A failure of `work` is agreed on.
 */
eqs_status eqs_time_together(MPI_Comm comm, eqs_work work, void *context, double *seconds, int *slowest);

/*
 * Messages between pairs of ranks, (0, 1), (2, 3), ..., all pairs at the same time; a last odd rank looks on. Means
 * over the pairs; 0 where there is no pair.
 *
 * latency    [out] seconds of a message of 8 bytes, half a round trip
 * bandwidth  [out] bytes per second of messages of 1 MiB, one way at a time
 *
 * Collective over comm.
 */
eqs_status eqs_measure_messages(MPI_Comm comm, double *latency, double *bandwidth);

/*
 * A communicator of the first `ranks` ranks of comm; MPI_COMM_NULL on the others. Free with MPI_Comm_free. Collective
 * over comm.
 */
eqs_status eqs_first_ranks(MPI_Comm comm, int ranks, MPI_Comm *first);

#endif
