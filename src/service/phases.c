#include "service/phases.h"

#include <math.h>
#include <string.h>

#include "dist/communicator.h"
#include "service/outcome.h"
#include "service/progress.h"

/* The side of every phase, and its name. */
static const struct {
  const char *name;
  bool owner;
} phase_table[EQS_PHASES] = {
    [EQS_PHASE_PUSH] = {"trainer push", false},
    [EQS_PHASE_STEP] = {"trainer step", false},
    [EQS_PHASE_PULL] = {"trainer pull", false},
    [EQS_PHASE_WAIT] = {"owner wait", true},
    [EQS_PHASE_RECEIVE] = {"owner receive", true},
    [EQS_PHASE_UPDATE] = {"owner update", true},
    [EQS_PHASE_SEND] = {"owner send", true},
    [EQS_PHASE_HIDDEN] = {"owner hidden", true},
    [EQS_PHASE_CHECKPOINT] = {"owner checkpoint", true},
};

eqs_status eqs_run_phases(eqs_session *session, eqs_phase *phases, int capacity, int *count)
{
  typedef struct {
    double value;
    int rank;
  } located;
  eqs_status status = EQS_OK;
  located mine[2 * EQS_PHASES], most[2 * EQS_PHASES];
  double sums[EQS_PHASES];
  MPI_Comm comm = session->roster.comm;
  MPI_Request requests[2];
  int rank;
  MPI_Comm_rank(comm, &rank);
  for (int k = 0; k < EQS_PHASES; k++) {
    bool has = phase_table[k].owner ? eqs_owns(session) : eqs_trains(session);
    /* the minimum is the maximum of the negative */
    mine[k] = (located){has ? session->seconds[k] : -INFINITY, rank};
    mine[EQS_PHASES + k] = (located){has ? -session->seconds[k] : -INFINITY, rank};
    sums[k] = has ? session->seconds[k] : 0;
  }
  double totals[EQS_PHASES];
  EQS_TRY(eqs_share_outcome(session, eqs_owner_step_deferred(&session->step)));
  EQS_TRY(eqs_check_mpi(MPI_Iallreduce(mine, most, 2 * EQS_PHASES, MPI_DOUBLE_INT, MPI_MAXLOC, comm, &requests[0]),
                        "MPI_Iallreduce"));
  EQS_TRY(eqs_check_mpi(MPI_Iallreduce(sums, totals, EQS_PHASES, MPI_DOUBLE, MPI_SUM, comm, &requests[1]),
                        "MPI_Iallreduce"));
  EQS_TRY(eqs_session_wait(session, &requests[0], "the table of phases"));
  EQS_TRY(eqs_session_wait(session, &requests[1], "the table of phases"));
  if (count != NULL) *count = 0;
  for (int k = 0; k < EQS_PHASES && k < capacity; k++) {
    int ranks = phase_table[k].owner ? session->roster.owners : session->roster.trainers;
    phases[k] = (eqs_phase){.minimum = -most[EQS_PHASES + k].value,
                            .mean = totals[k] / ranks,
                            .maximum = most[k].value,
                            .slowest = most[k].rank};
    strcpy(phases[k].name, phase_table[k].name);
    *count = k + 1;
  }
cleanup:
  return status;
}
