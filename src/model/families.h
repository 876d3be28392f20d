/* The names and module classes of the model families that are known: one table. */
#ifndef EQS_MODEL_FAMILIES_H
#define EQS_MODEL_FAMILIES_H

#include "model/role.h"

/* Where in the model a name counts. */
typedef enum {
  EQS_ANYWHERE,
  EQS_OUTSIDE_OF_LAYERS, /* no part of the name is a number */
  EQS_THREE_DIMENSIONS,  /* of tensors of three dimensions or more */
  EQS_MANY_ROWS,         /* of matrices that have more than twice as many rows as columns */
  EQS_MORE_COLUMNS,      /* of matrices that have more columns than rows */
  EQS_ONE_ROW,           /* of matrices of one row */
} eqs_where;

/*
 * What a name or a class says. Names are globs ('*' spans dots) of the module's path: in small letters, with a dot in
 * front, without the prefixes of wrappers and the final ".weight" or ".kernel": ".model.layers.0.mlp.gate". Classes are
 * globs whose case matters. NULL: not looked at.
 */
typedef struct {
  const char *name, *module_type;
  eqs_role role;
  eqs_inside inside;
  eqs_where where;
} eqs_family_pattern;

/* The first that matches counts. */
extern const eqs_family_pattern eqs_family_patterns[];
extern const int eqs_family_pattern_count;

#endif
