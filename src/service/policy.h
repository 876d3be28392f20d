/*
 * When a checkpoint is due: after so many steps, so many minutes, at the end of the schedule, or because a signal asks
 * the job to end. What only some rank knows, a signal or the time, all learn of in the next step.
 */
#ifndef EQS_SERVICE_POLICY_H
#define EQS_SERVICE_POLICY_H

#include <stdbool.h>

#include "model/config.h"

typedef struct {
  double last;    /* when the last checkpoint was written, or the session started */
  int64_t wishes; /* of all ranks, as of the last step: bits */
  bool saved;     /* there is a checkpoint of the state as it is */
  bool catches;   /* signals, for this session */
} eqs_policy;

/*
 * Begin, as a session starts: SIGUSR1 and SIGTERM do not end this process any more, where nobody else handles them and
 * checkpoints have a directory, but are a wish to stop; or end it.
 */
void eqs_policy_begin(const eqs_config *config, eqs_policy *policy);
void eqs_policy_end(eqs_policy *policy);

/*
 * In a step: what this rank wishes, as bits below EQS_POLICY_BITS; `keeps_time`: it is the one that looks at the clock.
 * Then what all ranks wish, the disjunction.
 */
enum { EQS_POLICY_BITS = 2 };
int64_t eqs_policy_wish(const eqs_config *config, eqs_policy *policy, bool keeps_time);
void eqs_policy_hear(eqs_policy *policy, int64_t wishes);

/* A checkpoint is written. */
void eqs_policy_saved(eqs_policy *policy);

/* After a step, the same on all ranks: whether a checkpoint is due; whether the job is to stop. */
bool eqs_policy_due(const eqs_config *config, const eqs_policy *policy, const eqs_step_info *info);
bool eqs_policy_stops(const eqs_policy *policy);

#endif
