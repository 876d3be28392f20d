/* One entry of `groups`: its keys, what it inherits from `defaults`, and what cannot be had together. */
#ifndef EQS_MODEL_GROUP_H
#define EQS_MODEL_GROUP_H

#include "model/config.h"
#include "model/yaml.h"

/* Keys of a group: those of eqs_rule_key_names, by the bit of EQS_KEY_..., then those that all rules have. */
enum {
  EQS_GROUP_SOLVER = 5,
  EQS_GROUP_STEPS = 6,
  EQS_GROUP_LAYOUT = 14,
  EQS_GROUP_COEFFICIENTS = 17,
  EQS_GROUP_NORMALISATION = 18,
  EQS_GROUP_MATCH = EQS_KEYS,
  EQS_GROUP_RULE,
  EQS_GROUP_LR,
  EQS_GROUP_WEIGHT_DECAY,
  EQS_GROUP_HEAD_DIM,
  EQS_GROUP_SPLIT,
  EQS_GROUP_GRID,
  EQS_GROUP_BLOCK,
  EQS_GROUP_SCHEDULE,
  EQS_GROUP_KEYS
};

/* What a group, or `defaults`, gives for each key; nodes are NULL where it gives nothing. */
typedef struct {
  eqs_yaml_value value[EQS_GROUP_KEYS];
} eqs_group_keys;

/*
 * Add the keys of a `defaults` mapping; those that are there already stay (the including file's win). Every value
 * is checked.
 */
eqs_status eqs_group_read_defaults(eqs_yaml_value value, eqs_group_keys *defaults);

/*
 * Read a group.
 *
 * value     [in]
 * defaults  [in]  for the keys that the group does not give itself; those that its rule does not use are left out
 * schedule  [in]  the configuration's
 * group     [out] free with eqs_group_free, after a failure too
 */
eqs_status eqs_group_read(eqs_yaml_value value, const eqs_group_keys *defaults, const eqs_schedule *schedule,
                          eqs_group_config *group);
void eqs_group_free(eqs_group_config *group);

/* `schedule`: a mapping, or the word constant. */
eqs_status eqs_schedule_read(eqs_yaml_value value, eqs_schedule *schedule);

#endif
