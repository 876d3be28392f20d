/* The end of a process whose language does not tell the library how it ends (Python's exit status is known to nobody).
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "dist/communicator.h"
#include "service/session.h"

static struct {
  bool registered, finalize;
  MPI_Comm comm;
  pid_t process; /* whose end it is: a process forked from it inherits the handler */
  int status;    /* that counts instead of the process's; -1: none */
} ending = {.status = -1};

static bool mpi_runs(void)
{
  int initialized, finalized;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  return initialized && !finalized;
}

/* Close what is open; other ranks may fail in it, too. */
static eqs_status close_sessions(void)
{
  eqs_status status = EQS_OK;
  eqs_session *session = eqs_session_open_one();
  while (session != NULL && status == EQS_OK) {
    status = eqs_session_close(&session);
    session = eqs_session_open_one();
  }
  return status;
}

static void end_process(int process_status, void *unused)
{
  (void)unused;
  int status = ending.status >= 0 ? ending.status : process_status;
  if (getpid() != ending.process || !mpi_runs()) return;
  if (status == 0) status = (int)close_sessions();
  if (status != 0) {
    /* This rank gives up while the others may go on. An exit status has 8 bits; a failure is never 0. */
    MPI_Abort(ending.comm, status % 256 != 0 ? status % 256 : EQS_FAILED);
    _exit(status % 256 != 0 ? status % 256 : EQS_FAILED);
  }
  if (ending.finalize) MPI_Finalize();
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
