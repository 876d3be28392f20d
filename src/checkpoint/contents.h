/*
 * What is in a checkpoint: one model of it, for what is to be written and for what a file was found to have.
 *
 * A checkpoint is one HDF5 file, the same bytes (the attribute `created` aside) whatever ranks and grids wrote it:
 *
 *     /                               attributes: format = "equishard-checkpoint", format_version, step, skipped,
 *                                     created, equishard_version, config, complete = 1
 *     /parameters/<name>              attributes of the parameter
 *     /parameters/<name>/<tensor>     weight (attribute trainer_dtype), momentum, exp_avg, exp_avg_sq: float32
 *     /trainer/<key>                  bytes
 *     /integrity                      attribute metadata: XXH3-64 of all the above but tensors' values and `created`
 *     /integrity/tiles                XXH3-64 of every tile, a range of rows that depends on the shape alone: by
 *                                     parameter, tensor, rows
 *     /integrity/index                all of the above but tensors' values and `created` (checkpoint/index.h)
 *
 * Files of format_version 1 can be read as well; they have /integrity/<name>/<tensor> and no index. Which byte is where
 * is in checkpoint/image.h.
 */
#ifndef EQS_CHECKPOINT_CONTENTS_H
#define EQS_CHECKPOINT_CONTENTS_H

#include <stdbool.h>

#include "base/attribute.h"
#include "dist/fragment.h"

#define EQS_CHECKPOINT_FORMAT "equishard-checkpoint"
enum { EQS_MAX_TENSORS = 4, EQS_CHECKPOINT_VERSION = 2 };

/* A piece of the trainers' own data. */
typedef struct {
  const char *key;
  const void *bytes;
  size_t size;
} eqs_checkpoint_item;

/* A matrix of a tensor, sharded over the owners. */
typedef struct {
  const eqs_view *view;
  eqs_distribution distribution;
  int first_owner; /* rank in the owners' communicator of the grid's (0, 0); the grid as in dist/grid.h */
  float *shard;    /* of this rank; NULL where it is not a member of the grid */
} eqs_tensor_matrix;

/* A float32 tensor of a parameter, in the parameter's shape: where it is in a file, or in memory, or both. */
typedef struct {
  const char *name;
  int64_t offset, checksums; /* in the file: of its elements, of its tiles' checksums; 0 if it has no elements */
  int64_t matrices;          /* in memory: together they cover every element once */
  const eqs_tensor_matrix *matrix;
} eqs_checkpoint_tensor;

typedef struct {
  const char *name;
  eqs_dtype trainer_dtype;
  int ndim;
  int64_t shape[EQS_MAX_DIMS];
  int attributes;
  const eqs_attribute *attribute; /* role, rule, step, and the hyper-parameters in force */
  int tensors;
  eqs_checkpoint_tensor tensor[EQS_MAX_TENSORS]; /* one of them is "weight" */

  /* of a model into which a file is restored */
  bool frozen; /* the file need not have it */
  int64_t aliases;
  char *const *alias; /* other names under which the file may have it */
} eqs_checkpoint_parameter;

/*
 * Whoever describes what is to be written fills in step, skipped, config, parameters and items, all borrowed and in any
 * order. What was read or sorted is in alphabetical order: parameters, their attributes and tensors, items. It owns its
 * memory: eqs_contents_free.
 */
typedef struct {
  int64_t step, skipped;
  const char *config;
  int64_t parameters;
  eqs_checkpoint_parameter *parameter;
  int items; /* the trainers' data; to be written: of the first owner only */
  const eqs_checkpoint_item *item;

  /* of a file */
  int64_t version;
  const char *created, *equishard_version;
  bool changed; /* by another program: what is in it is whole, but not every byte is as we write it */

  int64_t allocations; /* memory that belongs to it */
  void **allocation;
} eqs_checkpoint_contents;

void eqs_contents_free(eqs_checkpoint_contents *contents);

/* Allocated memory belongs to the contents from now on, and after a failure is freed. EQS_FAILED. */
eqs_status eqs_contents_own(eqs_checkpoint_contents *contents, void *memory);

/* Zeroed memory that belongs to the contents: `pointer` is a `T **`. EQS_FAILED. */
eqs_status eqs_contents_allocate(eqs_checkpoint_contents *contents, void *pointer, int64_t count, size_t size);

/*
 * The same contents in alphabetical order, as they are in a file of today's version. Names, texts, bytes and shards are
 * borrowed from `given`.
 *
 * EQS_USAGE: a parameter, tensor, attribute or item has a name that HDF5 cannot hold as one link, or that another has;
 * a parameter has no weight, too many tensors, matrices of another shape, or is too large. After a failure nothing is
 * to be freed.
 */
eqs_status eqs_contents_sort(const eqs_checkpoint_contents *given, eqs_checkpoint_contents *sorted);

/* EQS_USAGE: a name that a link in a file cannot have, or that is longer than 4000 bytes; `what` it names. */
eqs_status eqs_check_name(const char *what, const char *name);

/* The parameter of a name in sorted contents; NULL: there is none. */
const eqs_checkpoint_parameter *eqs_contents_find(const eqs_checkpoint_contents *contents, const char *name);

bool eqs_parameter_has_shape(const eqs_checkpoint_parameter *parameter, int ndim, const int64_t *shape);

/* NULL: there is none. */
const eqs_checkpoint_tensor *eqs_parameter_find_tensor(const eqs_checkpoint_parameter *parameter, const char *name);

/* The steps taken, by the attribute `step`; 0 without it. */
int64_t eqs_parameter_step(const eqs_checkpoint_parameter *parameter);

/*
 * Rows and columns of a tensor: the product of all dimensions but the last, and the last; n × 1 if it has one
 * dimension. False if the number of bytes overflows.
 */
bool eqs_tensor_rows_cols(int ndim, const int64_t *shape, int64_t *rows, int64_t *cols);

#endif
