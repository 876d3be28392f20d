/* The settings of a parameter group, and the keys of the configuration that give them: one table. */
#ifndef EQS_MODEL_GROUP_KEY_H
#define EQS_MODEL_GROUP_KEY_H

#include "model/match.h"
#include "model/schedule.h"
#include "model/yaml.h"
#include "rules/rule.h"

/* One entry of `groups`. */
typedef struct {
  eqs_match *match;
  const char *file; /* borrowed from the configuration */
  int line;
  double lr;
  eqs_rule_options options;
  eqs_polar_lists *lists; /* what options.lists borrows; NULL if not given */
  bool center_given;
  bool layout_given;
  bool layout_unfused, layout_auto; /* `layout: unfused`, `auto`: the role's, with fused matrices, or all, split */
  eqs_tensor_layout layout;         /* if layout_given, else the role's */
  int64_t head_dim;                 /* 0 if not given */
  eqs_split split;                  /* no pieces if not given */
  int grid_rows, grid_cols;         /* 0 if not given */
  int64_t row_block, col_block;     /* 0 if not given */
  eqs_schedule schedule;            /* the configuration's if not given */
} eqs_group_config;

/* In the order in which they are read. */
typedef enum {
  EQS_GROUP_MOMENTUM,
  EQS_GROUP_BETA,
  EQS_GROUP_BETAS,
  EQS_GROUP_ALPHA,
  EQS_GROUP_EPS,
  EQS_GROUP_SOLVER,
  EQS_GROUP_STEPS,
  EQS_GROUP_FORM,
  EQS_GROUP_ROW_MODE,
  EQS_GROUP_ORDER,
  EQS_GROUP_SIDE,
  EQS_GROUP_CENTER,
  EQS_GROUP_SCALE,
  EQS_GROUP_NU_SCOPE,
  EQS_GROUP_LAYOUT,
  EQS_GROUP_EPS_MODE,
  EQS_GROUP_RESTARTS,
  EQS_GROUP_COEFFICIENTS,
  EQS_GROUP_NORMALISATION,
  EQS_GROUP_MATCH,
  EQS_GROUP_RULE,
  EQS_GROUP_LR,
  EQS_GROUP_WEIGHT_DECAY,
  EQS_GROUP_HEAD_DIM,
  EQS_GROUP_SPLIT,
  EQS_GROUP_GRID,
  EQS_GROUP_BLOCK,
  EQS_GROUP_SCHEDULE,
  EQS_GROUP_KEYS
} eqs_group_key_index;

typedef struct eqs_group_key eqs_group_key;

struct eqs_group_key {
  const char *name, *about;
  const char *form; /* of the value, for documents */
  unsigned needs;   /* EQS_KEY_...: the group's rule must have it; 0: all rules have the key */

  /* Check the value and take it. NULL: match and rule, which are read before the others. */
  eqs_status (*read)(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group);

  /* The value's text in a group whose options are those of its rule. NULL: none, or it follows from other things. */
  void (*write)(const eqs_group_key *key, const eqs_group_config *group, char *text, size_t size);

  size_t offset;             /* of the value in eqs_group_config, for readers and writers of one number or name */
  const char *const *choice; /* names that it can be; NULL: it is no name */
  int choices;
  eqs_yaml_range range;     /* of a number */
  int64_t minimum, maximum; /* of a whole number */
};

/* Indexed by eqs_group_key_index. */
extern const eqs_group_key eqs_group_keys[EQS_GROUP_KEYS];

/* Keys of `split`, where it is a mapping. */
enum { EQS_SPLIT_KEYS = 2 };
extern const char *const eqs_split_keys[EQS_SPLIT_KEYS];

/* Whether groups of a rule have a key. */
bool eqs_group_key_used(const eqs_rule *rule, eqs_group_key_index key);

/* The text of a key's default in groups of a rule; false: it has none, or one that follows from the parameter. */
bool eqs_group_key_default(const eqs_rule *rule, eqs_group_key_index key, char *text, size_t size);

#endif
