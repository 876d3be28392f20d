/* What `equishard inspect` of one checkpoint and of two have in common. */
#ifndef EQS_CLI_INSPECT_H
#define EQS_CLI_INSPECT_H

#include <jansson.h>
#include <stdbool.h>

#include "checkpoint/checkpoint.h"

/* Values in words; "-" of NULL. "scalar", "21x8". */
void eqs_describe_attribute(const eqs_attribute *attribute, char *text, size_t size);
void eqs_describe_shape(const eqs_checkpoint_entry *entry, char *text, size_t size);

/* The same in JSON; null of NULL. Texts that are not UTF-8 are "(not UTF-8)". */
json_t *eqs_json_text(const char *text);
json_t *eqs_json_attribute(const eqs_attribute *attribute);
json_t *eqs_json_shape(const eqs_checkpoint_entry *entry);

/* Print what differs between two checkpoints, a path as eqs_checkpoint_find takes it each. */
eqs_status eqs_inspect_difference(const char *path_a, const char *path_b, bool json);

#endif
