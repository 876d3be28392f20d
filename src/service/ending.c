#include "service/ending.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "dist/communicator.h"
#include "service/call.h"

enum {
  patience = 2, /* seconds that the first rank has to end the job, as those of `equishard serve` */
  give_up = 20, /* seconds that a process which has failed waits for the others in MPI_Finalize */
};

static struct {
  bool registered, finalize;
  MPI_Comm comm;
  pid_t process; /* whose end it is: a process forked from it inherits the handler */
  int status;    /* that counts instead of the process's; -1: none */
} ending = {.comm = MPI_COMM_WORLD, .status = -1};

static bool mpi_runs(void)
{
  int initialized, finalized;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  return initialized && !finalized;
}

/* An exit status has 8 bits; a failure is never 0. */
static int exit_code(int status)
{
  return status == 0 || status % 256 != 0 ? status & 255 : EQS_FAILED;
}

static void abort_job(int status)
{
  MPI_Abort(ending.comm, exit_code(status));
  _exit(exit_code(status));
}

/* All ranks have failed alike: the first ends the job, the others only if it does not. */
static void abort_together(int status)
{
  int rank;
  MPI_Comm_rank(ending.comm, &rank);
  if (rank != 0) sleep(patience);
  abort_job(status);
}

/* Close the sessions that are open. One that fails in this ends the job, on all its ranks. Collective. */
static void end_sessions(void)
{
  eqs_session *session;
  while ((session = eqs_session_open_one()) != NULL) {
    eqs_status status = eqs_session_end(&session);
    if (status != EQS_OK) abort_together(status);
  }
}

/* MPI_Finalize of a trainer begins, which its program or another library has called. */
static int end_trainer(MPI_Comm self, int keyval, void *value, void *extra)
{
  (void)self, (void)keyval, (void)value, (void)extra;
  end_sessions();
  eqs_rendezvous_end();
  return MPI_SUCCESS;
}

/* MPI_Finalize deletes the attributes of MPI_COMM_SELF first, while all else still works (MPI 3.1, 8.7.1). */
eqs_status eqs_watch_finalize(void)
{
  static int watched = MPI_KEYVAL_INVALID;
  eqs_status status = EQS_OK;
  int keyval;
  if (watched != MPI_KEYVAL_INVALID) return EQS_OK;
  EQS_TRY(eqs_check_mpi(MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, end_trainer, &keyval, NULL),
                        "MPI_Comm_create_keyval"));
  EQS_TRY(eqs_check_mpi(MPI_Comm_set_attr(MPI_COMM_SELF, keyval, NULL), "MPI_Comm_set_attr"));
  watched = keyval;
cleanup:
  return status;
}

static void *leave_late(void *status)
{
  sleep(*(int *)status == 0 ? (unsigned)ceil(fmin(eqs_job_deadline(), 1e9)) : give_up);
  if (*(int *)status == 0)
    eqs_log(
        EQS_LOG_ERROR,
        "this rank has come to its end; timed out after %g s waiting for the other ranks to end: they go on, or one "
        "is lost, or `deadline` is too short",
        eqs_job_deadline());
  fflush(NULL);
  _exit(*(int *)status == 0 ? EQS_PEER_LOST : exit_code(*(int *)status));
}

/* MPI_Finalize waits for all ranks: those that go on, to their end; one that is lost never comes. */
static void finalize(int status)
{
  static int with;
  pthread_t watchdog;
  with = status;
  bool watched = pthread_create(&watchdog, NULL, leave_late, &with) == 0;
  MPI_Finalize();
  if (watched && pthread_cancel(watchdog) == 0) pthread_join(watchdog, NULL);
}

static void end_process(int process_status, void *unused)
{
  (void)unused;
  int status = ending.status >= 0 ? ending.status : process_status;
  if (getpid() != ending.process || !mpi_runs()) return;
  if (status == 0) {
    end_sessions();
  } else if (eqs_session_open_one() != NULL) {
    abort_job(status); /* this rank gives up while the others go on */
  }
  if (ending.finalize) finalize(status);
  if (exit_code(status) == (process_status & 255)) return; /* other handlers are to run */
  fflush(NULL);
  _exit(exit_code(status));
}

eqs_status eqs_end_job_at_exit(MPI_Comm comm, int finalize)
{
  ending.comm = comm;
  ending.finalize = finalize != 0;
  ending.process = getpid();
  if (ending.registered) return EQS_OK;
  ending.registered = on_exit(end_process, NULL) == 0;
  return ending.registered ? EQS_OK : eqs_fail(EQS_FAILED, "on_exit failed: the end of the process cannot be seen to");
}

void eqs_exit_status(int status)
{
  ending.status = status;
}
