#include "bench/timing.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "dist/communicator.h"
#include "dist/context.h"

eqs_status eqs_time_together(MPI_Comm comm, eqs_work work, void *context, double *seconds, int *slowest)
{
  eqs_status status = EQS_OK;
  struct {
    double seconds;
    int rank;
  } mine, most;
  MPI_Request request;
  EQS_TRY(eqs_check_mpi(MPI_Comm_rank(comm, &mine.rank), "MPI_Comm_rank"));
  EQS_TRY(eqs_check_mpi(MPI_Barrier(comm), "MPI_Barrier"));
  double begin = eqs_clock();
  status = work(context);
  mine.seconds = eqs_clock() - begin;
  EQS_TRY(eqs_agree(comm, status));
  EQS_TRY(eqs_check_mpi(MPI_Iallreduce(&mine, &most, 1, MPI_DOUBLE_INT, MPI_MAXLOC, comm, &request), "MPI_Iallreduce"));
  EQS_TRY(eqs_wait(comm, &request, "the other ranks' times"));
  *seconds = most.seconds;
  *slowest = most.rank;
cleanup:
  return status;
}

/* Seconds of one message between this rank and its peer, half a round trip. */
static eqs_status exchange(MPI_Comm comm, int peer, bool begins, void *message, int bytes, int rounds, double *seconds)
{
  eqs_status status = EQS_OK;
  double begin = eqs_clock();
  for (int r = 0; r < 2 * rounds; r++) {
    bool sends = (r % 2 == 0) == begins;
    EQS_TRY(eqs_check_mpi(sends ? MPI_Send(message, bytes, MPI_BYTE, peer, 0, comm)
                                : MPI_Recv(message, bytes, MPI_BYTE, peer, 0, comm, MPI_STATUS_IGNORE),
                          sends ? "MPI_Send" : "MPI_Recv"));
  }
  *seconds = (eqs_clock() - begin) / (2 * rounds);
cleanup:
  return status;
}

eqs_status eqs_measure_messages(MPI_Comm comm, double *latency, double *bandwidth)
{
  enum { small = 8, large = 1 << 20, small_rounds = 2000, large_rounds = 100 };
  eqs_status status = EQS_OK;
  int rank, size;
  char *message = NULL;
  double sums[3] = {0}; /* seconds of a small message, of a large one, ranks that measured */
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  int peer = rank % 2 == 0 ? rank + 1 : rank - 1;
  EQS_TRY(eqs_agree(comm, eqs_allocate(&message, large, 1)));
  EQS_TRY(eqs_check_mpi(MPI_Barrier(comm), "MPI_Barrier"));
  if (peer < size) {
    bool begins = rank < peer;
    EQS_TRY(exchange(comm, peer, begins, message, large, 1, &sums[1])); /* connects */
    EQS_TRY(exchange(comm, peer, begins, message, small, small_rounds, &sums[0]));
    EQS_TRY(exchange(comm, peer, begins, message, large, large_rounds, &sums[1]));
    sums[2] = 1;
  }
  EQS_TRY(eqs_sum(comm, sums, 3, "the other ranks' times"));
  *latency = sums[2] > 0 ? sums[0] / sums[2] : 0;
  *bandwidth = sums[2] > 0 ? large * sums[2] / sums[1] : 0;
cleanup:
  free(message);
  return status;
}

eqs_status eqs_first_ranks(MPI_Comm comm, int ranks, MPI_Comm *first)
{
  int rank;
  MPI_Comm_rank(comm, &rank);
  return eqs_comm_split(comm, rank < ranks ? 0 : MPI_UNDEFINED, rank, first);
}
