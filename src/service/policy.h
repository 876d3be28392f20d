/*
 * When a checkpoint is due: after so many steps, so many minutes, at the end of the schedule, or because a signal asks
 * the job to end. What only some rank knows, a signal or the time, all learn of in the next step.
 */
#ifndef EQS_SERVICE_POLICY_H
#define EQS_SERVICE_POLICY_H

#include <mpi.h>
#include <stdbool.h>

#include "model/config.h"

typedef struct {
  double last;    /* when the last checkpoint was written, or the session started */
  int64_t wishes; /* of all ranks, as of the last step: bits */
  MPI_Request request;
  bool saved; /* there is a checkpoint of the state as it is */
} eqs_policy;

/*
 * Begin, as a session starts: SIGUSR1 and SIGTERM do not end this process any more, where nobody else handles them and
 * checkpoints have a directory, but are a wish to stop; or end it.
 */
void eqs_policy_begin(const eqs_config *config, eqs_policy *policy);
void eqs_policy_end(void);

/*
 * In a step: tell all ranks of comm what this one knows; `keeps_time`: it is the one that looks at the clock. The
 * request, if there is one, is to be waited for before the wishes count. Collective over comm.
 */
eqs_status eqs_policy_ask(const eqs_config *config, eqs_policy *policy, MPI_Comm comm, bool keeps_time);

/* A checkpoint is written. */
void eqs_policy_saved(eqs_policy *policy);

/* After a step, the same on all ranks: whether a checkpoint is due; whether the job is to stop. */
bool eqs_policy_due(const eqs_config *config, const eqs_policy *policy, const eqs_step_info *info);
bool eqs_policy_stops(const eqs_policy *policy);

#endif
