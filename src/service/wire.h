/* Values as bytes, for messages: a writer that grows and a reader that checks every length. */
#ifndef EQS_SERVICE_WIRE_H
#define EQS_SERVICE_WIRE_H

#include "base/status.h"

typedef struct {
  char *data;
  int64_t size, capacity;
  int64_t position; /* of the reader */
} eqs_wire;

void eqs_wire_free(eqs_wire *wire);

eqs_status eqs_wire_put(eqs_wire *wire, const void *bytes, int64_t size);
eqs_status eqs_wire_put_integer(eqs_wire *wire, int64_t value);
eqs_status eqs_wire_put_text(eqs_wire *wire, const char *text); /* NULL travels as NULL */

/* Pointers into the wire. EQS_FAILED: the bytes end too early. */
eqs_status eqs_wire_get(eqs_wire *wire, int64_t size, const void **bytes);
eqs_status eqs_wire_get_integer(eqs_wire *wire, int64_t *value);
eqs_status eqs_wire_get_text(eqs_wire *wire, const char **text);

#endif
