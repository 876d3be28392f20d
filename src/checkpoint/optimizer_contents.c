#include "checkpoint/optimizer_contents.h"

#include <string.h>

static void add_text(eqs_checkpoint_parameter *parameter, eqs_attribute *attributes, const char *name, const char *text)
{
  attributes[parameter->attributes++] = (eqs_attribute){.name = name, .kind = EQS_ATTRIBUTE_TEXT, .text = text};
}

static void add_integer(eqs_checkpoint_parameter *parameter, eqs_attribute *attributes, const char *name, int64_t value)
{
  attributes[parameter->attributes++] = (eqs_attribute){.name = name, .kind = EQS_ATTRIBUTE_INTEGER, .integer = value};
}

static void add_number(eqs_checkpoint_parameter *parameter, eqs_attribute *attributes, const char *name, double value)
{
  attributes[parameter->attributes++] = (eqs_attribute){.name = name, .kind = EQS_ATTRIBUTE_NUMBER, .number = value};
}

static bool has_attribute(const eqs_checkpoint_parameter *parameter, const eqs_attribute *attributes, const char *name)
{
  for (int a = 0; a < parameter->attributes; a++)
    if (strcmp(attributes[a].name, name) == 0) return true;
  return false;
}

/* Of a frozen parameter: what the restored file said of it, as it was, and that it is frozen. */
static void describe_frozen(const eqs_optimizer *optimizer, int64_t p, eqs_checkpoint_parameter *parameter,
                            eqs_attribute *attributes)
{
  const eqs_kept_state *kept = &optimizer->parameter[p].kept;
  for (int a = 0; a < kept->attributes; a++) /* of no group, whatever it was in */
    if (strcmp(kept->attribute[a].name, "group") != 0) attributes[parameter->attributes++] = kept->attribute[a];
  if (!has_attribute(parameter, attributes, "role"))
    add_text(parameter, attributes, "role", eqs_role_names[optimizer->plan->parameter[p].assignment.role]);
  if (!has_attribute(parameter, attributes, "step"))
    add_integer(parameter, attributes, "step", optimizer->parameter[p].step);
  add_integer(parameter, attributes, "frozen", 1);
}

/* Role, rule, step and the hyper-parameters that the rule uses. */
static void describe(const eqs_optimizer *optimizer, int64_t p, eqs_checkpoint_parameter *parameter,
                     eqs_attribute *attributes)
{
  const eqs_assignment *assignment = &optimizer->plan->parameter[p].assignment;
  const eqs_rule_options *options = &optimizer->parameter[p].options;
  unsigned keys = options->rule->keys;
  parameter->attribute = attributes;
  if (optimizer->plan->parameter[p].info.frozen) {
    describe_frozen(optimizer, p, parameter, attributes);
    return;
  }
  add_text(parameter, attributes, "role", eqs_role_names[assignment->role]);
  add_text(parameter, attributes, "rule", options->rule->name);
  add_integer(parameter, attributes, "group", assignment->group);
  add_integer(parameter, attributes, "step", optimizer->parameter[p].step);
  add_number(parameter, attributes, "lr", optimizer->settings->group[assignment->group].lr);
  add_number(parameter, attributes, "weight_decay", options->weight_decay);
  if (keys & EQS_KEY_MOMENTUM) add_text(parameter, attributes, "momentum", eqs_momentum_names[options->momentum]);
  if (keys & EQS_KEY_BETA) add_number(parameter, attributes, "beta", options->beta);
  if (keys & EQS_KEY_BETAS) {
    add_number(parameter, attributes, "beta1", options->betas[0]);
    add_number(parameter, attributes, "beta2", options->betas[1]);
  }
  if (keys & EQS_KEY_ALPHA) add_number(parameter, attributes, "alpha", options->alpha);
  if (keys & EQS_KEY_EPS) add_number(parameter, attributes, "eps", options->eps);
  if (keys & EQS_KEY_EPS_MODE) add_text(parameter, attributes, "eps_mode", eqs_eps_mode_names[options->eps_mode]);
  if (keys & EQS_KEY_SOLVER) add_text(parameter, attributes, "solver", eqs_solver_names[options->solver]);
  if (keys & EQS_KEY_STEPS) add_integer(parameter, attributes, "steps", options->steps);
  if (keys & EQS_KEY_FORM) add_text(parameter, attributes, "form", eqs_form_names[options->form]);
  if (keys & EQS_KEY_NORMALISATION && options->solver == EQS_CUSTOM)
    add_text(parameter, attributes, "normalisation", eqs_normalisation_names[options->normalisation]);
  if (keys & EQS_KEY_ROW_MODE) add_text(parameter, attributes, "row_mode", eqs_row_mode_names[options->row_mode]);
  if (keys & EQS_KEY_ORDER) add_text(parameter, attributes, "order", eqs_order_names[options->order]);
  if (keys & EQS_KEY_SIDE) add_text(parameter, attributes, "side", eqs_side_names[options->side]);
  if (keys & EQS_KEY_CENTER) add_integer(parameter, attributes, "center", options->center);
  if (keys & EQS_KEY_SCALE) add_text(parameter, attributes, "scale", eqs_scale_names[options->scale]);
  if (keys & EQS_KEY_NU_SCOPE) add_text(parameter, attributes, "nu_scope", eqs_nu_scope_names[options->nu_scope]);
  if (keys & EQS_KEY_LAYOUT) add_text(parameter, attributes, "layout", eqs_layout_names[assignment->layout]);
}

static void add_state(eqs_optimizer_tensors *list, int index, const char *name)
{
  list->index[list->count] = index;
  list->name[list->count++] = name;
}

eqs_optimizer_tensors eqs_optimizer_list_tensors(const eqs_optimizer *optimizer, int64_t p)
{
  eqs_optimizer_tensors list = {0};
  const eqs_rule_options *options = &optimizer->plan->parameter[p].assignment.options;
  const eqs_kept_state *kept = &optimizer->parameter[p].kept;
  add_state(&list, 0, "weight");
  for (int s = 0; s < kept->states; s++) add_state(&list, 1 + s, kept->state_name[s]);
  if (options->momentum != EQS_MOMENTUM_NONE) add_state(&list, 1, "momentum");
  for (int s = 0; s < options->rule->states; s++) add_state(&list, 2 + s, options->rule->state_names[s]);
  return list;
}

static eqs_status add_tensors(const eqs_optimizer *optimizer, int64_t p, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  const eqs_planned_parameter *planned = &optimizer->plan->parameter[p];
  const eqs_assignment *assignment = &planned->assignment;
  eqs_checkpoint_parameter *parameter = &contents->parameter[p];
  eqs_optimizer_tensors list = eqs_optimizer_list_tensors(optimizer, p);
  for (int s = 0; s < list.count; s++) {
    eqs_tensor_matrix *matrix;
    EQS_TRY(eqs_contents_allocate(contents, &matrix, assignment->count, sizeof *matrix));
    for (int64_t i = 0; i < assignment->count; i++)
      matrix[i] =
          (eqs_tensor_matrix){.view = &assignment->views[i],
                              .distribution = planned->matrix[i].distribution,
                              .first_owner = planned->matrix[i].first_owner,
                              .shard = eqs_owned_state(&optimizer->parameter[p].matrix[i], list.index[s])->data};
    parameter->tensor[parameter->tensors++] =
        (eqs_checkpoint_tensor){.name = list.name[s], .matrices = assignment->count, .matrix = matrix};
  }
cleanup:
  return status;
}

eqs_status eqs_optimizer_contents(const eqs_optimizer *optimizer, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  int64_t parameters = optimizer->plan->parameters;
  eqs_attribute *attributes;
  *contents = (eqs_checkpoint_contents){
      .step = optimizer->step, .skipped = optimizer->skipped, .config = optimizer->config->text};
  EQS_TRY(eqs_contents_allocate(contents, &contents->parameter, parameters, sizeof *contents->parameter));
  EQS_TRY(eqs_contents_allocate(contents, &attributes, parameters * EQS_OPTIMIZER_ATTRIBUTES, sizeof *attributes));
  for (int64_t p = 0; p < parameters; p++) {
    const eqs_planned_parameter *planned = &optimizer->plan->parameter[p];
    eqs_checkpoint_parameter *parameter = &contents->parameter[p];
    *parameter = (eqs_checkpoint_parameter){.name = planned->info.name,
                                            .trainer_dtype = planned->info.dtype,
                                            .ndim = planned->info.ndim,
                                            .frozen = planned->info.frozen != 0,
                                            .aliases = planned->aliases,
                                            .alias = planned->alias};
    memcpy(parameter->shape, planned->info.shape, sizeof parameter->shape);
    describe(optimizer, p, parameter, attributes + p * EQS_OPTIMIZER_ATTRIBUTES);
    contents->parameters++;
    EQS_TRY(add_tensors(optimizer, p, contents));
  }
cleanup:
  if (status != EQS_OK) eqs_contents_free(contents);
  return status;
}
