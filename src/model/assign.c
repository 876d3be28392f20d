#include "model/assign.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "model/match.h"
#include "rules/rules.h"

/* The entry of `roles` for a parameter, or NULL. */
static const eqs_role_pattern *find_role_pattern(const eqs_config *config, const eqs_parameter_info *info)
{
  for (int i = 0; i < config->role_patterns; i++) {
    const eqs_role_pattern *next = &config->role_pattern[i];
    const char *type = info->module_type != NULL ? info->module_type : "";
    if (fnmatch(next->glob, info->name, 0) == 0 &&
        (next->module_type == NULL || fnmatch(next->module_type, type, 0) == 0))
      return next;
  }
  return NULL;
}

/* Until given otherwise, what has a row for every item of the vocabulary is a head. */
static bool may_be_head(const eqs_recognition *found, const eqs_model_shape *model, const eqs_parameter_info *info,
                        bool stacked)
{
  return found->role == EQS_ROLE_MATRIX && !found->named && model != NULL && info->ndim == 2 && !stacked &&
         model->vocabulary > 1 && info->shape[0] == model->vocabulary;
}

eqs_recognition eqs_config_recognize(const eqs_config *config, const eqs_model_shape *model,
                                     const eqs_parameter_info *info, bool *stacked, unsigned *doubts)
{
  const eqs_role_pattern *pattern = find_role_pattern(config, info);
  eqs_role given = info->role != NULL ? eqs_role_find(info->role) : EQS_ROLES;
  eqs_recognition found;
  *stacked = info->ndim > 0 && (info->stacked || (pattern != NULL && pattern->stacked));
  *doubts = 0;
  if (given == EQS_ROLES && pattern != NULL) given = pattern->role;
  if (given != EQS_ROLES)
    return eqs_recognize_as(given, info->name, info->module_type, *stacked, info->ndim, info->shape);
  found = eqs_recognize(info->name, info->module_type, *stacked, info->ndim, info->shape);
  if (found.guessed) *doubts = EQS_DOUBT_SHAPE_ALONE;
  if (may_be_head(&found, model, info, *stacked)) {
    found.role = EQS_ROLE_LM_HEAD;
    *doubts = EQS_DOUBT_ROWS_ALONE;
  }
  return found;
}

/* The first group that matches. */
static eqs_status find_group(const eqs_config *config, const eqs_parameter_info *info, eqs_role role, int *group)
{
  for (*group = 0; *group < config->groups; ++*group)
    if (eqs_match_accepts(config->group[*group].match, info->name, role, info->module_type, info->ndim, info->shape))
      return EQS_OK;
  char shape[200];
  eqs_shape_text(info->ndim, info->shape, shape, sizeof shape);
  return eqs_fail(EQS_USAGE, "%s:%d: no group matches parameter %.500s (role %s, shape %s, type %.100s)",
                  config->file[0], config->groups_line, info->name, eqs_role_names[role], shape,
                  info->module_type != NULL ? info->module_type : "unknown");
}

/* ν per head and the shape factor ask for heads of one shape, which pieces of heads_o can miss. */
static eqs_status check_heads(const eqs_assignment *assignment)
{
  for (int64_t i = 1; eqs_layout_has_heads(assignment->layout) && i < assignment->count; i++)
    if (assignment->views[i].rows != assignment->views[0].rows ||
        assignment->views[i].cols != assignment->views[0].cols)
      return eqs_fail(EQS_USAGE, "%s: the pieces of split give heads of different shapes",
                      eqs_layout_names[assignment->layout]);
  return EQS_OK;
}

/* Whether a rule that takes matrices can be applied at all. */
static eqs_status check_form(const eqs_group_config *group, const eqs_recognition *found, bool stacked,
                             const eqs_parameter_info *info)
{
  char shape[200];
  const eqs_rule *rule = group->options.rule;
  bool given = group->layout_auto || group->layout_given;
  bool matrix = info->ndim - stacked >= 2;
  if (matrix && (given || found->role != EQS_ROLE_CONVOLUTION)) return EQS_OK;
  eqs_shape_text(info->ndim, info->shape, shape, sizeof shape);
  if (!matrix)
    return eqs_fail(EQS_USAGE, "rule %s needs a matrix or a stack of matrices, and the shape is %s", rule->name, shape);
  return eqs_fail(EQS_USAGE,
                  "rule %s needs matrices, and it is a convolution of shape %s: write `layout: flatten` in the group, "
                  "or before it a group `- {match: {role: convolution}, rule: adamw, lr: ...}`",
                  rule->name, shape);
}

static eqs_status find_matrices(const eqs_group_config *group, const eqs_model_shape *model,
                                const eqs_recognition *found, bool stacked, const eqs_parameter_info *info,
                                eqs_assignment *assignment)
{
  eqs_status status = EQS_OK;
  eqs_matrices matrices;
  const eqs_rule *rule = group->options.rule;
  if (rule->element_wise) return eqs_layout_whole(info->ndim, info->shape, &assignment->count, &assignment->views);
  EQS_TRY(check_form(group, found, stacked, info));
  EQS_TRY(eqs_find_matrices(group, model, found, stacked, info, &matrices));
  assignment->layout = matrices.layout;
  assignment->doubts |= matrices.doubts;
  EQS_TRY(eqs_layout_views(matrices.layout, matrices.head_dim, &matrices.split, stacked, info->ndim, info->shape,
                           &assignment->count, &assignment->views));
  EQS_TRY(check_heads(assignment));
cleanup:
  return status;
}

/* Of a single row nothing is left once the mean of the rows is taken out. */
static bool center_by_default(const eqs_rule *rule, eqs_role role, const eqs_parameter_info *info)
{
  bool several = info->ndim < 2 || info->shape[info->ndim - 2] > 1;
  return rule->center && several && eqs_role_is_centered(role);
}

/* What is not trained needs no group: the whole tensor, at rest. */
static void assign_frozen(eqs_assignment *assignment)
{
  assignment->group = -1;
  assignment->options.rule = &eqs_rule_frozen;
  assignment->layout = EQS_LAYOUT_ROW;
  assignment->doubts = 0;
}

eqs_status eqs_config_assign(const eqs_config *config, const eqs_model_shape *model, const eqs_parameter_info *info,
                             eqs_assignment *assignment)
{
  eqs_status status = EQS_OK;
  bool stacked;
  *assignment = (eqs_assignment){0};
  if (info->role != NULL && eqs_role_find(info->role) == EQS_ROLES)
    EQS_TRY(eqs_fail(EQS_USAGE, "parameter '%.500s': there is no role '%.100s'", info->name, info->role));
  eqs_recognition found = eqs_config_recognize(config, model, info, &stacked, &assignment->doubts);
  assignment->role = found.role;
  assignment->inside = found.inside;
  if (info->frozen) {
    assign_frozen(assignment);
    EQS_TRY(eqs_layout_whole(info->ndim, info->shape, &assignment->count, &assignment->views));
    goto cleanup;
  }
  EQS_TRY(find_group(config, info, assignment->role, &assignment->group));
  const eqs_group_config *group = &config->group[assignment->group];
  const eqs_rule *rule = group->options.rule;
  assignment->options = group->options;
  if (!group->center_given) assignment->options.center = center_by_default(rule, found.role, info);
  status = find_matrices(group, model, &found, stacked, info, assignment);
  if (status != EQS_OK)
    status = eqs_fail(status, "%s:%d: rule %s: parameter %.500s: %s", group->file, group->line, rule->name, info->name,
                      eqs_error_message());
  assignment->options.several = assignment->count > 1;
cleanup:
  if (status != EQS_OK) eqs_assignment_free(assignment);
  return status;
}

void eqs_assignment_free(eqs_assignment *assignment)
{
  free(assignment->views);
  assignment->views = NULL;
  assignment->count = 0;
}
