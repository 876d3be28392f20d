/* What differs between two checkpoints: parameters, shapes, attributes, the trainers' data, values. */
#ifndef EQS_CHECKPOINT_DIFFERENCE_H
#define EQS_CHECKPOINT_DIFFERENCE_H

#include "checkpoint/tensor_difference.h"

enum { EQS_COMPARED = 2 }; /* files: A and B */

/* Something that only one of them has. */
typedef struct {
  const char *parameter, *tensor; /* tensor NULL: the whole parameter */
} eqs_only_difference;

typedef struct {
  const eqs_checkpoint_parameter *in[EQS_COMPARED];
} eqs_shape_difference;

typedef struct {
  const char *parameter, *name;
  const eqs_attribute *in[EQS_COMPARED]; /* NULL where it does not have it */
} eqs_attribute_difference;

typedef struct {
  char *file[EQS_COMPARED];
  eqs_checkpoint_contents contents[EQS_COMPARED];
  int64_t only_count[EQS_COMPARED];
  eqs_only_difference *only[EQS_COMPARED]; /* what only A, only B has */
  int64_t shapes, attributes, items;
  eqs_shape_difference *shape;
  eqs_attribute_difference *attribute;
  const char **item;   /* keys of the trainers' data */
  int64_t tensors;     /* that at least one of them has */
  int64_t differing;   /* tensors that do not have the same bits in both */
  int64_t config_line; /* the first that differs; 0 if none */
  int64_t values;
  eqs_tensor_difference *value; /* tensors that both have in one shape; the largest difference first */
} eqs_checkpoint_difference;

/*
 * Compare two checkpoints, each a path as eqs_checkpoint_find takes it, with all values. `found` is zeroed at first;
 * free with eqs_difference_free, after a failure too. Not collective. EQS_IO, EQS_DAMAGED.
 */
eqs_status eqs_difference_find(const char *path_a, const char *path_b, eqs_checkpoint_difference *found);
void eqs_difference_free(eqs_checkpoint_difference *found);

/* Whether nothing differs but the time of writing and the version of the program that wrote. */
bool eqs_difference_none(const eqs_checkpoint_difference *found);

#endif
