#include "dist/communicator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

static double deadline; /* 0: nobody has set it */

static struct {
  eqs_progress_callback callback;
  void *context;
} progress;

void eqs_set_deadline(double seconds)
{
  deadline = seconds;
}

double eqs_deadline(void)
{
  if (deadline > 0) return deadline;
  deadline = 1800;
  const char *given = getenv("EQUISHARD_DEADLINE");
  if (given == NULL) return deadline;
  char *end;
  double seconds = strtod(given, &end);
  if (end != given && *end == '\0' && seconds > 0 && isfinite(seconds))
    deadline = seconds;
  else
    eqs_log(EQS_LOG_WARNING, "EQUISHARD_DEADLINE must be a positive number of seconds, is '%s': it is ignored", given);
  return deadline;
}

void eqs_set_progress(eqs_progress_callback callback, void *context)
{
  progress.callback = callback;
  progress.context = context;
}

const void *eqs_progress_context(void)
{
  return progress.context;
}

static eqs_status make_progress(bool *moved)
{
  *moved = false;
  return progress.callback != NULL ? progress.callback(progress.context, moved) : EQS_OK;
}

eqs_status eqs_progress(void)
{
  bool moved;
  return make_progress(&moved);
}

eqs_status eqs_check_mpi(int code, const char *call)
{
  if (code == MPI_SUCCESS) return EQS_OK;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length;
  MPI_Error_string(code, text, &length);
  return eqs_fail(EQS_FAILED, "%s failed: %s", call, text);
}

eqs_status eqs_fail_waiting(const char *what)
{
  eqs_status status = eqs_fail(EQS_PEER_LOST, "%s did not come within %g s: a peer is lost, or `deadline` too short",
                               what, eqs_deadline());
  eqs_log(EQS_LOG_ERROR, "%s", eqs_error_message());
  return status;
}

eqs_status eqs_wait(MPI_Request *request, const char *what)
{
  eqs_status status = EQS_OK;
  double last_moved = eqs_clock();
  int looks = 0;
  for (;;) {
    int done;
    bool moved;
    EQS_TRY(eqs_check_mpi(MPI_Test(request, &done, MPI_STATUS_IGNORE), "MPI_Test"));
    if (done) return EQS_OK;
    EQS_TRY(make_progress(&moved));
    if (moved) {
      looks = 0;
      last_moved = eqs_clock();
    } else {
      if (eqs_clock() - last_moved > eqs_deadline()) return eqs_fail_waiting(what);
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
    EQS_TRY(eqs_wait(&request, what));
  }
cleanup:
  return status;
}

eqs_status eqs_broadcast_block(MPI_Comm comm, void *block, int64_t *bytes, int root, const char *what)
{
  eqs_status status = EQS_OK;
  void *data;
  int rank;
  EQS_TRY(eqs_check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank"));
  EQS_TRY(eqs_broadcast(comm, bytes, sizeof *bytes, root, what));
  EQS_TRY(eqs_agree(comm, rank == root ? EQS_OK : eqs_allocate_raw(block, *bytes, 1)));
  memcpy(&data, block, sizeof data);
  EQS_TRY(eqs_broadcast(comm, data, *bytes, root, what));
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
  EQS_TRY(eqs_wait(&request, what));
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
  EQS_TRY(eqs_wait(&request, what));
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
  eqs_set_deadline(INFINITY); /* if the first rank is lost, mpirun ends the others */
  return eqs_agree(MPI_COMM_WORLD, status);
}
