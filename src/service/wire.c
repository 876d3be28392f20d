#include "service/wire.h"

#include <stdlib.h>
#include <string.h>

void eqs_wire_free(eqs_wire *wire)
{
  free(wire->data);
  *wire = (eqs_wire){0};
}

eqs_status eqs_wire_put(eqs_wire *wire, const void *bytes, int64_t size)
{
  if (wire->size + size > wire->capacity) {
    int64_t capacity = 2 * (wire->size + size) + 256;
    char *data = realloc(wire->data, (size_t)capacity);
    if (data == NULL) return eqs_fail(EQS_FAILED, "out of memory: a message of %lld bytes", (long long)capacity);
    wire->data = data;
    wire->capacity = capacity;
  }
  if (size > 0) memcpy(wire->data + wire->size, bytes, (size_t)size);
  wire->size += size;
  return EQS_OK;
}

eqs_status eqs_wire_put_integer(eqs_wire *wire, int64_t value)
{
  return eqs_wire_put(wire, &value, sizeof value);
}

eqs_status eqs_wire_put_text(eqs_wire *wire, const char *text)
{
  int64_t length = text == NULL ? -1 : (int64_t)strlen(text) + 1;
  eqs_status status = eqs_wire_put_integer(wire, length);
  return status == EQS_OK && text != NULL ? eqs_wire_put(wire, text, length) : status;
}

eqs_status eqs_wire_get(eqs_wire *wire, int64_t size, const void **bytes)
{
  if (size < 0 || size > wire->size - wire->position)
    return eqs_fail(EQS_FAILED, "a message between ranks is malformed; do all run the same version?");
  *bytes = wire->data + wire->position;
  wire->position += size;
  return EQS_OK;
}

eqs_status eqs_wire_get_integer(eqs_wire *wire, int64_t *value)
{
  const void *bytes = NULL;
  eqs_status status = eqs_wire_get(wire, sizeof *value, &bytes);
  if (status == EQS_OK) memcpy(value, bytes, sizeof *value);
  return status;
}

eqs_status eqs_wire_get_text(eqs_wire *wire, const char **text)
{
  int64_t length;
  const void *bytes = NULL;
  eqs_status status = eqs_wire_get_integer(wire, &length);
  if (status == EQS_OK && length >= 0) status = eqs_wire_get(wire, length, &bytes);
  *text = bytes;
  return status;
}
