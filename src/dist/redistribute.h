/* Moving matrices between process grids and block sizes. */
#ifndef EQS_DIST_REDISTRIBUTE_H
#define EQS_DIST_REDISTRIBUTE_H

#include "dist/matrix.h"

/*
 * Move a matrix to another distribution, on the same or another grid of the same owners.
 *
 * owners  [in] communicator that contains both grids (the owners'); every one of its ranks takes part
 * from    [in] on members of its grid; elsewhere only grid, distribution and element are read
 * to      [out] likewise; the element types may differ
 *
 * Collective over owners.
 */
eqs_status eqs_matrix_redistribute(MPI_Comm owners, const eqs_matrix *from, eqs_matrix *to);

#endif
