/* A checkpoint to start from, with the weights of other programs. */
#ifndef EQS_WEIGHTS_IMPORT_H
#define EQS_WEIGHTS_IMPORT_H

#include <mpi.h>

#include "weights/weights.h"

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
