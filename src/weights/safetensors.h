/*
 * Safetensors, the file format in which weights are passed on: 8 bytes with the length of the header (little-endian),
 * the header in JSON, and the tensors' bytes, row-major, without gaps:
 *
 *     {"__metadata__": {"format": "pt", ...}, "<name>": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
 * ...}
 *
 * Offsets count from the header's end. Nothing here is collective.
 */
#ifndef EQS_WEIGHTS_SAFETENSORS_H
#define EQS_WEIGHTS_SAFETENSORS_H

#include <stdbool.h>

#include "base/status.h"

enum { EQS_SAFETENSORS_HEADER = 100 * 1000 * 1000 }; /* bytes of the longest header that readers take */

typedef struct {
  char *name;
  const char *dtype; /* "F32"; static */
  int ndim;
  int64_t shape[EQS_MAX_DIMS];
  int64_t elements, bytes;
  int64_t offset; /* of its bytes in the file */
} eqs_safetensor;

typedef struct {
  int64_t tensors;
  eqs_safetensor *tensor; /* in the order of their bytes */
} eqs_safetensors;

/*
 * Read the header of an open file, which is not trusted: all that a header can get wrong is checked, and nothing is
 * allocated before its size is compared with the file's.
 *
 * size     [in]  of the file in bytes
 * content  [out] free with eqs_safetensors_free
 *
 * Names may be such as a checkpoint cannot have (eqs_check_parameter_name).
 *
 * EQS_IO. EQS_DAMAGED: not such a file; the header's length, form, nesting or number of values; a name twice; a dtype,
 * shape or offsets that are none, contradict each other or lead out of the file; tensors that overlap or leave gaps; a
 * tensor that a checkpoint cannot hold. EQS_USAGE: a file of torch.save; the message has the command that converts it.
 */
eqs_status eqs_safetensors_read(int file, const char *path, int64_t size, eqs_safetensors *content);
void eqs_safetensors_free(eqs_safetensors *content);

/* The dtype of safetensors for one of ours; back, where a tensor has floating-point numbers that float32 can take. */
const char *eqs_safetensors_dtype(eqs_dtype dtype);
bool eqs_safetensors_floats(const eqs_safetensor *tensor);
eqs_dtype eqs_safetensors_trainer_dtype(const eqs_safetensor *tensor); /* float32 for F64 */

/*
 * A tensor with eqs_safetensors_floats as float32: exact, but for F64, which is rounded to nearest.
 *
 * saturated  [in, out] NULL: a number of F64 that float32 would make infinite is an error; else it becomes the largest
 *                      of float32, and counts here
 *
 * EQS_IO, EQS_DAMAGED; EQS_USAGE: such a number.
 */
eqs_status eqs_safetensors_load(int file, const char *path, const eqs_safetensor *tensor, int64_t *saturated,
                                float *values);

/*
 * The beginning of a file up to the first tensor's bytes, a multiple of 8 bytes.
 *
 * content  [in, out] names, dtypes and shapes; on return with elements, bytes and offsets
 * step     [in]      goes into the metadata
 * head     [out]     allocated
 * length   [out]     of head in bytes
 *
 * EQS_USAGE: a name that is not UTF-8, or "__metadata__"; more tensors than a header can name.
 */
eqs_status eqs_safetensors_make_head(eqs_safetensors *content, int64_t step, char **head, int64_t *length);

#endif
