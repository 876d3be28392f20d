/* Whole tensors and the shards that an owner has of them. */
#ifndef EQS_OPTIMIZER_SHARDS_H
#define EQS_OPTIMIZER_SHARDS_H

#include "optimizer/optimizer.h"

typedef enum { EQS_SHARDS_WEIGHT, EQS_SHARDS_GRADIENT } eqs_shards_kind;

/*
 * Take this owner's shards of parameter p out of a whole tensor: its weight, or its gradient for the next step.
 *
 * tensor  [in] float32, row-major, of the parameter's shape
 *
 * Not collective.
 */
eqs_status eqs_shards_take(eqs_optimizer *optimizer, int64_t p, eqs_shards_kind kind, const float *tensor);

#endif
