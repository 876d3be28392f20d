#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/arguments.h"
#include "cli/command.h"
#include "dist/communicator.h"
#include "model/config.h"
#include "rules/rules.h"

static const char documentation[] =
    "List what a configuration can say: the update rules with their keys and defaults, the keys of a group, those of "
    "the "
    "other mappings, and the names that a value can be. The lists are those by which configurations are read.\v"
    "--format json prints one object. \"rules\": an array of objects with name, about, and \"keys\", from each key "
    "that "
    "groups of the rule have to its default, null where there is none or where it follows from the parameter or the "
    "model. \"keys\": an array of objects with name, about, and value, the form of what it is set to. \"values\": from "
    "a "
    "key to the array of its names. \"mappings\": from a mapping of the configuration to the array of its keys.\n\n"
    "Example:\n"
    "  equishard rules\n"
    "  equishard rules --format json";

static const struct argp_option options[] = {
    {"format", 'f', "table|json", 0, "a table, or one object (default table)", 0},
    {0},
};

static error_t parse(int key, char *value, struct argp_state *state)
{
  bool *json = state->input;
  if (key == ARGP_KEY_ARG) {
    argp_error(state, "unexpected argument %s", value);
    return EINVAL;
  }
  if (key != 'f') return ARGP_ERR_UNKNOWN;
  if (strcmp(value, "json") != 0 && strcmp(value, "table") != 0) {
    argp_error(state, "--format must be table or json, is %s", value);
    return EINVAL;
  }
  *json = strcmp(value, "json") == 0;
  return 0;
}

static json_t *array_of(const char *const *names, int count)
{
  json_t *array = json_array();
  for (int i = 0; i < count; i++) json_array_append_new(array, json_string(names[i]));
  return array;
}

/* Numbers, truth values and lists are JSON as they stand; names are not. */
static json_t *json_of_default(const char *text)
{
  json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
  return value != NULL ? value : json_string(text);
}

static json_t *describe_rule(const eqs_rule *rule)
{
  json_t *keys = json_object();
  char text[200];
  for (int key = 0; key < EQS_GROUP_KEYS; key++) {
    if (!eqs_group_key_used(rule, (eqs_group_key_index)key)) continue;
    bool known = eqs_group_key_default(rule, (eqs_group_key_index)key, text, sizeof text);
    json_object_set_new(keys, eqs_group_keys[key].name, known ? json_of_default(text) : json_null());
  }
  return json_pack("{s:s, s:s, s:o}", "name", rule->name, "about", rule->about, "keys", keys);
}

static json_t *describe_all(void)
{
  json_t *rules = json_array(), *keys = json_array(), *values = json_object(), *mappings = json_object();
  json_t *rule_names = json_array();
  for (int i = 0; eqs_rule_at(i) != NULL; i++) {
    json_array_append_new(rules, describe_rule(eqs_rule_at(i)));
    json_array_append_new(rule_names, json_string(eqs_rule_at(i)->name));
  }
  for (int i = 0; i < EQS_GROUP_KEYS; i++) {
    const eqs_group_key *key = &eqs_group_keys[i];
    json_array_append_new(keys,
                          json_pack("{s:s, s:s, s:s}", "name", key->name, "about", key->about, "value", key->form));
    if (key->choice != NULL) json_object_set_new(values, key->name, array_of(key->choice, key->choices));
  }
  json_object_set_new(values, eqs_group_keys[EQS_GROUP_RULE].name, rule_names);
  for (int i = 0; i < EQS_CONFIG_CHOICES; i++)
    json_object_set_new(values, eqs_config_choices[i].of,
                        array_of(eqs_config_choices[i].name, eqs_config_choices[i].names));
  for (int i = 0; i < EQS_CONFIG_MAPPINGS; i++)
    json_object_set_new(mappings, eqs_config_mappings[i].of,
                        array_of(eqs_config_mappings[i].name, eqs_config_mappings[i].names));
  return json_pack("{s:o, s:o, s:o, s:o}", "rules", rules, "keys", keys, "values", values, "mappings", mappings);
}

/* A name and what follows it, the lines of one paragraph. */
static void print_names(const char *of, const json_t *names)
{
  printf("  %-16s", of);
  for (size_t i = 0; i < json_array_size(names); i++)
    printf("%s%s", i == 0 ? "" : ", ", json_string_value(json_array_get(names, i)));
  printf("\n");
}

static void print_all_names(json_t *lists)
{
  for (void *of = json_object_iter(lists); of != NULL; of = json_object_iter_next(lists, of))
    print_names(json_object_iter_key(of), json_object_iter_value(of));
}

/* Without the keys that every rule has. */
static void print_rule(const eqs_rule *rule)
{
  char text[200];
  printf("%s: %s\n", rule->name, rule->about);
  for (int key = 0; key < EQS_GROUP_KEYS; key++) {
    if (eqs_group_keys[key].needs == 0 || !eqs_group_key_used(rule, (eqs_group_key_index)key)) continue;
    if (!eqs_group_key_default(rule, (eqs_group_key_index)key, text, sizeof text)) snprintf(text, sizeof text, "-");
    printf("  %-16s%s\n", eqs_group_keys[key].name, text);
  }
}

static void print_table(const json_t *all)
{
  const json_t *keys = json_object_get(all, "keys");
  printf("Rules, and the keys that not all of them have, with their defaults\n\n");
  for (int rule = 0; eqs_rule_at(rule) != NULL; rule++) print_rule(eqs_rule_at(rule));
  printf("\nKeys of a group\n\n");
  for (size_t i = 0; i < json_array_size(keys); i++) {
    const json_t *next = json_array_get(keys, i);
    printf("  %-16s%s (%s)\n", json_string_value(json_object_get(next, "name")),
           json_string_value(json_object_get(next, "about")), json_string_value(json_object_get(next, "value")));
  }
  printf("\nNames that values can be\n\n");
  print_all_names(json_object_get(all, "values"));
  printf("\nKeys of the other mappings\n\n");
  print_all_names(json_object_get(all, "mappings"));
}

eqs_status eqs_command_rules(int argc, char **argv)
{
  static const struct argp argp = {.options = options, .parser = parse, .doc = documentation};
  bool json = false, done, first = eqs_world_rank() == 0;
  eqs_status status = eqs_parse_arguments(&argp, argc, argv, first, &json, &done);
  if (status != EQS_OK || done || !first) return status;
  json_t *all = describe_all();
  if (all == NULL) return eqs_fail(EQS_FAILED, "out of memory for the list of rules");
  if (json)
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)), printf("\n");
  else
    print_table(all);
  json_decref(all);
  return EQS_OK;
}
