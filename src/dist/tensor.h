/*
 * A float32 tensor whose matrices are sharded over the owners: what a checkpoint writes and reads. No more
 * than a description: views and shards are borrowed.
 */
#ifndef EQS_DIST_TENSOR_H
#define EQS_DIST_TENSOR_H

#include "dist/fragment.h"

typedef struct {
  const eqs_view *view;
  eqs_distribution distribution;
  int first_owner; /* rank in the owners' communicator of the grid's (0, 0); the grid as in dist/grid.h */
  float *shard;    /* of this rank; NULL where it is not a member of the grid */
} eqs_tensor_matrix;

typedef struct {
  int64_t rows, cols; /* all dimensions but the last, and the last; n × 1 for one-dimensional tensors */
  int64_t count;
  const eqs_tensor_matrix *matrices; /* together they cover every element once */
} eqs_tensor;

#endif
