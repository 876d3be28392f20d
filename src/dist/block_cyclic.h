/*
 * The block-cyclic distribution: arithmetic only. Along one dimension, indices 0 ... n-1 are dealt in
 * blocks to `procs` processes in turn, the first block to process 0 (ScaLAPACK's with RSRC = 0).
 */
#ifndef EQS_DIST_BLOCK_CYCLIC_H
#define EQS_DIST_BLOCK_CYCLIC_H

#include <stdint.h>

/* How many of the indices 0 ... n-1 process `coord` has (ScaLAPACK's NUMROC). */
int64_t eqs_local_count(int64_t n, int64_t block, int coord, int procs);

/* The global index of local index `local` of process `coord`. */
int64_t eqs_global_index(int64_t local, int64_t block, int coord, int procs);

/* The process that has a global index, and where. */
int eqs_index_owner(int64_t global, int64_t block, int procs);
int64_t eqs_local_index(int64_t global, int64_t block, int procs);

/* A rows × cols matrix over a grid_rows × grid_cols grid. No rank of its own. */
typedef struct {
  int64_t rows, cols;
  int64_t row_block, col_block;
  int grid_rows, grid_cols;
} eqs_distribution;

#endif
