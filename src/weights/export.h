/* Weights out of a checkpoint, for other programs. */
#ifndef EQS_WEIGHTS_EXPORT_H
#define EQS_WEIGHTS_EXPORT_H

#include "weights/weights.h"

/*
 * Write the weights of a checkpoint as a safetensors file, in alphabetical order, tile by tile; every tile's checksum
 * is verified. The file is written beside its name and renamed: it is there whole or not at all.
 *
 * checkpoint  [in]  as in eqs_checkpoint_find
 * dtype       [in]  of all tensors in the file; rounded to nearest, ties to even
 * saturate    [in]  whether finite numbers that would become infinite become the largest of dtype; else they are an
 * error
 *
 * Not collective. EQS_IO; EQS_DAMAGED: the message names tensor and rows; EQS_USAGE: no weight is chosen, a name that
 * safetensors cannot hold, a number that dtype cannot, or `output` is the checkpoint.
 */
eqs_status eqs_weights_export(const char *checkpoint, const char *output, eqs_dtype dtype,
                              const eqs_name_choice *choice, bool saturate, eqs_weights_moved *moved);

#endif
