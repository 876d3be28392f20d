/* What differs between two checkpoints. */
#ifndef EQS_CLI_COMPARISON_H
#define EQS_CLI_COMPARISON_H

#include <stdbool.h>

#include "checkpoint/difference.h"

enum { EQS_SIDES = 2 }; /* A and B */

/* What only one of them has. */
typedef struct {
  const char *parameter, *tensor; /* NULL: the whole parameter */
} eqs_single;

typedef struct {
  const eqs_checkpoint_entry *side[EQS_SIDES];
} eqs_entry_pair;

typedef struct {
  const char *parameter, *name;
  const eqs_attribute *side[EQS_SIDES]; /* NULL where it does not have it */
} eqs_attribute_pair;

typedef struct {
  char *file[EQS_SIDES];
  eqs_checkpoint_summary summary[EQS_SIDES];
  int64_t singles[EQS_SIDES], reshapes, attributes, items;
  eqs_single *single[EQS_SIDES];
  eqs_entry_pair *reshaped;
  eqs_attribute_pair *attribute;
  const char **item;   /* keys of the trainer's data */
  int64_t tensors;     /* that one of them has */
  int64_t differing;   /* tensors that do not have the same bits in both */
  int64_t config_line; /* the first that differs; 0 if none */
  int64_t values;
  eqs_tensor_difference *value; /* tensors that both have in one shape; the largest difference first */
} eqs_comparison;

/*
 * Compare two checkpoints, a path as eqs_checkpoint_find takes it each, values and all. `found` is zeroed at first;
 * free with eqs_comparison_free, after a failure too. Not collective. EQS_IO, EQS_DAMAGED.
 */
eqs_status eqs_comparison_make(const char *path_a, const char *path_b, eqs_comparison *found);
void eqs_comparison_free(eqs_comparison *found);

/* Whether nothing differs but the time of writing and the version of the program that wrote. */
bool eqs_comparison_same(const eqs_comparison *found);

#endif
