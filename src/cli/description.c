#include "cli/description.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A number in as few digits as tell it from all others. */
static void describe_number(double number, char *text, size_t size)
{
  for (int digits = 6; digits <= 17; digits++) {
    snprintf(text, size, "%.*g", digits, number);
    if (strtod(text, NULL) == number) return;
  }
}

void eqs_describe_attribute(const eqs_attribute *attribute, char *text, size_t size)
{
  if (attribute == NULL) {
    snprintf(text, size, "-");
    return;
  }
  switch (attribute->kind) {
  case EQS_ATTRIBUTE_INTEGER: snprintf(text, size, "%" PRId64, attribute->integer); break;
  case EQS_ATTRIBUTE_NUMBER: describe_number(attribute->number, text, size); break;
  case EQS_ATTRIBUTE_TEXT: snprintf(text, size, "%s", attribute->text); break;
  }
}

json_t *eqs_json_text(const char *text)
{
  json_t *value = json_string(text);
  return value ? value : json_string("(not UTF-8)");
}

json_t *eqs_json_attribute(const eqs_attribute *attribute)
{
  if (attribute == NULL) return json_null();
  switch (attribute->kind) {
  case EQS_ATTRIBUTE_INTEGER: return json_integer(attribute->integer);
  case EQS_ATTRIBUTE_NUMBER: return json_real(attribute->number) ?: json_null(); /* JSON has no NaN or infinity */
  case EQS_ATTRIBUTE_TEXT: return eqs_json_text(attribute->text);
  }
  return json_null();
}

json_t *eqs_json_shape(const eqs_checkpoint_parameter *parameter)
{
  json_t *shape = json_array();
  for (int d = 0; d < parameter->ndim; d++) json_array_append_new(shape, json_integer(parameter->shape[d]));
  return shape;
}
