/* How the values of two checkpoints' tensors differ. */
#ifndef EQS_CHECKPOINT_TENSOR_DIFFERENCE_H
#define EQS_CHECKPOINT_TENSOR_DIFFERENCE_H

#include "checkpoint/contents.h"

/* A tensor that both have, in one shape. */
typedef struct {
  const char *parameter, *tensor; /* the first one's */
  int64_t elements;
  int64_t differing;  /* elements of different bits */
  int64_t not_finite; /* of these: NaN or infinite on a side; norms are over elements that are finite on both */
  double largest;     /* max |a - b| */
  double relative;    /* ||a - b|| / ||b||, Frobenius norms; infinite if b is zero, 0 if a - b is */
} eqs_tensor_difference;

/*
 * Compare all tensors that two checkpoints both have, in one shape, tile by tile; every tile's checksum is verified.
 * Norms accumulate in float64.
 *
 * file_a, file_b  [in]  as eqs_checkpoint_find gives them
 * a, b            [in]  what eqs_contents_read says of them
 * count           [out]
 * difference      [out] allocated; by parameter, then by tensor name
 *
 * Not collective. EQS_IO; EQS_DAMAGED: the message names the tensor and the rows.
 */
eqs_status eqs_tensor_differences(const char *file_a, const eqs_checkpoint_contents *a, const char *file_b,
                                  const eqs_checkpoint_contents *b, int64_t *count, eqs_tensor_difference **difference);

#endif
