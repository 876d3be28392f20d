#include "checkpoint/optimizer_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "checkpoint/compare.h"
#include "checkpoint/packed.h"
#include "checkpoint/tiles.h"
#include "dist/communicator.h"

enum { attribute_capacity = 32 };

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

/* The tensors that a parameter has in a checkpoint: their names, and where a matrix has them (eqs_owned_state). */
typedef struct {
  int count, index[EQS_MAX_TENSORS];
  const char *name[EQS_MAX_TENSORS];
} state_list;

static void add_state(state_list *list, int index, const char *name)
{
  list->index[list->count] = index;
  list->name[list->count++] = name;
}

static state_list list_states(const eqs_optimizer *optimizer, int64_t p)
{
  state_list list = {0};
  const eqs_rule_options *options = &optimizer->plan->parameter[p].assignment.options;
  const eqs_kept_state *kept = &optimizer->parameter[p].kept;
  add_state(&list, 0, "weight");
  for (int s = 0; s < kept->states; s++) add_state(&list, 1 + s, kept->state_name[s]);
  if (options->momentum != EQS_MOMENTUM_NONE) add_state(&list, 1, "momentum");
  for (int s = 0; s < options->rule->states; s++) add_state(&list, 2 + s, options->rule->state_names[s]);
  return list;
}

static eqs_status add_tensors(const eqs_optimizer *optimizer, int64_t p, eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  const eqs_planned_parameter *planned = &optimizer->plan->parameter[p];
  const eqs_assignment *assignment = &planned->assignment;
  state_list list = list_states(optimizer, p);
  for (int s = 0; s < list.count; s++) {
    eqs_tensor_matrix *matrices;
    EQS_TRY(eqs_allocate(&matrices, assignment->count, sizeof *matrices));
    for (int64_t i = 0; i < assignment->count; i++) {
      const eqs_matrix *state = eqs_owned_state(&optimizer->parameter[p].matrix[i], list.index[s]);
      matrices[i] = (eqs_tensor_matrix){.view = &assignment->views[i],
                                        .distribution = planned->matrix[i].distribution,
                                        .first_owner = planned->matrix[i].first_owner,
                                        .shard = state->data};
    }
    parameter->tensor[s].matrices = matrices;
    parameter->tensor[s].count = assignment->count;
    /* from the shape: a tensor without elements has no matrices */
    eqs_tensor_rows_cols(planned->info.ndim, planned->info.shape, &parameter->tensor[s].rows,
                         &parameter->tensor[s].cols);
    parameter->tensor_name[s] = list.name[s];
    parameter->tensors = s + 1;
  }
cleanup:
  return status;
}

typedef struct {
  eqs_checkpoint_contents contents;
  eqs_checkpoint_parameter *parameter;
  eqs_attribute *attributes;
} described;

static void forget(described *all)
{
  for (int64_t p = 0; all->parameter != NULL && p < all->contents.parameters; p++)
    for (int s = 0; s < all->parameter[p].tensors; s++) free((void *)all->parameter[p].tensor[s].matrices);
  free(all->parameter);
  free(all->attributes);
  *all = (described){0};
}

static eqs_status describe_all(const eqs_optimizer *optimizer, const eqs_checkpoint_item *items, int count,
                               described *all)
{
  eqs_status status = EQS_OK;
  int64_t parameters = optimizer->plan->parameters;
  *all = (described){.contents = {.step = optimizer->step,
                                  .skipped = optimizer->skipped,
                                  .config = optimizer->config->text,
                                  .parameters = parameters,
                                  .items = count,
                                  .item = items}};
  EQS_TRY(eqs_allocate(&all->parameter, parameters, sizeof *all->parameter));
  EQS_TRY(eqs_allocate(&all->attributes, parameters * attribute_capacity, sizeof *all->attributes));
  for (int64_t p = 0; p < parameters; p++) {
    const eqs_parameter_info *info = &optimizer->plan->parameter[p].info;
    eqs_checkpoint_parameter *parameter = &all->parameter[p];
    parameter->name = info->name;
    parameter->frozen = info->frozen != 0;
    parameter->aliases = optimizer->plan->parameter[p].aliases;
    parameter->alias = optimizer->plan->parameter[p].alias;
    parameter->trainer_dtype = info->dtype;
    parameter->ndim = info->ndim;
    memcpy(parameter->shape, info->shape, sizeof parameter->shape);
    describe(optimizer, p, parameter, all->attributes + p * attribute_capacity);
    EQS_TRY(add_tensors(optimizer, p, parameter));
  }
  all->contents.parameter = all->parameter;
cleanup:
  return status;
}

eqs_status eqs_optimizer_save(const eqs_optimizer *optimizer, const eqs_checkpoint_place *place, eqs_saver *saver,
                              const eqs_checkpoint_item *items, int count)
{
  described all;
  eqs_status status = eqs_agree(optimizer->owners, describe_all(optimizer, items, count, &all));
  if (status == EQS_OK)
    status = saver != NULL ? eqs_saver_begin(saver, place, &all.contents)
                           : eqs_checkpoint_save(optimizer->owners, place, &all.contents);
  forget(&all);
  return status;
}

eqs_status eqs_optimizer_write(const eqs_optimizer *optimizer, const char *file)
{
  described all;
  eqs_status status = eqs_agree(optimizer->owners, describe_all(optimizer, NULL, 0, &all));
  if (status == EQS_OK) status = eqs_checkpoint_write(optimizer->owners, file, &all.contents);
  forget(&all);
  return status;
}

/* What the first owner found, or why it found nothing, to all. *file is allocated on all. */
static eqs_status share_file(MPI_Comm owners, eqs_status found, char **file)
{
  eqs_status status = EQS_OK;
  int64_t length = 0;
  EQS_TRY(eqs_agree(owners, found));
  if (*file != NULL) length = (int64_t)strlen(*file) + 1;
  EQS_TRY(eqs_broadcast_block(owners, file, &length, 0, "the checkpoint's name"));
cleanup:
  return status;
}

/* The first owner finds the file; `in_directory`: others may lie beside it. */
static eqs_status find_together(MPI_Comm owners, const char *path, char **file, bool *in_directory)
{
  eqs_status status = EQS_OK;
  int rank;
  MPI_Comm_rank(owners, &rank);
  *file = NULL;
  EQS_TRY(share_file(owners, rank == 0 ? eqs_checkpoint_find(path, file) : EQS_OK, file));
  *in_directory = rank == 0 && strcmp(path, *file) != 0;
  EQS_TRY(eqs_broadcast(owners, in_directory, sizeof *in_directory, 0, "the kind of the checkpoint's path"));
cleanup:
  return status;
}

/* Instead of a damaged file the next older one of its directory, loudly. */
static eqs_status fall_back(MPI_Comm owners, const char *directory, char **file)
{
  eqs_status status = EQS_OK;
  char *older = NULL;
  int rank;
  MPI_Comm_rank(owners, &rank);
  EQS_TRY(share_file(owners, rank == 0 ? eqs_checkpoint_find_older(directory, *file, &older) : EQS_OK, &older));
  if (rank == 0) eqs_log(EQS_LOG_WARNING, "%s is DAMAGED; taking the older %s instead", *file, older);
  free(*file);
  *file = older;
  older = NULL;
cleanup:
  free(older);
  return status;
}

/* State back to zero: what a damaged file left there must not stay where an older one has nothing. */
static void forget_state(eqs_optimizer *optimizer)
{
  for (int64_t p = 0; p < optimizer->plan->parameters; p++) {
    eqs_optimizer_forget_kept(optimizer, p);
    state_list list = list_states(optimizer, p);
    for (int s = 1; s < list.count; s++)
      for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++) {
        const eqs_matrix *state = eqs_owned_state(&optimizer->parameter[p].matrix[i], list.index[s]);
        if (state->data == NULL) continue;
        memset(state->data, 0, (size_t)(state->local_rows * state->local_cols) * sizeof(float));
      }
  }
}

/* What is in a file, as the first owner reads it, on all. Collective. */
static eqs_status share_summary(MPI_Comm owners, const char *file, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  char *bytes = NULL;
  int64_t size = 0;
  int rank;
  MPI_Comm_rank(owners, &rank);
  EQS_TRY(eqs_agree(owners, rank == 0 ? eqs_checkpoint_pack(file, &bytes, &size) : EQS_OK));
  EQS_TRY(eqs_broadcast_block(owners, &bytes, &size, 0, "what is in the checkpoint"));
  EQS_TRY(eqs_agree(owners, eqs_summary_unpack(bytes, size, summary)));
cleanup:
  free(bytes);
  return status;
}

/* Whether a restart from a file can be made; its parameters get their new names. Not collective. */
static eqs_status fit_model(const eqs_optimizer *optimizer, const char *file, const described *all,
                            eqs_checkpoint_summary *summary)
{
  eqs_status status = eqs_checkpoint_rename(optimizer->config->checkpoint.rename, summary);
  if (status == EQS_OK) status = eqs_checkpoint_resolve_ties(summary, all->contents.parameters, all->parameter);
  if (status == EQS_OK)
    status =
        eqs_checkpoint_compare(summary, optimizer->config->checkpoint.partial,
                               optimizer->config->checkpoint.rename != NULL, all->contents.parameters, all->parameter);
  if (status != EQS_OK) eqs_fail_in(status, "%s", file);
  return status;
}

/* The tensors that are taken from the file, of the parameters that it has; `chosen` is allocated, its tensors are not.
 */
static eqs_status choose(const described *all, const eqs_checkpoint_summary *summary, eqs_checkpoint_parameter **chosen,
                         int64_t *count)
{
  eqs_status status = EQS_OK;
  *count = 0;
  EQS_TRY(eqs_allocate(chosen, all->contents.parameters, sizeof **chosen));
  for (int64_t p = 0; p < all->contents.parameters; p++) {
    const eqs_checkpoint_parameter *parameter = &all->parameter[p];
    const eqs_checkpoint_entry *entry = eqs_checkpoint_entry_find(summary, parameter->name);
    if (entry == NULL) continue;
    eqs_checkpoint_parameter *taken = &(*chosen)[(*count)++];
    *taken = *parameter;
    taken->tensors = 0;
    for (int t = 0; t < parameter->tensors; t++) {
      if (!eqs_checkpoint_takes(entry, parameter, t)) continue;
      taken->tensor[taken->tensors] = parameter->tensor[t];
      taken->tensor_name[taken->tensors++] = parameter->tensor_name[t];
    }
  }
cleanup:
  return status;
}

/* Steps taken come back. A parameter of which any state begins anew counts from 0, as bias corrections have to. */
static void restore_counts(eqs_optimizer *optimizer, const described *all, const eqs_checkpoint_summary *summary,
                           bool *absent)
{
  optimizer->step = summary->step;
  optimizer->skipped = summary->skipped;
  for (int64_t p = 0; p < all->contents.parameters; p++) {
    const eqs_checkpoint_parameter *parameter = &all->parameter[p];
    const eqs_checkpoint_entry *entry = eqs_checkpoint_entry_find(summary, parameter->name);
    bool whole = entry != NULL;
    for (int t = 0; t < parameter->tensors; t++) whole = whole && eqs_checkpoint_takes(entry, parameter, t);
    optimizer->parameter[p].step = whole ? entry->step : 0;
    absent[p] = entry == NULL;
  }
}

/* Frozen parameters get room for the state that the file has of them, whatever it is. Not collective. */
static eqs_status keep_state_of_frozen(eqs_optimizer *optimizer, const eqs_checkpoint_summary *summary, described *all)
{
  eqs_status status = EQS_OK;
  enum { most_attributes = attribute_capacity - 3 }; /* role, step, frozen */
  for (int64_t p = 0; p < optimizer->plan->parameters; p++) {
    const eqs_planned_parameter *planned = &optimizer->plan->parameter[p];
    const eqs_checkpoint_entry *entry = eqs_checkpoint_entry_find(summary, planned->info.name);
    char *name[EQS_MAX_KEPT];
    eqs_attribute attribute[most_attributes];
    int states = 0, attributes = 0;
    if (!planned->info.frozen || entry == NULL) continue;
    for (int t = 0; t < entry->tensors && states < EQS_MAX_KEPT; t++)
      if (strcmp(entry->tensor_name[t], "weight") != 0) name[states++] = entry->tensor_name[t];
    for (int a = 0; a < entry->attributes && attributes < most_attributes; a++)
      if (strcmp(entry->attribute[a].name, "frozen") != 0) attribute[attributes++] = entry->attribute[a];
    EQS_TRY(eqs_optimizer_keep(optimizer, p, states, name, attributes, attribute));
  }
  forget(all);
  EQS_TRY(describe_all(optimizer, NULL, 0, all));
cleanup:
  return status;
}

static eqs_status restore_file(eqs_optimizer *optimizer, const char *file, described *all,
                               eqs_checkpoint_summary *summary, bool *absent)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_parameter *chosen = NULL;
  int64_t count;
  int rank;
  MPI_Comm_rank(optimizer->owners, &rank);
  EQS_TRY(share_summary(optimizer->owners, file, summary));
  EQS_TRY(eqs_agree(optimizer->owners, fit_model(optimizer, file, all, summary)));
  EQS_TRY(eqs_agree(optimizer->owners, keep_state_of_frozen(optimizer, summary, all)));
  EQS_TRY(eqs_agree(optimizer->owners, choose(all, summary, &chosen, &count)));
  EQS_TRY(eqs_checkpoint_load(optimizer->owners, file, summary, count, chosen));
  restore_counts(optimizer, all, summary, absent);
  status = rank == 0 ? eqs_checkpoint_report(summary, all->contents.parameters, all->parameter) : EQS_OK;
  EQS_TRY(eqs_agree(optimizer->owners, status));
cleanup:
  free(chosen);
  return status;
}

eqs_status eqs_optimizer_restore(eqs_optimizer *optimizer, const char *path, eqs_checkpoint_summary *summary,
                                 bool *absent)
{
  eqs_status status = EQS_OK;
  described all = {0};
  char *file = NULL;
  bool in_directory;
  *summary = (eqs_checkpoint_summary){0};
  EQS_TRY(eqs_agree(optimizer->owners, describe_all(optimizer, NULL, 0, &all)));
  EQS_TRY(find_together(optimizer->owners, path, &file, &in_directory));
  while ((status = restore_file(optimizer, file, &all, summary, absent)) == EQS_DAMAGED && in_directory) {
    EQS_TRY(fall_back(optimizer->owners, path, &file));
    eqs_checkpoint_summary_free(summary);
    *summary = (eqs_checkpoint_summary){0};
    forget_state(optimizer);
  }
cleanup:
  free(file);
  forget(&all);
  return status;
}
