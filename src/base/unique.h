/* A table of different strings of bytes, numbered as they come: of equal ones the first stays. */
#ifndef EQS_BASE_UNIQUE_H
#define EQS_BASE_UNIQUE_H

#include "base/bytes.h"

/* Zeroed at first. */
typedef struct {
  int64_t count;
  int64_t *end;    /* of every string in `bytes` */
  eqs_bytes bytes; /* all strings, one after the other */
  int64_t places;  /* of the hash table: a power of two */
  int64_t *place;  /* number of the string + 1; 0: free */
} eqs_unique;

/* The number of a string, which is added if it is not there yet. EQS_FAILED: out of memory. */
eqs_status eqs_unique_add(eqs_unique *table, const void *bytes, int64_t size, int64_t *number);

const char *eqs_unique_get(const eqs_unique *table, int64_t number, int64_t *size);

void eqs_unique_free(eqs_unique *table);

#endif
