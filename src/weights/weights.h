/* Weights in and out: between checkpoints and the files (safetensors) in which models are passed on. */
#ifndef EQS_WEIGHTS_WEIGHTS_H
#define EQS_WEIGHTS_WEIGHTS_H

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

#endif
