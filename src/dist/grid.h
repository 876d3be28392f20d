/*
 * Process grids: rectangles of consecutive ranks of the owners' communicator, row by row: the rank at
 * (row, col) is first + row * cols + col. Grids are cached, because each costs communicators.
 */
#ifndef EQS_DIST_GRID_H
#define EQS_DIST_GRID_H

#include <mpi.h>
#include <stdbool.h>

#include "base/status.h"
#include "dist/team.h"

typedef struct {
  MPI_Comm owners; /* borrowed; its context (dist/context.h) is the grid's */
  int first;       /* rank in `owners` of the grid's (0, 0) */
  int rows, cols;
  int row, col;      /* of this rank; -1 if it is not a member */
  MPI_Comm comm;     /* of the members, rank row * cols + col; MPI_COMM_NULL if not a member or 1×1 */
  MPI_Comm row_comm; /* members of this rank's grid row, ranked by col; likewise */
  MPI_Comm col_comm; /* members of this rank's grid column, ranked by row; likewise */
  int context;       /* BLACS context of the transposed grid (cols × rows), where BLACS's (col, row) is
                        our (row, col): a row-major matrix is the column-major transpose. -1 as above */
  eqs_team *team;    /* of the members; NULL if not a member */
} eqs_grid;

typedef struct eqs_grid_cache eqs_grid_cache;

/* owners is borrowed. Not collective. */
eqs_status eqs_grid_cache_create(MPI_Comm owners, eqs_grid_cache **cache);

/* The rank of this process among the owners. */
int eqs_grid_cache_rank(const eqs_grid_cache *cache);

/* Frees all grids. Collective over the owners. Sets *cache to NULL. */
void eqs_grid_cache_destroy(eqs_grid_cache **cache);

/*
 * The grid of the ranks first ... first + rows * cols - 1.
 *
 * grid  [out] valid until the cache is destroyed; on ranks outside it a grid with row = col = -1
 *
 * Collective over the grid's members (others may call it too, or not). Members must make their
 * grids in an order without cycles: that of the plan.
 */
eqs_status eqs_grid_get(eqs_grid_cache *cache, int first, int rows, int cols, const eqs_grid **grid);

/* Count this rank's share of the floating-point operations of a call on a grid. */
void eqs_count_grid_flops(const eqs_grid *grid, double flops);

/* Whether this rank is a member. */
bool eqs_grid_member(const eqs_grid *grid);

#endif
