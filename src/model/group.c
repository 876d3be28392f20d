#include "model/group.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/match.h"
#include "rules/rules.h"

_Static_assert(1 << EQS_GROUP_LAYOUT == EQS_KEY_LAYOUT && 1 << EQS_GROUP_SOLVER == EQS_KEY_SOLVER &&
                   1 << EQS_GROUP_STEPS == EQS_KEY_STEPS && 1 << EQS_GROUP_COEFFICIENTS == EQS_KEY_COEFFICIENTS &&
                   1 << EQS_GROUP_NORMALISATION == EQS_KEY_NORMALISATION,
               "a key has another bit");

enum { max_pieces = 64, max_steps = 100, max_rules = 32 };

static const char *key_name(int key)
{
  static const char *const own[EQS_GROUP_KEYS - EQS_KEYS] = {"match", "rule", "lr",    "weight_decay", "head_dim",
                                                             "split", "grid", "block", "schedule"};
  return key < EQS_KEYS ? eqs_rule_key_names[key] : own[key - EQS_KEYS];
}

static bool rule_uses(const eqs_rule *rule, int key)
{
  if (key == EQS_GROUP_HEAD_DIM || key == EQS_GROUP_SPLIT) return rule->keys & EQS_KEY_LAYOUT;
  return key >= EQS_KEYS || rule->keys >> key & 1;
}

static bool is_absent(eqs_yaml_value value)
{
  return value.node == NULL;
}

/* Which key every pair of a mapping is; `where` is what the mapping is, for messages. */
static eqs_status read_keys(eqs_yaml_value value, const char *where, eqs_group_keys *keys)
{
  eqs_status status = EQS_OK;
  eqs_yaml_mapping mapping = {0};
  const char *names[EQS_GROUP_KEYS];
  for (int i = 0; i < EQS_GROUP_KEYS; i++) names[i] = key_name(i);
  *keys = (eqs_group_keys){0};
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

static eqs_status read_betas(eqs_yaml_value value, double betas[2])
{
  eqs_status status = EQS_OK;
  int length;
  EQS_TRY(eqs_yaml_list_length(value, "betas", 2, &length));
  if (!eqs_yaml_is_list(value) || length != 2)
    return eqs_yaml_fail(value, "betas must be two numbers, like [0.9, 0.95]");
  for (int i = 0; i < 2; i++)
    EQS_TRY(eqs_yaml_read_number(eqs_yaml_item(value, i), "betas", EQS_RANGE_BELOW_ONE, &betas[i]));
cleanup:
  return status;
}

static eqs_status create_lists(eqs_group_config *group)
{
  if (group->lists != NULL) return EQS_OK;
  eqs_status status = eqs_allocate(&group->lists, 1, sizeof *group->lists);
  group->options.lists = group->lists;
  return status;
}

/* A number of steps, or several, ascending. */
static eqs_status read_restarts(eqs_yaml_value value, eqs_group_config *group)
{
  eqs_status status = EQS_OK;
  int length;
  int64_t step, last = 0;
  EQS_TRY(eqs_yaml_list_length(value, "restarts", max_steps, &length));
  if (length == 0)
    return eqs_yaml_fail(value, "restarts is an empty list: leave it out, and restarts are where needed");
  EQS_TRY(create_lists(group));
  EQS_TRY(eqs_allocate(&group->lists->restart, length, sizeof *group->lists->restart));
  group->lists->restarts = length;
  for (int i = 0; i < length; i++, last = step) {
    eqs_yaml_value item = eqs_yaml_item(value, i);
    EQS_TRY(eqs_yaml_read_integer(item, "restarts", 1, max_steps - 1, &step));
    if (step <= last) return eqs_yaml_fail(item, "restarts must ascend: %d follows %d", (int)step, (int)last);
    group->lists->restart[i] = (int)step;
  }
cleanup:
  return status;
}

/* [[a, b, c], ...], a triple for every step. */
static eqs_status read_coefficients(eqs_yaml_value value, eqs_group_config *group)
{
  static const char wanted[] =
      "coefficients must be a list of triples, like [[3.4445, -4.775, 2.0315], [2, -1.5, 0.5]]";
  eqs_status status = EQS_OK;
  int length, numbers;
  EQS_TRY(eqs_yaml_list_length(value, "coefficients", max_steps, &length));
  if (!eqs_yaml_is_list(value) || length == 0) return eqs_yaml_fail(value, wanted);
  EQS_TRY(create_lists(group));
  EQS_TRY(eqs_allocate(&group->lists->polynomial, length, sizeof *group->lists->polynomial));
  group->lists->polynomials = length;
  for (int i = 0; i < length; i++) {
    eqs_yaml_value triple = eqs_yaml_item(value, i);
    if (!eqs_yaml_is_list(triple)) return eqs_yaml_fail(triple, wanted);
    EQS_TRY(eqs_yaml_list_length(triple, "a triple of coefficients", 3, &numbers));
    if (numbers != 3) return eqs_yaml_fail(triple, wanted);
    for (int k = 0; k < 3; k++)
      EQS_TRY(eqs_yaml_read_number(eqs_yaml_item(triple, k), "coefficients", EQS_RANGE_ANY,
                                   &group->lists->polynomial[i][k]));
  }
cleanup:
  return status;
}

static eqs_status read_pieces(eqs_yaml_value value, const char *what, eqs_split *split)
{
  eqs_status status = EQS_OK;
  int length;
  if (!eqs_yaml_is_list(value))
    return eqs_yaml_fail(value, "%s must be a list of sizes, like [2048, 1024, 1024]", what);
  EQS_TRY(eqs_yaml_list_length(value, what, max_pieces, &length));
  if (length == 0) return eqs_yaml_fail(value, "%s is an empty list", what);
  EQS_TRY(eqs_allocate(&split->size, length, sizeof *split->size));
  split->pieces = length;
  for (int i = 0; i < length; i++)
    EQS_TRY(eqs_yaml_read_integer(eqs_yaml_item(value, i), what, 1, INT64_MAX, &split->size[i]));
cleanup:
  return status;
}

/* [2048, 1024, 1024], or {repeat: 8, pieces: [256, 128, 128]}. */
static eqs_status read_split(eqs_yaml_value value, eqs_split *split)
{
  static const char *const names[] = {"repeat", "pieces"};
  eqs_status status = EQS_OK;
  eqs_yaml_mapping mapping = {0};
  split->repeat = 1;
  if (!eqs_yaml_is_mapping(value)) return read_pieces(value, "split", split);
  EQS_TRY(eqs_yaml_read_mapping(value, "split", &mapping));
  for (int i = 0; i < mapping.count; i++) {
    int key;
    EQS_TRY(eqs_yaml_key(&mapping.pairs[i], "split", names, 2, &key));
    if (key == 0)
      EQS_TRY(eqs_yaml_read_integer(mapping.pairs[i].value, names[0], 1, INT64_MAX, &split->repeat));
    else
      EQS_TRY(read_pieces(mapping.pairs[i].value, names[1], split));
  }
  if (split->pieces == 0)
    status = eqs_yaml_fail(value, "split needs pieces, like {repeat: 8, pieces: [256, 128, 128]}");
cleanup:
  eqs_yaml_mapping_free(&mapping);
  return status;
}

/* A layout, or what is to be apart in the role's. */
static eqs_status read_layout(eqs_yaml_value value, eqs_group_config *group)
{
  enum { UNFUSED = EQS_LAYOUTS, AUTO, NAMES };
  const char *names[NAMES];
  int choice;
  memcpy(names, eqs_layout_names, sizeof eqs_layout_names);
  names[UNFUSED] = "unfused";
  names[AUTO] = "auto";
  eqs_status status = eqs_yaml_read_choice(value, "layout", names, NAMES, &choice);
  if (status != EQS_OK) return status;
  group->layout_unfused = choice == UNFUSED;
  group->layout_auto = choice == AUTO;
  group->layout_given = choice < EQS_LAYOUTS;
  if (group->layout_given) group->layout = (eqs_tensor_layout)choice;
  return EQS_OK;
}

static eqs_status read_grid(eqs_yaml_value value, eqs_group_config *group)
{
  int64_t pair[2];
  eqs_status status = eqs_yaml_read_pair(value, "grid", INT_MAX, pair);
  if (status != EQS_OK) return status;
  if (pair[0] > INT_MAX / pair[1]) return eqs_yaml_fail(value, "grid has more ranks than there can be");
  group->grid_rows = (int)pair[0];
  group->grid_cols = (int)pair[1];
  return EQS_OK;
}

/* 64, [64, 32] or 64x32. */
static eqs_status read_block(eqs_yaml_value value, eqs_group_config *group)
{
  eqs_status status = EQS_OK;
  int64_t pair[2];
  const char *text;
  if (!eqs_yaml_is_list(value) && eqs_yaml_read_text(value, "block", &text) == EQS_OK && strchr(text, 'x') != NULL) {
    EQS_TRY(eqs_yaml_read_pair(value, "block", INT_MAX, pair));
  } else {
    int length;
    EQS_TRY(eqs_yaml_list_length(value, "block", 2, &length));
    if (length == 0) return eqs_yaml_fail(value, "block is an empty list");
    for (int i = 0; i < 2; i++)
      EQS_TRY(eqs_yaml_read_integer(eqs_yaml_item(value, i < length ? i : 0), "block", 1, INT_MAX, &pair[i]));
  }
  group->row_block = pair[0];
  group->col_block = pair[1];
cleanup:
  return status;
}

/* Read a name into an enum. */
#define READ_CHOICE(what, names, count, target)                                                                        \
  do {                                                                                                                 \
    int choice = 0;                                                                                                    \
    EQS_TRY(eqs_yaml_read_choice(value, (what), (names), (count), &choice));                                           \
    (target) = choice;                                                                                                 \
  } while (0)

/* Read the value of one key. The group's rule is known. */
static eqs_status read_value(int key, eqs_yaml_value value, eqs_group_config *group)
{
  eqs_status status = EQS_OK;
  eqs_rule_options *options = &group->options;
  const char *name = key_name(key);
  int64_t steps;
  switch (key < EQS_KEYS ? 1 << key : 0) {
  case EQS_KEY_MOMENTUM: READ_CHOICE("momentum", eqs_momentum_names, EQS_MOMENTA, options->momentum); break;
  case EQS_KEY_BETA: EQS_TRY(eqs_yaml_read_number(value, name, EQS_RANGE_BELOW_ONE, &options->beta)); break;
  case EQS_KEY_BETAS: EQS_TRY(read_betas(value, options->betas)); break;
  case EQS_KEY_ALPHA: EQS_TRY(eqs_yaml_read_number(value, name, EQS_RANGE_NOT_NEGATIVE, &options->alpha)); break;
  case EQS_KEY_EPS: EQS_TRY(eqs_yaml_read_number(value, name, EQS_RANGE_POSITIVE, &options->eps)); break;
  case EQS_KEY_SOLVER: READ_CHOICE("solver", eqs_solver_names, EQS_SOLVERS, options->solver); break;
  case EQS_KEY_STEPS:
    EQS_TRY(eqs_yaml_read_integer(value, name, 1, max_steps, &steps));
    options->steps = (int)steps;
    break;
  case EQS_KEY_FORM: READ_CHOICE("form", eqs_form_names, EQS_FORMS, options->form); break;
  case EQS_KEY_ROW_MODE: READ_CHOICE("row_mode", eqs_row_mode_names, EQS_ROW_MODES, options->row_mode); break;
  case EQS_KEY_ORDER: READ_CHOICE("order", eqs_order_names, EQS_ORDERS, options->order); break;
  case EQS_KEY_SIDE: READ_CHOICE("side", eqs_side_names, EQS_SIDES, options->side); break;
  case EQS_KEY_CENTER:
    EQS_TRY(eqs_yaml_read_boolean(value, name, &options->center));
    group->center_given = true;
    break;
  case EQS_KEY_SCALE: READ_CHOICE("scale", eqs_scale_names, EQS_SCALES, options->scale); break;
  case EQS_KEY_NU_SCOPE: READ_CHOICE("nu_scope", eqs_nu_scope_names, EQS_NU_SCOPES, options->nu_scope); break;
  case EQS_KEY_LAYOUT: EQS_TRY(read_layout(value, group)); break;
  case EQS_KEY_EPS_MODE: READ_CHOICE("eps_mode", eqs_eps_mode_names, EQS_EPS_MODES, options->eps_mode); break;
  case EQS_KEY_RESTARTS: EQS_TRY(read_restarts(value, group)); break;
  case EQS_KEY_COEFFICIENTS: EQS_TRY(read_coefficients(value, group)); break;
  case EQS_KEY_NORMALISATION:
    READ_CHOICE("normalisation", eqs_normalisation_names, EQS_NORMALISATIONS, options->normalisation);
    break;
  default: break;
  }
  switch (key) {
  case EQS_GROUP_LR: EQS_TRY(eqs_yaml_read_number(value, name, EQS_RANGE_NOT_NEGATIVE, &group->lr)); break;
  case EQS_GROUP_WEIGHT_DECAY:
    EQS_TRY(eqs_yaml_read_number(value, name, EQS_RANGE_NOT_NEGATIVE, &options->weight_decay));
    break;
  case EQS_GROUP_HEAD_DIM: EQS_TRY(eqs_yaml_read_integer(value, name, 1, INT64_MAX, &group->head_dim)); break;
  case EQS_GROUP_SPLIT: EQS_TRY(read_split(value, &group->split)); break;
  case EQS_GROUP_GRID: EQS_TRY(read_grid(value, group)); break;
  case EQS_GROUP_BLOCK: EQS_TRY(read_block(value, group)); break;
  case EQS_GROUP_SCHEDULE: EQS_TRY(eqs_schedule_read(value, &group->schedule)); break;
  default: break;
  }
cleanup:
  return status;
}

eqs_status eqs_group_read_defaults(eqs_yaml_value value, eqs_group_keys *defaults)
{
  eqs_status status = EQS_OK;
  eqs_group_keys keys;
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
static eqs_status find_rule(eqs_yaml_value at, const eqs_group_keys *keys, const eqs_group_keys *defaults,
                            const eqs_rule **rule)
{
  eqs_yaml_value named = keys->value[EQS_GROUP_RULE];
  if (is_absent(named)) named = defaults->value[EQS_GROUP_RULE];
  if (is_absent(named)) return eqs_yaml_fail(at, "the group has no rule");
  if (is_absent(keys->value[EQS_GROUP_LR]) && is_absent(defaults->value[EQS_GROUP_LR]))
    return eqs_yaml_fail(at, "the group has no lr");
  return read_rule(named, rule);
}

static eqs_status refuse_unused(const eqs_group_keys *keys, const eqs_rule *rule)
{
  for (int key = 0; key < EQS_GROUP_KEYS; key++)
    if (!is_absent(keys->value[key]) && !rule_uses(rule, key))
      return eqs_yaml_fail(keys->value[key], "rule %s does not use %s", rule->name, key_name(key));
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
static void inherit(eqs_group_keys *keys, const eqs_group_keys *defaults, const eqs_rule *rule)
{
  eqs_group_config scratch = {0};
  const eqs_group_keys own = *keys;
  for (int key = 0; key < EQS_GROUP_KEYS; key++)
    if (is_absent(keys->value[key]) && rule_uses(rule, key) && key != EQS_GROUP_HEAD_DIM)
      keys->value[key] = defaults->value[key];
  eqs_yaml_value layout = keys->value[EQS_GROUP_LAYOUT];
  if (is_absent(keys->value[EQS_GROUP_HEAD_DIM]) && !is_absent(layout) && read_layout(layout, &scratch) == EQS_OK &&
      has_heads(&scratch))
    keys->value[EQS_GROUP_HEAD_DIM] = defaults->value[EQS_GROUP_HEAD_DIM];
  if (is_choice(keys->value[EQS_GROUP_SOLVER], eqs_solver_names[EQS_CUSTOM])) return;
  if (is_absent(own.value[EQS_GROUP_COEFFICIENTS])) keys->value[EQS_GROUP_COEFFICIENTS] = (eqs_yaml_value){0};
  if (is_absent(own.value[EQS_GROUP_NORMALISATION])) keys->value[EQS_GROUP_NORMALISATION] = (eqs_yaml_value){0};
}

static eqs_status check_together(eqs_yaml_value at, const eqs_group_keys *keys, const eqs_group_config *group)
{
  if (!has_heads(group) && group->head_dim > 0)
    return eqs_yaml_fail(keys->value[EQS_GROUP_HEAD_DIM],
                         "head_dim is used with layout auto and those of heads (heads_qkv, heads_o) only");
  for (int key = EQS_GROUP_COEFFICIENTS; key <= EQS_GROUP_NORMALISATION; key++)
    if (group->options.solver != EQS_CUSTOM && !is_absent(keys->value[key]))
      return eqs_yaml_fail(keys->value[key], "%s is used with solver custom only", key_name(key));
  const char *refusal = eqs_rule_refusal(&group->options);
  return refusal == NULL ? EQS_OK : eqs_yaml_fail(at, "rule %s: %s", group->options.rule->name, refusal);
}

eqs_status eqs_group_read(eqs_yaml_value value, const eqs_group_keys *defaults, const eqs_schedule *schedule,
                          eqs_group_config *group)
{
  eqs_status status = EQS_OK;
  eqs_group_keys keys;
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
