#include "model/yaml.h"

#include <float.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text_file.h"

/*
 * What a configuration may have. libyaml's time grows with the square of depth and of the number of anchors,
 * so these are checked event by event before a document is built.
 */
enum { max_depth = 32, max_anchors = 256, max_keys = 4096, max_merged_pairs = 100000 };

eqs_status eqs_yaml_fail(eqs_yaml_value at, const char *format, ...)
{
  char text[1600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return eqs_fail(EQS_USAGE, "%s:%d: %s", at.file->path, eqs_yaml_line(at), text);
}

int eqs_yaml_line(eqs_yaml_value value)
{
  return value.node == NULL ? 1 : (int)value.node->start_mark.line + 1;
}

static eqs_status syntax_error(const char *path, const yaml_parser_t *parser)
{
  if (parser->error == YAML_MEMORY_ERROR) return eqs_fail(EQS_FAILED, "out of memory");
  size_t line = parser->error == YAML_READER_ERROR ? parser->mark.line : parser->problem_mark.line;
  const char *problem = parser->problem != NULL ? parser->problem : "unreadable";
  if (parser->context != NULL) {
    const char *hint = strstr(parser->context, "alias") ? " (a text that begins with * needs quotes)" : "";
    return eqs_fail(EQS_USAGE, "%s:%zu: YAML: %s, %s%s", path, line + 1, parser->context, problem, hint);
  }
  return eqs_fail(EQS_USAGE, "%s:%zu: YAML: %s", path, line + 1, problem);
}

static void start_parser(yaml_parser_t *parser, const char *text)
{
  yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(parser, (const unsigned char *)text, strlen(text));
}

/* Whether an event opens (+1) or closes (-1) a level, and whether it has an anchor. */
static int level_of(const yaml_event_t *event, bool *anchor)
{
  *anchor = false;
  switch (event->type) {
  case YAML_SCALAR_EVENT: *anchor = event->data.scalar.anchor != NULL; return 0;
  case YAML_SEQUENCE_START_EVENT: *anchor = event->data.sequence_start.anchor != NULL; return 1;
  case YAML_MAPPING_START_EVENT: *anchor = event->data.mapping_start.anchor != NULL; return 1;
  case YAML_SEQUENCE_END_EVENT:
  case YAML_MAPPING_END_EVENT: return -1;
  default: return 0;
  }
}

static eqs_status check_limits(const char *path, const char *text)
{
  eqs_status status = EQS_OK;
  yaml_parser_t parser;
  if (!yaml_parser_initialize(&parser)) return eqs_fail(EQS_FAILED, "out of memory");
  start_parser(&parser, text);
  int depth = 0, anchors = 0, documents = 0;
  for (bool more = true; more && status == EQS_OK;) {
    yaml_event_t event;
    bool anchor;
    if (!yaml_parser_parse(&parser, &event)) {
      status = syntax_error(path, &parser);
      break;
    }
    size_t line = event.start_mark.line + 1;
    depth += level_of(&event, &anchor);
    anchors += anchor;
    documents += event.type == YAML_DOCUMENT_START_EVENT;
    more = event.type != YAML_STREAM_END_EVENT;
    yaml_event_delete(&event);
    if (depth > max_depth)
      status = eqs_fail(EQS_USAGE, "%s:%zu: more than %d levels", path, line, max_depth);
    else if (anchors > max_anchors)
      status = eqs_fail(EQS_USAGE, "%s:%zu: more than %d anchors", path, line, max_anchors);
    else if (documents > 1)
      status = eqs_fail(EQS_USAGE, "%s:%zu: a second YAML document; a configuration is one", path, line);
  }
  yaml_parser_delete(&parser);
  return status;
}

eqs_status eqs_yaml_load(const char *path, const char *text, eqs_yaml_file *file)
{
  eqs_status status = EQS_OK;
  yaml_parser_t parser;
  *file = (eqs_yaml_file){.path = path};
  text = eqs_skip_byte_order_mark(text);
  EQS_TRY(check_limits(path, text));
  if (!yaml_parser_initialize(&parser)) return eqs_fail(EQS_FAILED, "out of memory");
  start_parser(&parser, text);
  if (!yaml_parser_load(&parser, &file->document))
    status = syntax_error(path, &parser);
  else
    file->loaded = true;
  yaml_parser_delete(&parser);
cleanup:
  return status;
}

void eqs_yaml_unload(eqs_yaml_file *file)
{
  if (file->loaded) yaml_document_delete(&file->document);
  file->loaded = false;
}

eqs_yaml_value eqs_yaml_root(eqs_yaml_file *file)
{
  return (eqs_yaml_value){file, yaml_document_get_root_node(&file->document)};
}

static eqs_yaml_value node_at(eqs_yaml_file *file, int index)
{
  return (eqs_yaml_value){file, yaml_document_get_node(&file->document, index)};
}

static const char *scalar_text(const yaml_node_t *node)
{
  return (const char *)node->data.scalar.value;
}

/* A scalar without quotes: only such are numbers, true or false, or null. */
static bool is_plain(eqs_yaml_value value)
{
  return value.node != NULL && value.node->type == YAML_SCALAR_NODE &&
         value.node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

bool eqs_yaml_is_null(eqs_yaml_value value)
{
  if (!is_plain(value)) return value.node == NULL;
  const char *text = scalar_text(value.node);
  return strcmp(text, "") == 0 || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

bool eqs_yaml_is_list(eqs_yaml_value value)
{
  return value.node != NULL && value.node->type == YAML_SEQUENCE_NODE;
}

bool eqs_yaml_is_mapping(eqs_yaml_value value)
{
  return value.node != NULL && value.node->type == YAML_MAPPING_NODE;
}

/* What a value is, for "..., not <this>". */
static const char *describe(eqs_yaml_value value, char *text, size_t size)
{
  if (eqs_yaml_is_null(value)) return "nothing";
  switch (value.node->type) {
  case YAML_SEQUENCE_NODE: return "a list";
  case YAML_MAPPING_NODE: return "a mapping";
  default: snprintf(text, size, is_plain(value) ? "%.80s" : "\"%.80s\"", scalar_text(value.node)); return text;
  }
}

static eqs_status wrong_type(eqs_yaml_value value, const char *what, const char *wanted)
{
  char text[100];
  return eqs_yaml_fail(value, "%s must be %s, not %s", what, wanted, describe(value, text, sizeof text));
}

/* Pairs of a mapping and of what it merges, each name once: the first one found. */
static eqs_status collect(eqs_yaml_value value, const char *what, int depth, int *visited, eqs_yaml_mapping *mapping)
{
  eqs_status status = EQS_OK;
  if (value.node == NULL || value.node->type != YAML_MAPPING_NODE) return wrong_type(value, what, "a mapping");
  if (depth > max_depth) return eqs_yaml_fail(value, "merge keys nest too deeply");
  int before = mapping->count;
  eqs_yaml_file *file = value.file;
  const yaml_node_pair_t *end = value.node->data.mapping.pairs.top;
  for (const yaml_node_pair_t *pair = value.node->data.mapping.pairs.start; pair < end; pair++) {
    eqs_yaml_value key = node_at(file, pair->key);
    const char *name;
    EQS_TRY(eqs_yaml_read_text(key, "a key", &name));
    if (++*visited > max_merged_pairs || mapping->count >= max_keys)
      return eqs_yaml_fail(key, "%s has too many keys", what);
    if (strcmp(name, "<<") == 0) continue;
    bool known = false;
    for (int i = 0; i < mapping->count; i++) {
      if (strcmp(mapping->pairs[i].name, name) != 0) continue;
      if (i >= before)
        return eqs_yaml_fail(key, "%s is given twice, first in line %d", name, eqs_yaml_line(mapping->pairs[i].key));
      known = true;
    }
    if (known) continue;
    EQS_TRY(eqs_grow(&mapping->pairs, mapping->count, sizeof *mapping->pairs));
    mapping->pairs[mapping->count++] = (eqs_yaml_pair){name, key, node_at(file, pair->value)};
  }
  for (const yaml_node_pair_t *pair = value.node->data.mapping.pairs.start; pair < end; pair++) {
    eqs_yaml_value merged = node_at(file, pair->value);
    if (strcmp(scalar_text(node_at(file, pair->key).node), "<<") != 0) continue;
    int length;
    EQS_TRY(eqs_yaml_list_length(merged, "<<", max_merged_pairs, &length));
    for (int i = 0; i < length; i++)
      EQS_TRY(collect(eqs_yaml_item(merged, i), "what << merges", depth + 1, visited, mapping));
  }
cleanup:
  return status;
}

eqs_status eqs_yaml_read_mapping(eqs_yaml_value value, const char *what, eqs_yaml_mapping *mapping)
{
  int visited = 0;
  *mapping = (eqs_yaml_mapping){0};
  eqs_status status = collect(value, what, 0, &visited, mapping);
  if (status != EQS_OK) eqs_yaml_mapping_free(mapping);
  return status;
}

void eqs_yaml_mapping_free(eqs_yaml_mapping *mapping)
{
  free(mapping->pairs);
  *mapping = (eqs_yaml_mapping){0};
}

eqs_status eqs_yaml_list_length(eqs_yaml_value value, const char *what, int limit, int *length)
{
  *length = 1;
  if (!eqs_yaml_is_list(value)) return EQS_OK;
  ptrdiff_t items = value.node->data.sequence.items.top - value.node->data.sequence.items.start;
  if (items > limit) return eqs_yaml_fail(value, "%s has more than %d items", what, limit);
  *length = (int)items;
  return EQS_OK;
}

eqs_yaml_value eqs_yaml_item(eqs_yaml_value list, int i)
{
  return eqs_yaml_is_list(list) ? node_at(list.file, list.node->data.sequence.items.start[i]) : list;
}

eqs_status eqs_yaml_read_text(eqs_yaml_value value, const char *what, const char **text)
{
  *text = "";
  if (eqs_yaml_is_null(value) || value.node->type != YAML_SCALAR_NODE) return wrong_type(value, what, "a text");
  if (strlen(scalar_text(value.node)) != value.node->data.scalar.length)
    return eqs_yaml_fail(value, "%s contains a zero byte", what);
  *text = scalar_text(value.node);
  return EQS_OK;
}

/* Owners compute in float32: what becomes infinite, 0 or 1 there is another number than what is written. */
static eqs_status check_float32(eqs_yaml_value value, const char *what, eqs_yaml_range range, double number)
{
  const char *text = scalar_text(value.node);
  if (number > (double)FLT_MAX)
    return eqs_yaml_fail(value, "%s must be at most 3.4e38, the largest number of float32, not %.80s", what, text);
  if (number != 0 && (float)number == 0)
    return eqs_yaml_fail(value, "%s must be %sat least 1e-45, the smallest number of float32, not %.80s", what,
                         range == EQS_RANGE_POSITIVE ? "" : "0 or ", text);
  if (range == EQS_RANGE_BELOW_ONE && (float)number >= 1)
    return eqs_yaml_fail(value, "%s must be below 1 in float32, at most 0.9999999, not %.80s", what, text);
  return EQS_OK;
}

eqs_status eqs_yaml_read_number(eqs_yaml_value value, const char *what, eqs_yaml_range range, double *number)
{
  static const char *const wanted[EQS_RANGES] = {"a finite number of at least 0", "a finite number above 0",
                                                 "a number of at least 0 and below 1", "a finite number"};
  if (!is_plain(value) || eqs_yaml_is_null(value)) return wrong_type(value, what, wanted[range]);
  const char *text = scalar_text(value.node);
  char *end;
  *number = strtod(text, &end);
  bool decimal = strspn(text, "0123456789+-.eE") == strlen(text); /* strtod takes "nan", "inf" and "0x1p3" too */
  if (!decimal || end == text || *end != '\0' || !(*number <= 1e300 && *number >= -1e300) ||
      (range != EQS_RANGE_ANY && *number < 0) || (range == EQS_RANGE_POSITIVE && *number == 0) ||
      (range == EQS_RANGE_BELOW_ONE && *number >= 1))
    return wrong_type(value, what, wanted[range]);
  return check_float32(value, what, range, *number);
}

/* All of text as a decimal integer. */
static bool integer_of(const char *text, size_t length, int64_t *number)
{
  char digits[24], *end;
  if (length == 0 || length >= sizeof digits || strspn(text, "+-0123456789") < length) return false;
  memcpy(digits, text, length);
  digits[length] = '\0';
  *number = strtoll(digits, &end, 10); /* out of range: the nearest, which no caller's maximum reaches */
  return end != digits && *end == '\0';
}

eqs_status eqs_yaml_read_integer(eqs_yaml_value value, const char *what, int64_t minimum, int64_t maximum,
                                 int64_t *number)
{
  const char *text = is_plain(value) ? scalar_text(value.node) : "";
  if (integer_of(text, strlen(text), number) && *number >= minimum && *number <= maximum) return EQS_OK;
  char wanted[80];
  if (maximum >= 1000000000)
    snprintf(wanted, sizeof wanted, "a whole number of at least %lld", (long long)minimum);
  else
    snprintf(wanted, sizeof wanted, "a whole number from %lld to %lld", (long long)minimum, (long long)maximum);
  return wrong_type(value, what, wanted);
}

eqs_status eqs_yaml_read_boolean(eqs_yaml_value value, const char *what, bool *boolean)
{
  const char *text = is_plain(value) ? scalar_text(value.node) : "";
  *boolean = strcmp(text, "true") == 0;
  return *boolean || strcmp(text, "false") == 0 ? EQS_OK : wrong_type(value, what, "true or false");
}

/* Levenshtein distance; of long texts, which are not compared, `limit`. */
static int edit_distance(const char *a, const char *b)
{
  enum { limit = 64 };
  size_t m = strlen(a), n = strlen(b);
  int row[limit + 1];
  if (m > limit || n > limit) return limit;
  for (size_t j = 0; j <= n; j++) row[j] = (int)j;
  for (size_t i = 1; i <= m; i++) {
    int diagonal = row[0];
    row[0] = (int)i;
    for (size_t j = 1; j <= n; j++) {
      int substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      int shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
      row[j] = shorter < substituted ? shorter : substituted;
    }
  }
  return row[n];
}

static eqs_status unknown(eqs_yaml_value at, const char *what, const char *text, const char *where,
                          const char *const *names, int count)
{
  char list[1024] = "", suggestion[128] = "";
  size_t length = 0;
  int nearest = 0, distance = edit_distance(text, names[0]);
  for (int i = 0; i < count; i++) {
    if (length < sizeof list)
      length += (size_t)snprintf(list + length, sizeof list - length, i == 0 ? "%s" : ", %s", names[i]);
    int other = edit_distance(text, names[i]);
    if (other < distance) {
      nearest = i;
      distance = other;
    }
  }
  if (distance <= 1 + (int)strlen(text) / 4)
    snprintf(suggestion, sizeof suggestion, " (did you mean %s?)", names[nearest]);
  return eqs_yaml_fail(at, "unknown %s \"%.80s\"%s%s; there are %s", what, text, where, suggestion, list);
}

static int index_of(const char *text, const char *const *names, int count)
{
  for (int i = 0; i < count; i++)
    if (strcmp(text, names[i]) == 0) return i;
  return -1;
}

eqs_status eqs_yaml_read_choice(eqs_yaml_value value, const char *what, const char *const *names, int count,
                                int *choice)
{
  eqs_status status = EQS_OK;
  const char *text;
  EQS_TRY(eqs_yaml_read_text(value, what, &text));
  *choice = index_of(text, names, count);
  if (*choice < 0) return unknown(value, what, text, "", names, count);
cleanup:
  return status;
}

eqs_status eqs_yaml_key(const eqs_yaml_pair *pair, const char *where, const char *const *names, int count, int *index)
{
  char in[80];
  *index = index_of(pair->name, names, count);
  if (*index >= 0) return EQS_OK;
  snprintf(in, sizeof in, " in %s", where);
  return unknown(pair->key, "key", pair->name, in, names, count);
}

eqs_status eqs_yaml_read_pair(eqs_yaml_value value, const char *what, int64_t maximum, int64_t pair[2])
{
  const char *text = value.node->type == YAML_SCALAR_NODE ? scalar_text(value.node) : "", *by = strchr(text, 'x');
  if (by == NULL || !integer_of(text, (size_t)(by - text), &pair[0]) || !integer_of(by + 1, strlen(by + 1), &pair[1]) ||
      pair[0] < 1 || pair[1] < 1 || pair[0] > maximum || pair[1] > maximum)
    return wrong_type(value, what, "rows by columns, like 2x1");
  return EQS_OK;
}
