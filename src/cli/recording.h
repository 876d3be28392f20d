/*
 * Recorded weights and gradients in HDF5, for `equishard replay`. Other programs wrote them: they are looked at in
 * sandboxes, no link is followed, and no tensor is larger than what the file stores of it.
 */
#ifndef EQS_CLI_RECORDING_H
#define EQS_CLI_RECORDING_H

#include <stdbool.h>

#include "base/status.h"

typedef struct {
  char *name;   /* without the segments of wrappers (model/wrappers.h) */
  char *stored; /* as the file has it */
  int ndim;
  int64_t shape[EQS_MAX_DIMS];
  int64_t offset; /* of the weight in the file, if weights_are_plain */
} eqs_recorded;

typedef struct {
  char *path;
  int64_t parameters;
  eqs_recorded *parameter; /* in alphabetical order of name */
  int64_t steps;
  bool weights_are_plain; /* every weight is float32 of this machine in one piece: nothing but bytes of the file */
} eqs_recording;

/*
 * Open a recording: /parameters/<name>/weight, /gradients/<t>/<name> for t = 0 ... steps - 1. Not collective.
 * EQS_IO: missing; EQS_DAMAGED: not such a file; EQS_USAGE: two parameters have one name but for wrappers.
 */
eqs_status eqs_recording_open(const char *path, eqs_recording *recording);
void eqs_recording_close(eqs_recording *recording);

/* What is done with a tensor, as float32; NULL: this step has no gradient for the parameter, or it is not wanted. */
typedef eqs_status (*eqs_recording_use)(void *context, int64_t parameter, bool present, const float *tensor);

/*
 * Read tensors of all parameters in order: the weights (t = -1) or the gradients of step t.
 *
 * wanted  [in] by parameter: of the others it is only found out whether they are present
 *
 * EQS_USAGE: a gradient's shape is not its weight's. EQS_DAMAGED: it cannot be read. EQS_IO. And what `use` fails with.
 */
eqs_status eqs_recording_read(const eqs_recording *recording, int64_t t, const bool *wanted, eqs_recording_use use,
                              void *context);

#endif
