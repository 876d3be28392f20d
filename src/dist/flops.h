/* Counting the work that this room asks of BLAS, PBLAS and LAPACK. */
#ifndef EQS_DIST_FLOPS_H
#define EQS_DIST_FLOPS_H

#include "dist/grid.h"

/* Add this rank's share of the floating-point operations of a call on a grid. */
void eqs_count_flops(const eqs_grid *grid, double flops);

/* Add the operations of a call of this rank alone. */
void eqs_count_own_flops(double flops);

#endif
