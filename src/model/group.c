#include "model/group.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/match.h"
#include "rules/rules.h"

enum { max_rules = 32 };

static bool is_absent(eqs_yaml_value value)
{
  return value.node == NULL;
}

/* Which key every pair of a mapping is; `where` is what the mapping is, for messages. */
static eqs_status read_keys(eqs_yaml_value value, const char *where, eqs_group_values *keys)
{
  eqs_status status = EQS_OK;
  eqs_yaml_mapping mapping = {0};
  const char *names[EQS_GROUP_KEYS];
  for (int i = 0; i < EQS_GROUP_KEYS; i++) names[i] = eqs_group_keys[i].name;
  *keys = (eqs_group_values){0};
  EQS_TRY(eqs_yaml_read_mapping(value, where, &mapping));
  for (int i = 0; i < mapping.count; i++) {
    int key;
    EQS_TRY(eqs_yaml_key(&mapping.pairs[i], where, names, EQS_GROUP_KEYS, &key));
    keys->value[key] = mapping.pairs[i].value;
  }
cleanup:
  eqs_yaml_mapping_free(&mapping);
  return status;
}

static eqs_status read_rule(eqs_yaml_value value, const eqs_rule **rule)
{
  const char *names[max_rules];
  int count = 0, choice;
  for (; count < max_rules && eqs_rule_at(count) != NULL; count++) names[count] = eqs_rule_at(count)->name;
  eqs_status status = eqs_yaml_read_choice(value, "rule", names, count, &choice);
  if (status == EQS_OK) *rule = eqs_rule_at(choice);
  return status;
}

/* Read the value of one key. The group's rule is known. */
static eqs_status read_value(int key, eqs_yaml_value value, eqs_group_config *group)
{
  return eqs_group_keys[key].read == NULL ? EQS_OK : eqs_group_keys[key].read(&eqs_group_keys[key], value, group);
}

eqs_status eqs_group_read_defaults(eqs_yaml_value value, eqs_group_values *defaults)
{
  eqs_status status = EQS_OK;
  eqs_group_values keys;
  eqs_group_config scratch = {0};
  const eqs_rule *rule;
  EQS_TRY(read_keys(value, "defaults", &keys));
  eqs_yaml_value match = keys.value[EQS_GROUP_MATCH];
  if (!is_absent(match)) return eqs_yaml_fail(match, "defaults apply to all groups: they have no match");
  if (!is_absent(keys.value[EQS_GROUP_RULE])) EQS_TRY(read_rule(keys.value[EQS_GROUP_RULE], &rule));
  for (int key = 0; key < EQS_GROUP_KEYS; key++) {
    if (is_absent(keys.value[key])) continue;
    EQS_TRY(read_value(key, keys.value[key], &scratch));
    if (is_absent(defaults->value[key])) defaults->value[key] = keys.value[key];
  }
cleanup:
  eqs_group_free(&scratch);
  return status;
}

/* The rule, then lr: what every group must have, itself or by `defaults`. */
static eqs_status find_rule(eqs_yaml_value at, const eqs_group_values *keys, const eqs_group_values *defaults,
                            const eqs_rule **rule)
{
  eqs_yaml_value named = keys->value[EQS_GROUP_RULE];
  if (is_absent(named)) named = defaults->value[EQS_GROUP_RULE];
  if (is_absent(named)) return eqs_yaml_fail(at, "the group has no rule");
  if (is_absent(keys->value[EQS_GROUP_LR]) && is_absent(defaults->value[EQS_GROUP_LR]))
    return eqs_yaml_fail(at, "the group has no lr");
  return read_rule(named, rule);
}

static eqs_status refuse_unused(const eqs_group_values *keys, const eqs_rule *rule)
{
  for (int key = 0; key < EQS_GROUP_KEYS; key++)
    if (!is_absent(keys->value[key]) && !eqs_group_key_used(rule, key))
      return eqs_yaml_fail(keys->value[key], "rule %s does not use %s", rule->name, eqs_group_keys[key].name);
  return EQS_OK;
}

/* Whether a group's layout takes heads apart, or may do so. */
static bool has_heads(const eqs_group_config *group)
{
  return group->layout_auto || (group->layout_given && eqs_layout_has_heads(group->layout));
}

static bool is_choice(eqs_yaml_value value, const char *name)
{
  const char *text;
  return !is_absent(value) && eqs_yaml_read_text(value, "a name", &text) == EQS_OK && strcmp(text, name) == 0;
}

/* Take what the group's rule uses of the defaults; head_dim only with heads, coefficients only with solver custom. */
static void inherit(eqs_group_values *keys, const eqs_group_values *defaults, const eqs_rule *rule)
{
  eqs_group_config scratch = {0};
  const eqs_group_values own = *keys;
  for (int key = 0; key < EQS_GROUP_KEYS; key++)
    if (is_absent(keys->value[key]) && eqs_group_key_used(rule, key) && key != EQS_GROUP_HEAD_DIM)
      keys->value[key] = defaults->value[key];
  eqs_yaml_value layout = keys->value[EQS_GROUP_LAYOUT];
  if (is_absent(keys->value[EQS_GROUP_HEAD_DIM]) && !is_absent(layout) &&
      read_value(EQS_GROUP_LAYOUT, layout, &scratch) == EQS_OK && has_heads(&scratch))
    keys->value[EQS_GROUP_HEAD_DIM] = defaults->value[EQS_GROUP_HEAD_DIM];
  if (is_choice(keys->value[EQS_GROUP_SOLVER], eqs_solver_names[EQS_CUSTOM])) return;
  if (is_absent(own.value[EQS_GROUP_COEFFICIENTS])) keys->value[EQS_GROUP_COEFFICIENTS] = (eqs_yaml_value){0};
  if (is_absent(own.value[EQS_GROUP_NORMALISATION])) keys->value[EQS_GROUP_NORMALISATION] = (eqs_yaml_value){0};
}

static eqs_status check_together(eqs_yaml_value at, const eqs_group_values *keys, const eqs_group_config *group)
{
  if (!has_heads(group) && group->head_dim > 0)
    return eqs_yaml_fail(keys->value[EQS_GROUP_HEAD_DIM],
                         "head_dim is used with layout auto and those of heads (heads_qkv, heads_o) only");
  for (int key = EQS_GROUP_COEFFICIENTS; key <= EQS_GROUP_NORMALISATION; key++)
    if (group->options.solver != EQS_CUSTOM && !is_absent(keys->value[key]))
      return eqs_yaml_fail(keys->value[key], "%s is used with solver custom only", eqs_group_keys[key].name);
  const char *refusal = eqs_rule_refusal(&group->options);
  return refusal == NULL ? EQS_OK : eqs_yaml_fail(at, "rule %s: %s", group->options.rule->name, refusal);
}

eqs_status eqs_group_read(eqs_yaml_value value, const eqs_group_values *defaults, const eqs_schedule *schedule,
                          eqs_group_config *group)
{
  eqs_status status = EQS_OK;
  eqs_group_values keys;
  const eqs_rule *rule = NULL;
  *group = (eqs_group_config){.line = eqs_yaml_line(value), .schedule = *schedule};
  EQS_TRY(read_keys(value, "a group", &keys));
  EQS_TRY(find_rule(value, &keys, defaults, &rule));
  EQS_TRY(refuse_unused(&keys, rule));
  inherit(&keys, defaults, rule);
  group->options = eqs_rule_defaults(rule);
  EQS_TRY(eqs_match_read(keys.value[EQS_GROUP_MATCH], &group->match));
  for (int key = 0; key < EQS_GROUP_KEYS; key++)
    if (!is_absent(keys.value[key])) EQS_TRY(read_value(key, keys.value[key], group));
  if (group->options.solver == EQS_CUSTOM && is_absent(keys.value[EQS_GROUP_STEPS]) && group->lists != NULL &&
      group->lists->polynomials > 0)
    group->options.steps = group->lists->polynomials;
  EQS_TRY(check_together(value, &keys, group));
cleanup:
  return status;
}

void eqs_group_free(eqs_group_config *group)
{
  eqs_match_free(&group->match);
  free(group->split.size);
  group->split = (eqs_split){0};
  if (group->lists != NULL) {
    free(group->lists->restart);
    free(group->lists->polynomial);
    free(group->lists);
    group->lists = NULL;
  }
}
