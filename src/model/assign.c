/* What a parameter gets: role, group, options and matrices. */
#include <fnmatch.h>
#include <stdlib.h>

#include "model/config.h"
#include "model/match.h"

/* A parameter, as messages need it. */
typedef struct {
  const char *name, *module_type;
  int ndim;
  const int64_t *shape;
} subject;

static eqs_role role_of(const eqs_config *config, const subject *parameter)
{
  for (int i = 0; i < config->role_patterns; i++)
    if (fnmatch(config->role_pattern[i].glob, parameter->name, 0) == 0) return config->role_pattern[i].role;
  return eqs_role_infer(parameter->name, parameter->module_type, parameter->ndim);
}

/* The first group that matches. */
static eqs_status find_group(const eqs_config *config, const subject *parameter, eqs_role role, int *group)
{
  for (*group = 0; *group < config->groups; ++*group)
    if (eqs_match_accepts(config->group[*group].match, parameter->name, role, parameter->module_type, parameter->ndim,
                          parameter->shape))
      return EQS_OK;
  char shape[200];
  eqs_shape_text(parameter->ndim, parameter->shape, shape, sizeof shape);
  return eqs_fail(EQS_USAGE, "%s:%d: no group matches parameter %.500s (role %s, shape %s, type %.100s)",
                  config->file[0], config->groups_line, parameter->name, eqs_role_names[role], shape,
                  parameter->module_type != NULL ? parameter->module_type : "unknown");
}

/* See eqs_config_assign. Rules with a row_mode are those that norm rows. */
static eqs_tensor_layout default_layout(const eqs_rule *rule, eqs_role role, const subject *parameter)
{
  if (rule->element_wise) return EQS_LAYOUT_ROW;
  if (rule->keys & EQS_KEY_ROW_MODE) return eqs_role_unit_layout(role, parameter->module_type, parameter->ndim);
  return eqs_role_matrix_layout(role, parameter->module_type, parameter->ndim);
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

static eqs_status find_matrices(const eqs_group_config *group, const subject *parameter, eqs_assignment *assignment)
{
  const eqs_rule *rule = group->options.rule;
  if (rule->element_wise)
    return eqs_layout_whole(parameter->ndim, parameter->shape, &assignment->count, &assignment->views);
  if (parameter->ndim != 2 && parameter->ndim != 3) {
    char shape[200];
    eqs_shape_text(parameter->ndim, parameter->shape, shape, sizeof shape);
    return eqs_fail(EQS_USAGE, "rule %s needs a matrix or a stack of matrices, and the shape is %s", rule->name, shape);
  }
  eqs_status status = eqs_layout_views(assignment->layout, group->head_dim, group->splits, group->split,
                                       parameter->ndim, parameter->shape, &assignment->count, &assignment->views);
  return status == EQS_OK ? check_heads(assignment) : status;
}

eqs_status eqs_config_assign(const eqs_config *config, const char *name, const char *module_type, int ndim,
                             const int64_t *shape, eqs_assignment *assignment)
{
  eqs_status status = EQS_OK;
  subject parameter = {name, module_type, ndim, shape};
  *assignment = (eqs_assignment){.role = role_of(config, &parameter)};
  EQS_TRY(find_group(config, &parameter, assignment->role, &assignment->group));
  const eqs_group_config *group = &config->group[assignment->group];
  const eqs_rule *rule = group->options.rule;
  assignment->options = group->options;
  if (!group->center_given)
    assignment->options.center =
        rule->center && (assignment->role == EQS_ROLE_LM_HEAD || assignment->role == EQS_ROLE_ROUTER);
  assignment->layout = group->layout_given ? group->layout : default_layout(rule, assignment->role, &parameter);
  status = find_matrices(group, &parameter, assignment);
  if (status != EQS_OK)
    status = eqs_fail(status, "%s:%d: rule %s: parameter %.500s: %s", group->file, group->line, rule->name, name,
                      eqs_error_message());
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
