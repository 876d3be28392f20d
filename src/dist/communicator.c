#include "dist/communicator.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "dist/context.h"

eqs_status eqs_check_mpi(int code, const char *call)
{
  if (code == MPI_SUCCESS) return EQS_OK;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length;
  MPI_Error_string(code, text, &length);
  return eqs_fail(EQS_FAILED, "%s failed: %s", call, text);
}

eqs_status eqs_fail_waiting(double deadline, const char *what)
{
  eqs_status status = eqs_fail(
      EQS_PEER_LOST, "timed out after %g s waiting for %s: a rank is lost, or `deadline` is too short", deadline, what);
  eqs_log(EQS_LOG_ERROR, "%s", eqs_error_message());
  return status;
}

eqs_status eqs_wait(MPI_Comm comm, MPI_Request *request, const char *what)
{
  eqs_status status = EQS_OK;
  const eqs_context *context = eqs_context_of(comm);
  double deadline = eqs_deadline(comm), last_advance = eqs_clock();
  int looks = 0;
  for (;;) {
    int done;
    bool advanced = false;
    EQS_TRY(eqs_check_mpi(MPI_Test(request, &done, MPI_STATUS_IGNORE), "MPI_Test"));
    if (done) return EQS_OK;
    if (context->advance != NULL) EQS_TRY(context->advance(context->owner, &advanced));
    if (advanced) {
      looks = 0;
      last_advance = eqs_clock();
    } else {
      if (eqs_clock() - last_advance > deadline) return eqs_fail_waiting(deadline, what);
      eqs_backoff(&looks);
    }
  }
cleanup:
  return status;
}

eqs_status eqs_broadcast(MPI_Comm comm, void *data, int64_t bytes, int root, const char *what)
{
  const int64_t piece = 1 << 30; /* counts are 32 bits */
  eqs_status status = EQS_OK;
  for (int64_t begin = 0; begin < bytes; begin += piece) {
    int count = (int)(bytes - begin < piece ? bytes - begin : piece);
    MPI_Request request;
    EQS_TRY(eqs_check_mpi(MPI_Ibcast((char *)data + begin, count, MPI_BYTE, root, comm, &request), "MPI_Ibcast"));
    EQS_TRY(eqs_wait(comm, &request, what));
  }
cleanup:
  return status;
}

eqs_status eqs_broadcast_block(MPI_Comm comm, char **block, int64_t *bytes, int root, const char *what)
{
  eqs_status status = EQS_OK;
  int rank;
  EQS_TRY(eqs_check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank"));
  EQS_TRY(eqs_broadcast(comm, bytes, sizeof *bytes, root, what));
  EQS_TRY(eqs_agree(comm, rank == root ? EQS_OK : eqs_allocate_raw(block, *bytes, 1)));
  EQS_TRY(eqs_broadcast(comm, *block, *bytes, root, what));
cleanup:
  return status;
}

/*
 * A reduction to one rank and a broadcast, because MPI_Allreduce need not add in the same order on all ranks
 * (MPI 3.1, 5.9.1, only advises it): a rank that takes another branch for the last bit would hang the others.
 */
eqs_status eqs_sum(MPI_Comm comm, double *values, int count, const char *what)
{
  eqs_status status = EQS_OK;
  int rank;
  MPI_Request request;
  EQS_TRY(eqs_check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank"));
  const void *contribution = rank == 0 ? MPI_IN_PLACE : values;
  EQS_TRY(
      eqs_check_mpi(MPI_Ireduce(contribution, values, count, MPI_DOUBLE, MPI_SUM, 0, comm, &request), "MPI_Ireduce"));
  EQS_TRY(eqs_wait(comm, &request, what));
  EQS_TRY(eqs_broadcast(comm, values, (int64_t)count * (int64_t)sizeof *values, 0, what));
cleanup:
  return status;
}

eqs_status eqs_minimum(MPI_Comm comm, int64_t *values, int count, const char *what)
{
  eqs_status status = EQS_OK;
  MPI_Request request;
  EQS_TRY(eqs_check_mpi(MPI_Iallreduce(MPI_IN_PLACE, values, count, MPI_INT64_T, MPI_MIN, comm, &request),
                        "MPI_Iallreduce"));
  EQS_TRY(eqs_wait(comm, &request, what));
cleanup:
  return status;
}

eqs_status eqs_agree(MPI_Comm comm, eqs_status local)
{
  static const char what[] = "the other ranks' agreement on a result";
  struct {
    int32_t status;
    char message[2048];
  } failure = {.status = (int32_t)local};
  eqs_status status = EQS_OK;
  int rank;
  if (local == EQS_PEER_LOST) return local;
  EQS_TRY(eqs_check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank"));
  int64_t lowest_failed = local == EQS_OK ? INT64_MAX : rank;
  EQS_TRY(eqs_minimum(comm, &lowest_failed, 1, what));
  if (lowest_failed == INT64_MAX) return EQS_OK;

  if (rank == lowest_failed) {
    strncpy(failure.message, eqs_error_message(), sizeof failure.message - 1);
    eqs_log(EQS_LOG_ERROR, "%s", failure.message);
  }
  EQS_TRY(eqs_broadcast(comm, &failure, sizeof failure, (int)lowest_failed, what));
  status = eqs_fail((eqs_status)failure.status, "%s", failure.message);
cleanup:
  return status;
}

int eqs_world_rank(void)
{
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

eqs_status eqs_share_status(eqs_status status)
{
  static const eqs_context without_limit = {.deadline =
                                                INFINITY}; /* if the first rank is lost, mpirun ends the others */
  eqs_status attached = eqs_context_attach(MPI_COMM_WORLD, &without_limit);
  return attached != EQS_OK ? attached : eqs_agree(MPI_COMM_WORLD, status);
}
