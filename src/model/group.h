/* One entry of `groups`: its keys, what it inherits from `defaults`, and what cannot be had together. */
#ifndef EQS_MODEL_GROUP_H
#define EQS_MODEL_GROUP_H

#include "model/group_key.h"

/* What a group, or `defaults`, gives for each key; nodes are NULL where it gives nothing. */
typedef struct {
  eqs_yaml_value value[EQS_GROUP_KEYS];
} eqs_group_values;

/*
 * Add the keys of a `defaults` mapping; those that are there already stay (the including file's win). Every value
 * is checked.
 */
eqs_status eqs_group_read_defaults(eqs_yaml_value value, eqs_group_values *defaults);

/*
 * Read a group.
 *
 * value     [in]
 * defaults  [in]  for the keys that the group does not give itself; those that its rule does not use are left out
 * schedule  [in]  the configuration's
 * group     [out] free with eqs_group_free, after a failure too
 */
eqs_status eqs_group_read(eqs_yaml_value value, const eqs_group_values *defaults, const eqs_schedule *schedule,
                          eqs_group_config *group);
void eqs_group_free(eqs_group_config *group);

#endif
