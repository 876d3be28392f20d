#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arguments.h"
#include "checkpoint/directory.h"
#include "checkpoint/read_contents.h"
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

static int64_t elements_of(const eqs_checkpoint_parameter *parameter)
{
  int64_t elements = 1;
  for (int d = 0; d < parameter->ndim; d++) elements *= parameter->shape[d];
  return elements;
}

static const eqs_attribute *find_attribute(const eqs_checkpoint_parameter *parameter, const char *name)
{
  for (int a = 0; a < parameter->attributes; a++)
    if (strcmp(parameter->attribute[a].name, name) == 0) return &parameter->attribute[a];
  return NULL;
}

/* An attribute's value in words; "-" if there is none. */
static const char *describe_attribute(const eqs_checkpoint_parameter *parameter, const char *name, char *text,
                                      size_t size)
{
  eqs_describe_attribute(find_attribute(parameter, name), text, size);
  return text;
}

static bool is_frozen(const eqs_checkpoint_parameter *parameter)
{
  const eqs_attribute *frozen = find_attribute(parameter, "frozen");
  return frozen != NULL && frozen->kind == EQS_ATTRIBUTE_INTEGER && frozen->integer != 0;
}

static void print_tensors(const eqs_checkpoint_parameter *parameter)
{
  for (int t = 0; t < parameter->tensors; t++) printf("%s%s", t > 0 ? " " : "", parameter->tensor[t].name);
  printf("\n");
}

static void print_table(const char *file, int64_t bytes, int64_t elements, const eqs_checkpoint_contents *contents)
{
  int width = (int)strlen("parameter");
  for (int64_t p = 0; p < contents->parameters; p++) {
    int length = (int)strlen(contents->parameter[p].name);
    if (length > width) width = length;
  }
  printf("file        %s\n", file);
  printf("step        %" PRId64 " (%" PRId64 " skipped)\n", contents->step, contents->skipped);
  printf("created     %s\n", contents->created);
  printf("version     format %" PRId64 ", Equishard %s\n", contents->version, contents->equishard_version);
  printf("size        %.1f MiB\n", (double)bytes / (1 << 20));
  printf("parameters  %" PRId64 ", %" PRId64 " elements\n", contents->parameters, elements);
  printf("trainer    ");
  for (int i = 0; i < contents->items; i++)
    printf(" %s (%zu bytes)%s", contents->item[i].key, contents->item[i].size, i + 1 < contents->items ? "," : "");
  printf("%s\n\n", contents->items == 0 ? " -" : "");

  printf("%-*s  %-16s %-16s %-14s %-10s %s\n", width, "parameter", "shape", "role", "rule", "lr", "tensors");
  for (int64_t p = 0; p < contents->parameters; p++) {
    const eqs_checkpoint_parameter *parameter = &contents->parameter[p];
    char shape[192], role[32], rule[32], lr[32];
    eqs_shape_brief(parameter->ndim, parameter->shape, shape, sizeof shape);
    printf("%-*s  %-16s %-16s %-14s %-10s ", width, parameter->name, shape,
           describe_attribute(parameter, "role", role, sizeof role),
           describe_attribute(parameter, "rule", rule, sizeof rule),
           is_frozen(parameter) ? "frozen" : describe_attribute(parameter, "lr", lr, sizeof lr));
    print_tensors(parameter);
  }
}

static json_t *json_parameter(const eqs_checkpoint_parameter *parameter)
{
  json_t *attributes = json_object(), *tensors = json_array(), *object = json_object();
  for (int a = 0; a < parameter->attributes; a++)
    json_object_set_new_nocheck(attributes, parameter->attribute[a].name, eqs_json_attribute(&parameter->attribute[a]));
  for (int t = 0; t < parameter->tensors; t++) json_array_append_new(tensors, eqs_json_text(parameter->tensor[t].name));
  json_object_set_new(object, "name", eqs_json_text(parameter->name));
  json_object_set_new(object, "shape", eqs_json_shape(parameter));
  json_object_set_new(object, "trainer_dtype", eqs_json_text(eqs_dtype_name(parameter->trainer_dtype)));
  json_object_set_new(object, "tensors", tensors);
  json_object_set_new(object, "attributes", attributes);
  return object;
}

static void print_json(const char *file, int64_t bytes, int64_t elements, const eqs_checkpoint_contents *contents)
{
  json_t *object = json_object(), *trainer = json_object(), *parameters = json_array();
  for (int i = 0; i < contents->items; i++)
    json_object_set_new_nocheck(trainer, contents->item[i].key, json_integer((json_int_t)contents->item[i].size));
  for (int64_t p = 0; p < contents->parameters; p++)
    json_array_append_new(parameters, json_parameter(&contents->parameter[p]));
  json_object_set_new(object, "file", eqs_json_text(file));
  json_object_set_new(object, "step", json_integer(contents->step));
  json_object_set_new(object, "skipped", json_integer(contents->skipped));
  json_object_set_new(object, "created", eqs_json_text(contents->created));
  json_object_set_new(object, "format_version", json_integer(contents->version));
  json_object_set_new(object, "equishard_version", eqs_json_text(contents->equishard_version));
  json_object_set_new(object, "bytes", json_integer(bytes));
  json_object_set_new(object, "elements", json_integer(elements));
  json_object_set_new(object, "trainer", trainer);
  json_object_set_new(object, "config", eqs_json_text(contents->config));
  json_object_set_new(object, "parameters", parameters);
  json_dumpf(object, stdout, JSON_INDENT(2));
  printf("\n");
  json_decref(object);
}

static eqs_status inspect(const char *path, bool json)
{
  char *file = NULL;
  eqs_checkpoint_contents contents = {0};
  struct stat about = {0};
  int64_t elements = 0;
  eqs_status status = eqs_checkpoint_find(path, &file);
  if (status == EQS_OK) status = eqs_contents_read(file, &contents);
  if (status == EQS_OK) {
    eqs_contents_warn_if_changed(file, &contents);
    stat(file, &about);
    for (int64_t p = 0; p < contents.parameters; p++) elements += elements_of(&contents.parameter[p]);
    (json ? print_json : print_table)(file, about.st_size, elements, &contents);
  }
  eqs_contents_free(&contents);
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
