/* Counting the work of this room's products, and what they send. */
#ifndef EQS_DIST_FLOPS_H
#define EQS_DIST_FLOPS_H

#include "dist/grid.h"

/* Add this rank's share of the floating-point operations of a call on a grid. */
void eqs_count_flops(const eqs_grid *grid, double flops);

/* Add the operations of a call of this rank alone. */
void eqs_count_own_flops(double flops);

/* Add messages of this rank to others. */
void eqs_count_messages(int64_t messages, int64_t bytes);

#endif
