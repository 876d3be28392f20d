#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arguments.h"
#include "checkpoint/checkpoint.h"
#include "cli/command.h"
#include "cli/description.h"
#include "cli/inspect_diff.h"
#include "dist/communicator.h"
#include "model/layout.h"

typedef struct {
  int paths;
  const char *path[2];
  bool diff, json;
} inspect_options;

static error_t parse(int key, char *argument, struct argp_state *state)
{
  inspect_options *options = state->input;
  switch (key) {
  case 'd': options->diff = true; return 0;
  case 'f':
    options->json = strcmp(argument, "json") == 0;
    if (options->json || strcmp(argument, "table") == 0) return 0;
    argp_error(state, "--format is table or json, not %s", argument);
    return EINVAL;
  case ARGP_KEY_ARG:
    if (options->paths < 2) options->path[options->paths] = argument;
    options->paths++;
    return 0;
  case ARGP_KEY_END:
    if (options->paths == (options->diff ? 2 : 1)) return 0;
    argp_error(state, options->diff         ? "--diff compares two checkpoints"
                      : options->paths == 0 ? "a FILE or DIRECTORY is missing"
                                            : "one checkpoint at a time, or two with --diff");
    return EINVAL;
  default: return ARGP_ERR_UNKNOWN;
  }
}

static int64_t elements_of(const eqs_checkpoint_entry *entry)
{
  int64_t elements = 1;
  for (int d = 0; d < entry->ndim; d++) elements *= entry->shape[d];
  return elements;
}

static const eqs_attribute *find_attribute(const eqs_checkpoint_entry *entry, const char *name)
{
  for (int a = 0; a < entry->attributes; a++)
    if (strcmp(entry->attribute[a].name, name) == 0) return &entry->attribute[a];
  return NULL;
}

/* An attribute's value in words; "-" if there is none. */
static const char *describe_attribute(const eqs_checkpoint_entry *entry, const char *name, char *text, size_t size)
{
  eqs_describe_attribute(find_attribute(entry, name), text, size);
  return text;
}

static bool is_frozen(const eqs_checkpoint_entry *entry)
{
  const eqs_attribute *frozen = find_attribute(entry, "frozen");
  return frozen != NULL && frozen->kind == EQS_ATTRIBUTE_INTEGER && frozen->integer != 0;
}

static void print_tensors(const eqs_checkpoint_entry *entry)
{
  for (int t = 0; t < entry->tensors; t++) printf("%s%s", t > 0 ? " " : "", entry->tensor_name[t]);
  printf("\n");
}

static void print_table(const char *file, int64_t bytes, int64_t elements, const eqs_checkpoint_summary *summary)
{
  int width = (int)strlen("parameter");
  for (int64_t e = 0; e < summary->entries; e++) {
    int length = (int)strlen(summary->entry[e].name);
    if (length > width) width = length;
  }
  printf("file        %s\n", file);
  printf("step        %" PRId64 " (%" PRId64 " skipped)\n", summary->step, summary->skipped);
  printf("created     %s\n", summary->created);
  printf("version     format %" PRId64 ", Equishard %s\n", summary->version, summary->equishard_version);
  printf("size        %.1f MiB\n", (double)bytes / (1 << 20));
  printf("parameters  %" PRId64 ", %" PRId64 " elements\n", summary->entries, elements);
  printf("trainer    ");
  for (int i = 0; i < summary->items; i++)
    printf(" %s (%zu bytes)%s", summary->item[i].key, summary->item[i].size, i + 1 < summary->items ? "," : "");
  printf("%s\n\n", summary->items == 0 ? " -" : "");

  printf("%-*s  %-16s %-16s %-14s %-10s %s\n", width, "parameter", "shape", "role", "rule", "lr", "tensors");
  for (int64_t e = 0; e < summary->entries; e++) {
    const eqs_checkpoint_entry *entry = &summary->entry[e];
    char shape[192], role[32], rule[32], lr[32];
    eqs_shape_brief(entry->ndim, entry->shape, shape, sizeof shape);
    printf("%-*s  %-16s %-16s %-14s %-10s ", width, entry->name, shape,
           describe_attribute(entry, "role", role, sizeof role), describe_attribute(entry, "rule", rule, sizeof rule),
           is_frozen(entry) ? "frozen" : describe_attribute(entry, "lr", lr, sizeof lr));
    print_tensors(entry);
  }
}

static json_t *json_entry(const eqs_checkpoint_entry *entry)
{
  json_t *attributes = json_object(), *tensors = json_array(), *object = json_object();
  for (int a = 0; a < entry->attributes; a++)
    json_object_set_new_nocheck(attributes, entry->attribute[a].name, eqs_json_attribute(&entry->attribute[a]));
  for (int t = 0; t < entry->tensors; t++) json_array_append_new(tensors, eqs_json_text(entry->tensor_name[t]));
  json_object_set_new(object, "name", eqs_json_text(entry->name));
  json_object_set_new(object, "shape", eqs_json_shape(entry));
  json_object_set_new(object, "trainer_dtype", eqs_json_text(eqs_dtype_name(entry->trainer_dtype)));
  json_object_set_new(object, "tensors", tensors);
  json_object_set_new(object, "attributes", attributes);
  return object;
}

static void print_json(const char *file, int64_t bytes, int64_t elements, const eqs_checkpoint_summary *summary)
{
  json_t *object = json_object(), *trainer = json_object(), *parameters = json_array();
  for (int i = 0; i < summary->items; i++)
    json_object_set_new_nocheck(trainer, summary->item[i].key, json_integer((json_int_t)summary->item[i].size));
  for (int64_t e = 0; e < summary->entries; e++) json_array_append_new(parameters, json_entry(&summary->entry[e]));
  json_object_set_new(object, "file", eqs_json_text(file));
  json_object_set_new(object, "step", json_integer(summary->step));
  json_object_set_new(object, "skipped", json_integer(summary->skipped));
  json_object_set_new(object, "created", eqs_json_text(summary->created));
  json_object_set_new(object, "format_version", json_integer(summary->version));
  json_object_set_new(object, "equishard_version", eqs_json_text(summary->equishard_version));
  json_object_set_new(object, "bytes", json_integer(bytes));
  json_object_set_new(object, "elements", json_integer(elements));
  json_object_set_new(object, "trainer", trainer);
  json_object_set_new(object, "config", eqs_json_text(summary->config));
  json_object_set_new(object, "parameters", parameters);
  json_dumpf(object, stdout, JSON_INDENT(2));
  printf("\n");
  json_decref(object);
}

static eqs_status inspect(const char *path, bool json)
{
  char *file = NULL;
  eqs_checkpoint_summary summary = {0};
  struct stat about = {0};
  int64_t elements = 0;
  eqs_status status = eqs_checkpoint_find(path, &file);
  if (status == EQS_OK) status = eqs_checkpoint_summarize(file, &summary);
  if (status == EQS_OK) {
    eqs_checkpoint_warn_if_changed(file, &summary);
    stat(file, &about);
    for (int64_t e = 0; e < summary.entries; e++) elements += elements_of(&summary.entry[e]);
    (json ? print_json : print_table)(file, about.st_size, elements, &summary);
  }
  eqs_checkpoint_summary_free(&summary);
  free(file);
  return status;
}

eqs_status eqs_command_inspect(int argc, char **argv)
{
  static const struct argp_option options[] = {
      {"diff", 'd', NULL, 0, "Compare two checkpoints, values and all", 0},
      {"format", 'f', "FORMAT", 0, "table (the default) or json", 0},
      {0},
  };
  static const struct argp argp = {
      .options = options,
      .parser = parse,
      .args_doc = "FILE|DIRECTORY\n--diff A B",
      .doc = "Print what is in a checkpoint: step, time, versions, the trainer's data, and every parameter with its "
             "shape, role, rule, learning rate and tensors. In a DIRECTORY it is the checkpoint that `latest' names."
             "\vThe values are not read; `equishard verify' checks them.\n\n"
             "With --diff, what differs between two checkpoints: step, configuration, the trainer's data, parameters, "
             "shapes, attributes, and of every tensor that both have how many elements have other bits, max |a - b| "
             "and ||a - b|| / ||b|| (Frobenius norms), the largest first. Elements that are NaN or infinite on a side "
             "are counted apart. All checksums are verified on the way. The last line is `the same' or `N of M "
             "tensors differ'; the exit status is 0 for both.\n\n"
             "Example:\n  equishard inspect runs/example/checkpoints --format json\n"
             "  equishard inspect --diff runs/a/checkpoints runs/b/checkpoints\n"};
  inspect_options chosen = {0};
  bool done;
  eqs_status status = eqs_parse_arguments(&argp, argc, argv, eqs_world_rank() == 0, &chosen, &done);
  if (status != EQS_OK || done) return status;
  if (eqs_world_rank() == 0)
    status = chosen.diff ? eqs_inspect_difference(chosen.path[0], chosen.path[1], chosen.json)
                         : inspect(chosen.path[0], chosen.json);
  return eqs_share_status(status);
}
