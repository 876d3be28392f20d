#include "optimizer/warnings.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/match.h"

/* Matrices of fewer elements are by AdamW soon enough not to matter. */
static const int64_t large_matrix = 1 << 14;

static eqs_status warn(eqs_warnings *warnings, const char *format, ...) __attribute__((format(printf, 2, 3)));

static eqs_status warn(eqs_warnings *warnings, const char *format, ...)
{
  char text[2000];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  eqs_status status = eqs_grow(&warnings->text, warnings->count, sizeof *warnings->text);
  if (status == EQS_OK) status = eqs_copy_text(&warnings->text[warnings->count], text);
  warnings->count += status == EQS_OK;
  return status;
}

void eqs_warnings_free(eqs_warnings *warnings)
{
  for (int i = 0; i < warnings->count; i++) free(warnings->text[i]);
  free(warnings->text);
  *warnings = (eqs_warnings){0};
}

/* In the order in which they are said. */
typedef enum { SHAPE_ALONE, ROWS_ALONE, FUSED, STORAGE, HEADS, MISPLACED, LEFT_OVER, KINDS } doubt_kind;

/* A parameter that there is something to say of. */
typedef struct {
  const eqs_planned_parameter *parameter;
  doubt_kind kind;
  char *pattern; /* its name, numbers as '*' */
} doubt;

typedef struct {
  int64_t count;
  doubt *list;
} doubts;

static void forget(doubts *all)
{
  for (int64_t i = 0; i < all->count; i++) free(all->list[i].pattern);
  free(all->list);
}

/* "layers.12.w" -> "layers.*.w": the pattern of all that differ in numbers alone, between dots. */
static void make_pattern(char *name)
{
  char *end = name;
  for (const char *c = name; *c != '\0';) {
    size_t length = strcspn(c, "."), digits = strspn(c, "0123456789");
    if (digits == length && length > 0)
      *end++ = '*';
    else
      end = (char *)memmove(end, c, length) + length;
    c += length;
    if (*c == '.') *end++ = *c++;
  }
  *end = '\0';
}

static eqs_status add_doubt(doubts *all, const eqs_planned_parameter *parameter, doubt_kind kind)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_grow(&all->list, all->count, sizeof *all->list));
  doubt *next = &all->list[all->count];
  *next = (doubt){.parameter = parameter, .kind = kind};
  EQS_TRY(eqs_copy_text(&next->pattern, parameter->info.name));
  make_pattern(next->pattern);
  all->count++;
cleanup:
  return status;
}

static bool is_polar(const eqs_group_config *group)
{
  return eqs_rule_has_polar(group->options.rule);
}

static bool has_polar(const eqs_config *config)
{
  for (int g = 0; g < config->groups; g++)
    if (is_polar(&config->group[g])) return true;
  return false;
}

/* Whether a large tensor is, or may be, of matrices. */
static bool has_matrices(const eqs_planned_parameter *parameter)
{
  const eqs_assignment *assignment = &parameter->assignment;
  if (parameter->info.ndim < 2 || eqs_planned_elements(parameter) < large_matrix) return false;
  switch (assignment->role) {
  case EQS_ROLE_EMBEDDING:
  case EQS_ROLE_POSITION:
  case EQS_ROLE_LM_HEAD:
  case EQS_ROLE_ROUTER:
  case EQS_ROLE_CONVOLUTION: return false;
  case EQS_ROLE_OTHER: return (assignment->doubts & EQS_DOUBT_SHAPE_ALONE) != 0;
  default: return true;
  }
}

/*
 * Whether a rule that turns rows and columns takes what may not be turned: vocabulary, positions, norms; and takes it
 * only because the group's match does not say what it is for.
 */
static bool is_misplaced(const eqs_group_config *group, const eqs_planned_parameter *parameter)
{
  const eqs_assignment *assignment = &parameter->assignment;
  const eqs_rule *rule = group->options.rule;
  if (!is_polar(group) || rule->damped || eqs_match_tells_what(group->match)) return false;
  switch (assignment->role) {
  case EQS_ROLE_EMBEDDING:
  case EQS_ROLE_POSITION:
  case EQS_ROLE_LM_HEAD:
  case EQS_ROLE_ROUTER: return true;
  case EQS_ROLE_OTHER: return (assignment->doubts & EQS_DOUBT_SHAPE_ALONE) == 0;
  default: return false;
  }
}

static eqs_status look_at(const eqs_config *config, const eqs_planned_parameter *parameter, bool polar, doubts *all)
{
  eqs_status status = EQS_OK;
  const eqs_assignment *assignment = &parameter->assignment;
  const eqs_group_config *group = &config->group[assignment->group];
  bool element_wise = group->options.rule->element_wise;
  unsigned unsure = assignment->doubts;
  if (unsure & EQS_DOUBT_SHAPE_ALONE && !element_wise) EQS_TRY(add_doubt(all, parameter, SHAPE_ALONE));
  if (unsure & EQS_DOUBT_ROWS_ALONE) EQS_TRY(add_doubt(all, parameter, ROWS_ALONE));
  if (unsure & EQS_DOUBT_FUSED) EQS_TRY(add_doubt(all, parameter, FUSED));
  if (unsure & EQS_DOUBT_STORAGE) EQS_TRY(add_doubt(all, parameter, STORAGE));
  if (is_misplaced(group, parameter)) EQS_TRY(add_doubt(all, parameter, MISPLACED));
  if (unsure & EQS_DOUBT_HEADS) EQS_TRY(add_doubt(all, parameter, HEADS));
  if (polar && element_wise && eqs_match_accepts_all(group->match) && has_matrices(parameter))
    EQS_TRY(add_doubt(all, parameter, LEFT_OVER));
cleanup:
  return status;
}

static int compare_doubts(const void *a, const void *b)
{
  const doubt *left = a, *right = b;
  if (left->kind != right->kind) return left->kind < right->kind ? -1 : 1;
  int order = strcmp(left->pattern, right->pattern);
  if (order != 0) return order;
  return left->parameter < right->parameter ? -1 : left->parameter > right->parameter;
}

/* What is fused, and the line that takes it apart. */
static const char *fused_parts(eqs_inside inside)
{
  switch (inside) {
  case EQS_INSIDE_K_AND_V:
  case EQS_INSIDE_KV_B: return "k and v";
  case EQS_INSIDE_GATE_UP: return "gate and up";
  case EQS_INSIDE_PARTS: return "several matrices";
  default: return "q, k and v";
  }
}

/* Of a weight that is three times as wide as high, and not the other way around, the pieces are columns. */
static bool lies_by_inputs(const eqs_planned_parameter *parameter)
{
  const eqs_parameter_info *info = &parameter->info;
  return parameter->assignment.inside == EQS_INSIDE_QKV && parameter->assignment.layout != EQS_LAYOUT_COL &&
         info->shape[info->ndim - 1] == 3 * info->shape[info->ndim - 2];
}

static const char *fused_line(const eqs_planned_parameter *parameter)
{
  const eqs_assignment *assignment = &parameter->assignment;
  if (lies_by_inputs(parameter)) return "layout: col, split: [Q_COLUMNS, K_COLUMNS, V_COLUMNS]";
  switch (assignment->inside) {
  case EQS_INSIDE_QKV_GROUPS:
    return "split: {repeat: KEY_VALUE_HEADS, pieces: [Q_ROWS_OF_A_GROUP, HEAD_DIM, HEAD_DIM]}";
  case EQS_INSIDE_K_AND_V: return "split: [K_ROWS, V_ROWS]";
  case EQS_INSIDE_KV_B: return "split: {repeat: HEADS, pieces: [K_ROWS_OF_A_HEAD, V_ROWS_OF_A_HEAD]}";
  case EQS_INSIDE_GATE_UP:
    return assignment->options.rule->keys & EQS_KEY_ROW_MODE ? "layout: gate_up_concat_pair" : "layout: unfused";
  case EQS_INSIDE_PARTS: return "split: [ROWS_OF_THE_FIRST, ROWS_OF_THE_SECOND, ...]";
  default: return "split: [Q_ROWS, K_ROWS, V_ROWS]";
  }
}

static const char *heads_line =
    "num_attention_heads, num_key_value_heads and head_dim (or hidden_size) in the model's configuration (the top of a "
    "manifest)";

/* What the model could say instead, so that a fused tensor is cut by itself; NULL: nothing. */
static const char *fused_numbers(const eqs_planned_parameter *parameter)
{
  switch (parameter->assignment.inside) {
  case EQS_INSIDE_GATE_UP:
  case EQS_INSIDE_PARTS: return NULL;
  case EQS_INSIDE_KV_B:
    return "num_attention_heads, qk_nope_head_dim, qk_rope_head_dim and v_head_dim in the model's configuration (the "
           "top of a manifest)";
  default:
    return lies_by_inputs(parameter) ? "the module's class (type: Conv1D in `roles`, module_type in a manifest)"
                                     : heads_line;
  }
}

/* One warning for `alike` parameters, of which `first` is the first. */
static eqs_status say(const eqs_config *config, const doubt *first, int64_t alike, eqs_warnings *warnings)
{
  const eqs_parameter_info *info = &first->parameter->info;
  const eqs_assignment *assignment = &first->parameter->assignment;
  const eqs_group_config *group = &config->group[assignment->group];
  const char *rule = group->options.rule->name, *role = eqs_role_names[assignment->role];
  const char *numbers = fused_numbers(first->parameter);
  char shape[200], who[800];
  eqs_shape_text(info->ndim, info->shape, shape, sizeof shape);
  snprintf(who, sizeof who, alike > 1 ? "parameter '%.300s' %s and %lld more like it" : "parameter '%.300s' %s",
           info->name, shape, (long long)alike - 1);
  switch (first->kind) {
  case SHAPE_ALONE:
    return warn(warnings,
                "%s:%d: %s: nothing but the shape says that rule %s is right for it; write what it is: `roles: "
                "{\"%.300s\": matrix}`, or another role",
                group->file, group->line, who, rule, first->pattern);
  case ROWS_ALONE:
    return warn(warnings,
                "%s: a head, to rule %s (%s:%d), only because it has as many rows as the embedding; write what it is: "
                "`roles: {\"%.300s\": lm_head}`, or matrix",
                who, rule, group->file, group->line, first->pattern);
  case FUSED:
    return warn(warnings,
                "%s:%d: %s: %s are fused in it, and rule %s takes them as one matrix; write `- {match: {name: "
                "\"%.300s\"}, rule: %s, lr: ..., %s}` before this group%s%s, or layout: row if one matrix is right",
                group->file, group->line, who, fused_parts(assignment->inside), rule, first->pattern, rule,
                fused_line(first->parameter), numbers != NULL ? ", or " : "", numbers != NULL ? numbers : "");
  case STORAGE:
    return warn(warnings,
                "%s:%d: %s: gate and up are fused in it, by its shape along the columns, and rule %s takes them as one "
                "matrix, since its module's class is not known; write `layout: gate_up_interleaved_split` if they "
                "alternate (gpt-oss), or `layout: col, split: [GATE_COLUMNS, UP_COLUMNS]`, in a group for \"%.300s\" "
                "before this one",
                group->file, group->line, who, rule, first->pattern);
  case MISPLACED:
    return warn(warnings,
                "%s:%d: %s (role %s): rule %s is for matrices between spaces that may be rotated, and takes it only "
                "because the group's match does not say what it is for; write a group for role %s before this one, or "
                "`role: [..., %s]` in this match if it is meant",
                group->file, group->line, who, role, rule, role, role);
  case HEADS:
    return warn(
        warnings,
        "%s:%d: %s: layout auto takes heads apart, and nobody says how many rows one has, so that rule %s takes "
        "all as one matrix; write `head_dim: ROWS` in this group, or %s",
        group->file, group->line, who, rule, heads_line);
  default:
    return warn(warnings,
                "%s:%d: %s (role %s): by %s only because no other group takes it; write `- {match: {role: %s}, rule: "
                "..., lr: ...}` before this group, or one for it with rule: %s if that is right",
                group->file, group->line, who, role, rule, role, rule);
  }
}

/* Doubts from `first` on that one warning tells of. */
static int64_t count_alike(const doubts *all, int64_t first)
{
  const doubt *one = &all->list[first];
  int64_t next = first + 1;
  while (next < all->count && all->list[next].kind == one->kind && strcmp(all->list[next].pattern, one->pattern) == 0)
    next++;
  return next - first;
}

static eqs_status say_all(const eqs_config *config, doubts *all, int64_t most, eqs_warnings *warnings)
{
  eqs_status status = EQS_OK;
  int64_t alike, said = 0; /* of one kind */
  if (all->count > 0) qsort(all->list, (size_t)all->count, sizeof *all->list, compare_doubts);
  for (int64_t first = 0; first < all->count; first += alike) {
    doubt_kind kind = all->list[first].kind;
    alike = count_alike(all, first);
    if (said++ < most) EQS_TRY(say(config, &all->list[first], alike, warnings));
    if (first + alike < all->count && all->list[first + alike].kind == kind) continue;
    if (said > most)
      EQS_TRY(warn(warnings, "... and %lld more of this kind; equishard plan lists all", (long long)(said - most)));
    said = 0;
  }
cleanup:
  return status;
}

/* The first parameter that a group would take, frozen or trained, and how many there are; NULL if there is none. */
static const eqs_planned_parameter *find_acceptable(const eqs_plan *plan, const eqs_group_config *group, bool frozen,
                                                    int64_t *count)
{
  const eqs_planned_parameter *first = NULL;
  *count = 0;
  for (int64_t p = 0; p < plan->parameters; p++) {
    const eqs_planned_parameter *next = &plan->parameter[p];
    const eqs_parameter_info *info = &next->info;
    if ((info->frozen != 0) != frozen ||
        !eqs_match_accepts(group->match, info->name, next->assignment.role, info->module_type, info->ndim, info->shape))
      continue;
    if (first == NULL) first = next;
    ++*count;
  }
  return first;
}

static bool takes_all(const eqs_config *config, int before)
{
  for (int g = 0; g < before; g++)
    if (eqs_match_accepts_all(config->group[g].match)) return true;
  return false;
}

/* A group that has got no parameter. */
static eqs_status say_empty(const eqs_config *config, const eqs_plan *plan, int g, eqs_warnings *warnings)
{
  const eqs_group_config *group = &config->group[g];
  int64_t count;
  const eqs_planned_parameter *first = find_acceptable(plan, group, false, &count);
  if (first == NULL && find_acceptable(plan, group, true, &count) != NULL) return EQS_OK; /* it is for a later day */
  if (first == NULL)
    return warn(warnings, "%s:%d: the group matches no parameter of this model; write another `match`, or remove it",
                group->file, group->line);
  const eqs_group_config *taker = &config->group[first->assignment.group];
  if (strcmp(taker->file, group->file) != 0) return EQS_OK;                        /* a variant */
  if (eqs_match_accepts_all(group->match) && !takes_all(config, g)) return EQS_OK; /* a net that was not needed */
  return warn(
      warnings,
      "%s:%d: the group gets no parameter: what it matches (%lld, '%.300s' the first) is taken by groups before "
      "it, as that of line %d; write it before that one, or remove it",
      group->file, group->line, (long long)count, first->info.name, taker->line);
}

static eqs_status look_at_groups(const eqs_config *config, const eqs_plan *plan, eqs_warnings *warnings)
{
  eqs_status status = EQS_OK;
  int64_t *taken = NULL;
  const eqs_group_config *unused = NULL;
  bool polar = false;
  EQS_TRY(eqs_allocate(&taken, config->groups, sizeof *taken));
  for (int64_t p = 0; p < plan->parameters; p++)
    if (!plan->parameter[p].info.frozen) taken[plan->parameter[p].assignment.group]++;
  for (int g = 0; g < config->groups; g++) {
    const eqs_group_config *group = &config->group[g];
    if (taken[g] == 0) EQS_TRY(say_empty(config, plan, g, warnings));
    polar = polar || (taken[g] > 0 && is_polar(group));
    if (unused == NULL && is_polar(group)) unused = group;
  }
  if (unused != NULL && !polar)
    EQS_TRY(
        warn(warnings,
             "%s:%d: no matrix gets rule %s, nor another with a polar factor, although the configuration has it; "
             "write in its match what the matrices are called, or `- {match: {role: [attention, mlp_gate_up, mlp_down, "
             "mlp, matrix]}, rule: %s, lr: ...}`",
             unused->file, unused->line, unused->options.rule->name, unused->options.rule->name));
cleanup:
  free(taken);
  return status;
}

eqs_status eqs_plan_warnings(const eqs_config *config, const eqs_plan *plan, int64_t most, eqs_warnings *warnings)
{
  eqs_status status = EQS_OK;
  doubts all = {0};
  bool polar = has_polar(config);
  *warnings = (eqs_warnings){0};
  for (int64_t p = 0; p < plan->parameters; p++)
    if (!plan->parameter[p].info.frozen) EQS_TRY(look_at(config, &plan->parameter[p], polar, &all));
  EQS_TRY(say_all(config, &all, most, warnings));
  EQS_TRY(look_at_groups(config, plan, warnings));
cleanup:
  forget(&all);
  if (status != EQS_OK) eqs_warnings_free(warnings);
  return status;
}
