/* Telling when ε, and not the direction, decides an update. */
#ifndef EQS_OPTIMIZER_DAMPING_H
#define EQS_OPTIMIZER_DAMPING_H

#include "optimizer/optimizer.h"

/*
 * Whether ε outweighs half of the spectrum (is above the mean eigenvalue of a Gram matrix), or half of the rows that
 * are not zero, in this owner's part of a parameter of which it was not told yet. Not collective.
 */
bool eqs_damping_unreported(const eqs_optimizer *optimizer);

/* The first owner warns of those of which that is so in all owners' parts. Collective over the owners. */
eqs_status eqs_report_damping(eqs_optimizer *optimizer);

#endif
