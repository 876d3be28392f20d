/*
 * Other names for the parameters of a checkpoint: `checkpoint: {rename: {PATTERN: REPLACEMENT, ...}}`. A pattern is a
 * glob as `match` has it (fnmatch without flags), byte by byte. Every `*` of it captures, the last one what is left and
 * those before it as little as they can; the k-th `*` of the replacement stands for the k-th capture.
 */
#ifndef EQS_MODEL_RENAME_H
#define EQS_MODEL_RENAME_H

#include "model/yaml.h"

typedef struct eqs_renames eqs_renames;

/* Read the mapping. EQS_USAGE: a replacement has more stars than its pattern, or one of them is empty or too long. */
eqs_status eqs_renames_read(eqs_yaml_value value, eqs_renames **renames);

/* Add a rule, the last; *renames is made if it is NULL. EQS_USAGE: as above. */
eqs_status eqs_renames_add(const char *pattern, const char *replacement, eqs_renames **renames);

/* Sets *renames to NULL. */
void eqs_renames_free(eqs_renames **renames);

/*
 * The name by which a parameter is taken, allocated: the first pattern that matches decides, and where none does, or
 * renames is NULL, it is the parameter's own. The segments of wrappers (model/wrappers.h) are no part of names: a
 * pattern matches a name with or without them, and the result has none. The time is at most proportional to
 * the length of the name times those of the patterns, the memory to the name's and the longest replacement's.
 */
eqs_status eqs_renames_apply(const eqs_renames *renames, const char *name, char **renamed);

#endif
