/* Attributes and shapes of a checkpoint's parameters in words and in JSON. */
#ifndef EQS_CLI_DESCRIPTION_H
#define EQS_CLI_DESCRIPTION_H

#include <jansson.h>

#include "checkpoint/contents.h"

/* A value in words; "-" of NULL. */
void eqs_describe_attribute(const eqs_attribute *attribute, char *text, size_t size);

/* The same in JSON; null of NULL. Texts that are not UTF-8 are "(not UTF-8)". */
json_t *eqs_json_text(const char *text);
json_t *eqs_json_attribute(const eqs_attribute *attribute);
json_t *eqs_json_shape(const eqs_checkpoint_parameter *parameter);

#endif
