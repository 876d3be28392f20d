#include "checkpoint/compare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "checkpoint/suggest.h"
#include "checkpoint/summary.h"
#include "checkpoint/tiles.h"
#include "model/config.h"
#include "model/layout.h"

/* An entry under its new name, while the old one is still known. */
typedef struct {
  char *name;
  eqs_checkpoint_entry entry;
} renamed_entry;

static int by_new_name(const void *a, const void *b)
{
  const renamed_entry *left = a, *right = b;
  int order = strcmp(left->name, right->name);
  return order != 0 ? order : strcmp(left->entry.name, right->entry.name);
}

static eqs_status check_new_names(int64_t entries, const renamed_entry *renamed)
{
  for (int64_t e = 1; e < entries; e++)
    if (strcmp(renamed[e - 1].name, renamed[e].name) == 0)
      return eqs_fail(EQS_USAGE,
                      "the parameters %.200s and %.200s of the checkpoint are both taken as %.200s: give one of them "
                      "another name by `checkpoint: {rename: {PATTERN: NAME}}`",
                      renamed[e - 1].entry.name, renamed[e].entry.name, renamed[e].name);
  return EQS_OK;
}

eqs_status eqs_checkpoint_rename(const eqs_renames *renames, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  renamed_entry *renamed = NULL;
  if (summary->entries == 0) return EQS_OK;
  EQS_TRY(eqs_allocate(&renamed, summary->entries, sizeof *renamed));
  for (int64_t e = 0; e < summary->entries; e++) {
    renamed[e].entry = summary->entry[e];
    EQS_TRY(eqs_renames_apply(renames, summary->entry[e].name, &renamed[e].name));
  }
  qsort(renamed, (size_t)summary->entries, sizeof *renamed, by_new_name);
  EQS_TRY(check_new_names(summary->entries, renamed));
  for (int64_t e = 0; e < summary->entries; e++) {
    char *old = renamed[e].entry.name;
    summary->entry[e] = renamed[e].entry;
    summary->entry[e].name = renamed[e].name;
    renamed[e].name = old;
  }
cleanup:
  for (int64_t e = 0; renamed != NULL && e < summary->entries; e++) free(renamed[e].name);
  free(renamed);
  return status;
}

static int by_entry_name(const void *a, const void *b)
{
  const eqs_checkpoint_entry *left = a, *right = b;
  return strcmp(left->name, right->name);
}

/* name_of is of every entry the name that it gets, or NULL: entries are found as long as their names are in order. */
static void find_other_names(const eqs_checkpoint_summary *summary, int64_t parameters,
                             const eqs_checkpoint_parameter *parameter, const char **name_of)
{
  for (int64_t p = 0; p < parameters; p++) {
    const eqs_checkpoint_entry *entry = eqs_checkpoint_entry_find(summary, parameter[p].name);
    for (int64_t a = 0; a < parameter[p].aliases && entry == NULL; a++) {
      entry = eqs_checkpoint_entry_find(summary, parameter[p].alias[a]);
      if (entry != NULL) name_of[entry - summary->entry] = parameter[p].name;
    }
  }
}

eqs_status eqs_checkpoint_resolve_ties(eqs_checkpoint_summary *summary, int64_t parameters,
                                       const eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  const char **name_of = NULL;
  EQS_TRY(eqs_allocate(&name_of, summary->entries, sizeof *name_of));
  find_other_names(summary, parameters, parameter, name_of);
  for (int64_t e = 0; e < summary->entries; e++) {
    char *name;
    if (name_of[e] == NULL) continue;
    EQS_TRY(eqs_copy_text(&name, name_of[e]));
    free(summary->entry[e].name);
    summary->entry[e].name = name;
  }
  if (summary->entries > 0) qsort(summary->entry, (size_t)summary->entries, sizeof *summary->entry, by_entry_name);
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
} difference;

static void compare_shapes(const eqs_checkpoint_entry *entry, const eqs_checkpoint_parameter *parameter,
                           name_list *reshaped)
{
  char in_file[96], in_model[96], detail[224];
  if (eqs_checkpoint_entry_has_shape(entry, parameter->ndim, parameter->shape)) return;
  eqs_shape_brief(entry->ndim, entry->shape, in_file, sizeof in_file);
  eqs_shape_brief(parameter->ndim, parameter->shape, in_model, sizeof in_model);
  snprintf(detail, sizeof detail, ": %s, in the model %s", in_file, in_model);
  add_name(reshaped, entry->name, detail);
}

/* Both in alphabetical order, side by side. */
static eqs_status compare_all(const eqs_checkpoint_summary *summary, int64_t parameters,
                              const eqs_checkpoint_parameter *parameter, difference *found)
{
  eqs_status status = EQS_OK;
  const eqs_checkpoint_parameter **order = NULL;
  *found = (difference){0};
  EQS_TRY(eqs_parameter_order(parameters, parameter, &order));
  int64_t p = 0, e = 0;
  while (p < parameters || e < summary->entries) {
    const eqs_checkpoint_entry *entry = e < summary->entries ? &summary->entry[e] : NULL;
    int side = p == parameters ? 1 : entry == NULL ? -1 : strcmp(order[p]->name, entry->name);
    if (side < 0 && !order[p]->frozen) add_name(&found->missing, order[p]->name, "");
    if (side > 0) add_name(&found->superfluous, entry->name, "");
    if (side == 0) {
      found->common++;
      compare_shapes(entry, order[p], &found->reshaped);
    }
    if (side <= 0) p++;
    if (side >= 0) e++;
  }
cleanup:
  free(order);
  return status;
}

static void add_difference(char *text, size_t size, const name_list *list, const char *what, const char *advice)
{
  size_t length = strlen(text);
  if (list->count > 0)
    snprintf(text + length, size - length, "%s%s %s (%s)%s", length > 0 ? "; " : "", count_parameters(list->count).text,
             what, list->text, advice);
}

eqs_status eqs_checkpoint_compare(const eqs_checkpoint_summary *summary, bool partial, bool renamed, int64_t parameters,
                                  const eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  difference found;
  char text[1400] = "", renames[400] = "";
  EQS_TRY(compare_all(summary, parameters, parameter, &found));
  bool nothing = found.common == 0 && parameters + summary->entries > 0;
  if (!nothing && found.reshaped.count == 0 && (partial || found.missing.count == 0)) return EQS_OK;
  add_difference(text, sizeof text, &found.missing, "not in it",
                 partial || nothing ? "" : ", which `checkpoint: {partial: true}` would let begin anew");
  add_difference(text, sizeof text, &found.superfluous, "not in the model", "");
  add_difference(text, sizeof text, &found.reshaped, "of another shape", "");
  if (!renamed && found.reshaped.count == 0)
    EQS_TRY(eqs_checkpoint_suggest_renames(summary, parameters, parameter, renames, sizeof renames));
  status =
      eqs_fail(EQS_USAGE, "the checkpoint is of another model%s: %s%s%s%s", nothing ? ", with nothing in common" : "",
               text, renames[0] != '\0' ? "; if only names have changed, configure `checkpoint: {rename: " : "",
               renames, renames[0] != '\0' ? "}`" : "");
cleanup:
  return status;
}

static bool wants_tensor(const eqs_checkpoint_parameter *parameter, const char *tensor)
{
  for (int t = 0; t < parameter->tensors; t++)
    if (strcmp(parameter->tensor_name[t], tensor) == 0) return true;
  return false;
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

static tensor_fate fate_of(const eqs_checkpoint_entry *entry, const eqs_checkpoint_parameter *parameter, int t)
{
  const char *name = parameter->tensor_name[t];
  if (eqs_checkpoint_tensor_find(entry, name) < 0) return ABSENT;
  if (strcmp(name, "weight") == 0) return TAKEN;
  if (strcmp(name, "momentum") == 0)
    return eqs_momentum_same_buffer(momentum_kind(entry->attributes, entry->attribute),
                                    momentum_kind(parameter->attributes, parameter->attribute))
               ? TAKEN
               : OF_ANOTHER_KIND;
  for (int s = 0; s < parameter->tensors; s++)
    if (strcmp(parameter->tensor_name[s], "momentum") != 0 &&
        eqs_checkpoint_tensor_find(entry, parameter->tensor_name[s]) < 0)
      return INCOMPLETE;
  return TAKEN;
}

bool eqs_checkpoint_takes(const eqs_checkpoint_entry *entry, const eqs_checkpoint_parameter *parameter, int t)
{
  return entry != NULL && fate_of(entry, parameter, t) == TAKEN;
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

static eqs_status add_states(state_reports *all, const eqs_checkpoint_entry *entry,
                             const eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  for (int t = 0; t < parameter->tensors; t++) {
    tensor_fate fate = fate_of(entry, parameter, t);
    char detail[80] = "";
    if (fate == TAKEN) continue;
    if (fate == OF_ANOTHER_KIND)
      snprintf(detail, sizeof detail, ": %.30s, now %.30s", momentum_kind(entry->attributes, entry->attribute),
               momentum_kind(parameter->attributes, parameter->attribute));
    EQS_TRY(add_state(all, parameter->tensor_name[t], fate, parameter->name, detail));
  }
  for (int t = 0; t < entry->tensors; t++)
    if (!wants_tensor(parameter, entry->tensor_name[t]))
      EQS_TRY(add_state(all, entry->tensor_name[t], UNUSED, parameter->name, ""));
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

static void warn_of_parameters(const difference *found)
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
static bool has_only_weights(const eqs_checkpoint_summary *summary)
{
  for (int64_t e = 0; e < summary->entries; e++)
    if (summary->entry[e].tensors > 1) return false;
  return true;
}

eqs_status eqs_checkpoint_report(const eqs_checkpoint_summary *summary, int64_t parameters,
                                 const eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  difference found;
  state_reports states = {0};
  EQS_TRY(compare_all(summary, parameters, parameter, &found));
  warn_of_parameters(&found);
  for (int64_t p = 0; p < parameters; p++) {
    const eqs_checkpoint_entry *entry = eqs_checkpoint_entry_find(summary, parameter[p].name);
    if (entry != NULL) EQS_TRY(add_states(&states, entry, &parameter[p]));
  }
  if (states.count > 0 && has_only_weights(summary))
    eqs_log(EQS_LOG_INFO, "the checkpoint has weights alone; the optimizer's state starts at zero");
  else
    for (int64_t i = 0; i < states.count; i++) warn_of_state(&states.report[i]);
cleanup:
  free(states.report);
  return status;
}
