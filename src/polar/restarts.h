/* Where the Gram form of an evaluation restarts. */
#ifndef EQS_POLAR_RESTARTS_H
#define EQS_POLAR_RESTARTS_H

#include "polar/solver.h"

/* The restarts of one evaluation, step by step. */
typedef struct {
  const eqs_polar_options *options;
  double limit, gain;
  int listed; /* how many of the restarts that the options list are behind */
} eqs_restarts;

eqs_restarts eqs_restarts_begin(const eqs_polar_options *options);

/* Whether it restarts before step 0, 1, ...; called for every step, in order. */
bool eqs_restarts_before(eqs_restarts *restarts, int step);

/* How often it restarts. */
int eqs_restart_count(const eqs_polar_options *options);

#endif
