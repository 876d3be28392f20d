/* Weights in and out: between checkpoints and the files (safetensors) in which models are passed on. */
#ifndef EQS_CHECKPOINT_WEIGHTS_H
#define EQS_CHECKPOINT_WEIGHTS_H

#include <mpi.h>
#include <stdbool.h>

#include "base/status.h"

/*
 * Which names are taken: those that match one of the globs (all, if there are none), and none of the others. Names and
 * globs are without the segments of wrappers (model/wrappers.h), in the files that are made too.
 */
typedef struct {
  int matches, excludes;
  const char **match, **exclude;
} eqs_name_choice;

bool eqs_name_chosen(const eqs_name_choice *choice, const char *name);

/* What has been moved. */
typedef struct {
  int64_t tensors, elements, bytes; /* bytes of the tensors in the safetensors files */
  int64_t saturated;                /* elements that were too large and became the largest number */
  int64_t step;                     /* of the checkpoint */
} eqs_weights_moved;

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

/*
 * Write a checkpoint of step 0 with the floating-point tensors of safetensors files, which may be parts of one model,
 * as weights and nothing else: a job that resumes from it starts with them, its optimizer's state at zero. Tensors of
 * integers and of 8 bits or less are left out; the first rank names them in one warning. Files are not trusted.
 *
 * The ranks share the tensors: every one reads its own and holds them in float32, so that together they hold the model
 * once.
 *
 * saturate  [in]  as eqs_safetensors_load
 *
 * Collective over comm. EQS_IO; EQS_DAMAGED: as eqs_safetensors_read; EQS_USAGE: a name in two files, or one that a
 * checkpoint cannot have; no tensor is chosen; a number beyond float32; a file of torch.save; `output` is one of the
 * files.
 */
eqs_status eqs_weights_import(MPI_Comm comm, int files, char *const *file, const char *output,
                              const eqs_name_choice *choice, bool saturate, eqs_weights_moved *moved);

#endif
