/* Telling when ε, and not the direction, decides an update. */
#ifndef EQS_OPTIMIZER_DAMPING_H
#define EQS_OPTIMIZER_DAMPING_H

#include "optimizer/optimizer.h"

/*
 * At the end of a step's updates: the first owner warns, once per parameter, when ε outweighs half of the spectrum (is
 * above the mean eigenvalue of a Gram matrix) or half of the rows that are not zero. Collective over the owners.
 */
eqs_status eqs_damping_tell(eqs_optimizer *optimizer);

#endif
