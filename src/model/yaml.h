/*
 * YAML documents with positions, and values read out of them. Every failure is EQS_USAGE with "file:line: ".
 * Aliases are shared nodes, never copies, so a document is no larger than its text.
 */
#ifndef EQS_MODEL_YAML_H
#define EQS_MODEL_YAML_H

#include <stdbool.h>
#include <yaml.h>

#include "base/status.h"

typedef struct {
  const char *path; /* borrowed */
  bool loaded;
  yaml_document_t document;
} eqs_yaml_file;

/* A place in a document. node NULL: absent. */
typedef struct {
  eqs_yaml_file *file;
  yaml_node_t *node;
} eqs_yaml_value;

typedef struct {
  const char *name;
  eqs_yaml_value key, value;
} eqs_yaml_pair;

/* The pairs of a mapping, in order, those of its merge keys ("<<") after its own. */
typedef struct {
  int count;
  eqs_yaml_pair *pairs;
} eqs_yaml_mapping;

/* Parse a text of one document. path is borrowed. */
eqs_status eqs_yaml_load(const char *path, const char *text, eqs_yaml_file *file);
void eqs_yaml_unload(eqs_yaml_file *file);

eqs_yaml_value eqs_yaml_root(eqs_yaml_file *file);
int eqs_yaml_line(eqs_yaml_value value);

/* EQS_USAGE with "file:line: " before the message. */
eqs_status eqs_yaml_fail(eqs_yaml_value at, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether a value is a list, a mapping, and whether it is null (`~`, `null`, nothing). */
bool eqs_yaml_is_list(eqs_yaml_value value);
bool eqs_yaml_is_mapping(eqs_yaml_value value);
bool eqs_yaml_is_null(eqs_yaml_value value);

/* In the following, `what` names the value in messages, mostly by its key. */

/* Keys are texts, none of them twice. Free with eqs_yaml_mapping_free. */
eqs_status eqs_yaml_read_mapping(eqs_yaml_value value, const char *what, eqs_yaml_mapping *mapping);
void eqs_yaml_mapping_free(eqs_yaml_mapping *mapping);

/* A list of at most `limit` items; item i of it. A value that is not a list counts as a list of one. */
eqs_status eqs_yaml_list_length(eqs_yaml_value value, const char *what, int limit, int *length);
eqs_yaml_value eqs_yaml_item(eqs_yaml_value list, int i);

/* A text, borrowed from the document. */
eqs_status eqs_yaml_read_text(eqs_yaml_value value, const char *what, const char **text);

typedef enum {
  EQS_RANGE_NOT_NEGATIVE, /* x >= 0 */
  EQS_RANGE_POSITIVE,     /* x > 0 */
  EQS_RANGE_BELOW_ONE,    /* 0 <= x < 1 */
  EQS_RANGE_ANY,          /* of either sign */
  EQS_RANGES
} eqs_yaml_range;

/* Of a size that float32 has. */
eqs_status eqs_yaml_read_number(eqs_yaml_value value, const char *what, eqs_yaml_range range, double *number);
eqs_status eqs_yaml_read_integer(eqs_yaml_value value, const char *what, int64_t minimum, int64_t maximum,
                                 int64_t *number);
eqs_status eqs_yaml_read_boolean(eqs_yaml_value value, const char *what, bool *boolean);

/* The index of a text in a table of names; the message suggests the nearest and lists all. */
eqs_status eqs_yaml_read_choice(eqs_yaml_value value, const char *what, const char *const *names, int count,
                                int *choice);

/* The index of a pair's key in a table of names; `where` is what it is a key of ("a group"). */
eqs_status eqs_yaml_key(const eqs_yaml_pair *pair, const char *where, const char *const *names, int count, int *index);

/* "RxC", two numbers of at least 1 each. */
eqs_status eqs_yaml_read_pair(eqs_yaml_value value, const char *what, int64_t maximum, int64_t pair[2]);

#endif
