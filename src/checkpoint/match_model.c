#include "checkpoint/match_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "checkpoint/suggest.h"
#include "model/config.h"
#include "model/layout.h"

static int by_name(const void *a, const void *b)
{
  return strcmp(((const eqs_checkpoint_parameter *)a)->name, ((const eqs_checkpoint_parameter *)b)->name);
}

static void sort_by_name(eqs_checkpoint_contents *stored)
{
  if (stored->parameters > 0) qsort(stored->parameter, (size_t)stored->parameters, sizeof *stored->parameter, by_name);
}

/* The new name of a parameter, and the old one. */
typedef struct {
  int64_t parameter;
  const char *name, *old;
} new_name;

static int by_new_name(const void *a, const void *b)
{
  const new_name *left = a, *right = b;
  int order = strcmp(left->name, right->name);
  return order != 0 ? order : strcmp(left->old, right->old);
}

static eqs_status check_new_names(int64_t count, new_name *name)
{
  qsort(name, (size_t)count, sizeof *name, by_new_name);
  for (int64_t p = 1; p < count; p++)
    if (strcmp(name[p - 1].name, name[p].name) == 0)
      return eqs_fail(EQS_USAGE,
                      "parameters '%.200s' and '%.200s' of the checkpoint are both taken as '%.200s': give one of them "
                      "another name by `checkpoint: {rename: {PATTERN: NAME}}`",
                      name[p - 1].old, name[p].old, name[p].name);
  return EQS_OK;
}

eqs_status eqs_match_rename(const eqs_renames *renames, eqs_checkpoint_contents *stored)
{
  eqs_status status = EQS_OK;
  new_name *list = NULL;
  if (stored->parameters == 0) return EQS_OK;
  EQS_TRY(eqs_allocate(&list, stored->parameters, sizeof *list));
  for (int64_t p = 0; p < stored->parameters; p++) {
    char *name;
    EQS_TRY(eqs_renames_apply(renames, stored->parameter[p].name, &name));
    EQS_TRY(eqs_contents_own(stored, name));
    list[p] = (new_name){.parameter = p, .name = name, .old = stored->parameter[p].name};
  }
  EQS_TRY(check_new_names(stored->parameters, list));
  for (int64_t i = 0; i < stored->parameters; i++) stored->parameter[list[i].parameter].name = list[i].name;
  sort_by_name(stored);
cleanup:
  free(list);
  return status;
}

/* By parameter of the file, the name that it gets, or NULL. Its names stay in order while parameters are looked up. */
static void find_other_names(const eqs_checkpoint_contents *stored, const eqs_checkpoint_contents *model,
                             const char **name_of)
{
  for (int64_t p = 0; p < model->parameters; p++) {
    const eqs_checkpoint_parameter *parameter = &model->parameter[p];
    const eqs_checkpoint_parameter *found = eqs_contents_find(stored, parameter->name);
    for (int64_t a = 0; a < parameter->aliases && found == NULL; a++) {
      found = eqs_contents_find(stored, parameter->alias[a]);
      if (found != NULL) name_of[found - stored->parameter] = parameter->name;
    }
  }
}

eqs_status eqs_match_ties(eqs_checkpoint_contents *stored, const eqs_checkpoint_contents *model)
{
  eqs_status status = EQS_OK;
  const char **name_of = NULL;
  EQS_TRY(eqs_allocate(&name_of, stored->parameters, sizeof *name_of));
  find_other_names(stored, model, name_of);
  for (int64_t p = 0; p < stored->parameters; p++) {
    char *name;
    if (name_of[p] == NULL) continue;
    EQS_TRY(eqs_copy_text(&name, name_of[p]));
    EQS_TRY(eqs_contents_own(stored, name));
    stored->parameter[p].name = name;
  }
  sort_by_name(stored);
cleanup:
  free(name_of);
  return status;
}

/* Names of parameters: the first few, and how many. */
typedef struct {
  int64_t count;
  char text[512];
} name_list;

static void add_name(name_list *list, const char *name, const char *detail)
{
  enum { shown = 4 };
  size_t length = strlen(list->text);
  if (list->count++ < shown)
    snprintf(list->text + length, sizeof list->text - length, "%s%.80s%s", length > 0 ? ", " : "", name, detail);
  else if (list->count == shown + 1)
    snprintf(list->text + length, sizeof list->text - length, ", ...");
}

/* "1 parameter", "12 parameters". */
typedef struct {
  char text[40];
} counted;

static counted count_parameters(int64_t count)
{
  counted made;
  snprintf(made.text, sizeof made.text, "%lld parameter%s", (long long)count, count == 1 ? "" : "s");
  return made;
}

static const char *is_or_are(int64_t count)
{
  return count == 1 ? "is" : "are";
}

typedef struct {
  int64_t common;
  name_list missing, superfluous, reshaped;
} match;

static void compare_shapes(const eqs_checkpoint_parameter *stored, const eqs_checkpoint_parameter *parameter,
                           name_list *reshaped)
{
  char in_file[96], in_model[96], detail[224];
  if (eqs_parameter_has_shape(stored, parameter->ndim, parameter->shape)) return;
  eqs_shape_brief(stored->ndim, stored->shape, in_file, sizeof in_file);
  eqs_shape_brief(parameter->ndim, parameter->shape, in_model, sizeof in_model);
  snprintf(detail, sizeof detail, ": %s, in the model %s", in_file, in_model);
  add_name(reshaped, stored->name, detail);
}

/* Both in alphabetical order, side by side. */
static eqs_status match_all(const eqs_checkpoint_contents *stored, const eqs_checkpoint_contents *model, match *found)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_contents sorted = {0};
  *found = (match){0};
  EQS_TRY(eqs_contents_sort(model, &sorted));
  int64_t p = 0, s = 0;
  while (p < sorted.parameters || s < stored->parameters) {
    const eqs_checkpoint_parameter *parameter = p < sorted.parameters ? &sorted.parameter[p] : NULL;
    const eqs_checkpoint_parameter *in_file = s < stored->parameters ? &stored->parameter[s] : NULL;
    int side = parameter == NULL ? 1 : in_file == NULL ? -1 : strcmp(parameter->name, in_file->name);
    if (side < 0 && !parameter->frozen) add_name(&found->missing, parameter->name, "");
    if (side > 0) add_name(&found->superfluous, in_file->name, "");
    if (side == 0) {
      found->common++;
      compare_shapes(in_file, parameter, &found->reshaped);
    }
    if (side <= 0) p++;
    if (side >= 0) s++;
  }
cleanup:
  eqs_contents_free(&sorted);
  return status;
}

static void add_obstacle(char *text, size_t size, const name_list *list, const char *what, const char *advice)
{
  size_t length = strlen(text);
  if (list->count > 0)
    snprintf(text + length, size - length, "%s%s %s (%s)%s", length > 0 ? "; " : "", count_parameters(list->count).text,
             what, list->text, advice);
}

eqs_status eqs_match_check(const eqs_checkpoint_contents *stored, bool partial, bool renamed,
                           const eqs_checkpoint_contents *model)
{
  eqs_status status = EQS_OK;
  match found;
  char text[1400] = "", renames[400] = "";
  EQS_TRY(match_all(stored, model, &found));
  bool nothing = found.common == 0 && model->parameters + stored->parameters > 0;
  if (!nothing && found.reshaped.count == 0 && (partial || found.missing.count == 0)) return EQS_OK;
  add_obstacle(text, sizeof text, &found.missing, "not in it",
               partial || nothing ? "" : ", which `checkpoint: {partial: true}` initializes afresh");
  add_obstacle(text, sizeof text, &found.superfluous, "not in the model", "");
  add_obstacle(text, sizeof text, &found.reshaped, "of another shape", "");
  if (!renamed && found.reshaped.count == 0) EQS_TRY(eqs_suggest_renames(stored, model, renames, sizeof renames));
  status =
      eqs_fail(EQS_USAGE, "the checkpoint is of another model%s: %s%s%s%s", nothing ? ", with nothing in common" : "",
               text, renames[0] != '\0' ? "; if only names have changed, configure `checkpoint: {rename: " : "",
               renames, renames[0] != '\0' ? "}`" : "");
cleanup:
  return status;
}

/* The kind of a parameter's momentum; "" if it has none, which is how a file's may look that another program made. */
static const char *momentum_kind(int attributes, const eqs_attribute *attribute)
{
  for (int a = 0; a < attributes; a++)
    if (attribute[a].kind == EQS_ATTRIBUTE_TEXT && strcmp(attribute[a].name, "momentum") == 0) return attribute[a].text;
  return "";
}

/* Why a tensor is not taken. */
typedef enum { TAKEN, ABSENT, OF_ANOTHER_KIND, INCOMPLETE, UNUSED } tensor_fate;

static tensor_fate fate_of(const eqs_checkpoint_parameter *stored, const eqs_checkpoint_parameter *parameter, int t)
{
  const char *name = parameter->tensor[t].name;
  if (eqs_parameter_find_tensor(stored, name) == NULL) return ABSENT;
  if (strcmp(name, "weight") == 0) return TAKEN;
  if (strcmp(name, "momentum") == 0)
    return eqs_momentum_same_buffer(momentum_kind(stored->attributes, stored->attribute),
                                    momentum_kind(parameter->attributes, parameter->attribute))
               ? TAKEN
               : OF_ANOTHER_KIND;
  for (int s = 0; s < parameter->tensors; s++)
    if (strcmp(parameter->tensor[s].name, "momentum") != 0 &&
        eqs_parameter_find_tensor(stored, parameter->tensor[s].name) == NULL)
      return INCOMPLETE;
  return TAKEN;
}

bool eqs_match_takes(const eqs_checkpoint_parameter *stored, const eqs_checkpoint_parameter *parameter, int t)
{
  return stored != NULL && fate_of(stored, parameter, t) == TAKEN;
}

/* What became of the tensors of one name. */
typedef struct {
  const char *tensor;
  tensor_fate fate;
  name_list parameters;
} state_report;

typedef struct {
  int64_t count;
  state_report *report;
} state_reports;

static eqs_status add_state(state_reports *all, const char *tensor, tensor_fate fate, const char *parameter,
                            const char *detail)
{
  enum { most = 16 }; /* tensors of all rules have fewer names; a foreign file's beyond these are not listed */
  eqs_status status = EQS_OK;
  int64_t i = 0;
  while (i < all->count && (all->report[i].fate != fate || strcmp(all->report[i].tensor, tensor) != 0)) i++;
  if (i == most) return EQS_OK;
  if (i == all->count) {
    EQS_TRY(eqs_grow(&all->report, all->count, sizeof *all->report));
    all->report[all->count++] = (state_report){.tensor = tensor, .fate = fate};
  }
  add_name(&all->report[i].parameters, parameter, detail);
cleanup:
  return status;
}

static eqs_status add_states(state_reports *all, const eqs_checkpoint_parameter *stored,
                             const eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  for (int t = 0; t < parameter->tensors; t++) {
    tensor_fate fate = fate_of(stored, parameter, t);
    char detail[80] = "";
    if (fate == TAKEN) continue;
    if (fate == OF_ANOTHER_KIND)
      snprintf(detail, sizeof detail, ": %.30s, now %.30s", momentum_kind(stored->attributes, stored->attribute),
               momentum_kind(parameter->attributes, parameter->attribute));
    EQS_TRY(add_state(all, parameter->tensor[t].name, fate, parameter->name, detail));
  }
  for (int t = 0; t < stored->tensors; t++)
    if (eqs_parameter_find_tensor(parameter, stored->tensor[t].name) == NULL)
      EQS_TRY(add_state(all, stored->tensor[t].name, UNUSED, parameter->name, ""));
cleanup:
  return status;
}

static void warn_of_state(const state_report *report)
{
  static const char *const why[] = {[ABSENT] = "the checkpoint has none",
                                    [OF_ANOTHER_KIND] = "the checkpoint's is of another kind",
                                    [INCOMPLETE] = "the checkpoint does not have all that belongs to it"};
  const char *parameters = report->parameters.text;
  counted count = count_parameters(report->parameters.count);
  if (report->fate == UNUSED)
    eqs_log(EQS_LOG_WARNING, "%s of %s (%s) is not used", report->tensor, count.text, parameters);
  else
    eqs_log(EQS_LOG_WARNING, "%s starts at zero for %s (%s): %s", report->tensor, count.text, parameters,
            why[report->fate]);
}

static void warn_of_parameters(const match *found)
{
  const name_list *missing = &found->missing, *superfluous = &found->superfluous;
  if (superfluous->count > 0)
    eqs_log(EQS_LOG_WARNING,
            "%s of the checkpoint %s not in the model (%s): what it has of them stays in that file only",
            count_parameters(superfluous->count).text, is_or_are(superfluous->count), superfluous->text);
  if (missing->count > 0)
    eqs_log(EQS_LOG_WARNING, "%s %s not in the checkpoint (%s): initial weights, state at zero",
            count_parameters(missing->count).text, is_or_are(missing->count), missing->text);
}

/* Whether a file has no optimizer's state of any parameter: initial weights. */
static bool has_only_weights(const eqs_checkpoint_contents *stored)
{
  for (int64_t p = 0; p < stored->parameters; p++)
    if (stored->parameter[p].tensors > 1) return false;
  return true;
}

eqs_status eqs_match_report(const eqs_checkpoint_contents *stored, const eqs_checkpoint_contents *model)
{
  eqs_status status = EQS_OK;
  match found;
  state_reports states = {0};
  EQS_TRY(match_all(stored, model, &found));
  warn_of_parameters(&found);
  for (int64_t p = 0; p < model->parameters; p++) {
    const eqs_checkpoint_parameter *in_file = eqs_contents_find(stored, model->parameter[p].name);
    if (in_file != NULL) EQS_TRY(add_states(&states, in_file, &model->parameter[p]));
  }
  if (states.count > 0 && has_only_weights(stored))
    eqs_log(EQS_LOG_INFO, "the checkpoint has weights alone; the optimizer's state starts at zero");
  else
    for (int64_t i = 0; i < states.count; i++) warn_of_state(&states.report[i]);
cleanup:
  free(states.report);
  return status;
}
