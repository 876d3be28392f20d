/* A hash table from keys (names, addresses) to numbers. */
#ifndef EQS_BASE_LOOKUP_H
#define EQS_BASE_LOOKUP_H

#include <stdbool.h>

#include "base/status.h"

typedef struct eqs_lookup eqs_lookup;

/*
 * Add a key; NULL is an empty table, the first key makes it. A key that is there already keeps its number.
 *
 * key, size  [in] copied
 */
eqs_status eqs_lookup_add(eqs_lookup **lookup, const void *key, size_t size, int64_t number);

/* Add a key, or give the one that is there another number. */
eqs_status eqs_lookup_set(eqs_lookup **lookup, const void *key, size_t size, int64_t number);

/* The number of a key; false if it is not there. */
bool eqs_lookup_find(const eqs_lookup *lookup, const void *key, size_t size, int64_t *number);

/* The same of a text. */
eqs_status eqs_lookup_add_text(eqs_lookup **lookup, const char *text, int64_t number);
bool eqs_lookup_find_text(const eqs_lookup *lookup, const char *text, int64_t *number);

/* Free; sets *lookup to NULL. */
void eqs_lookup_free(eqs_lookup **lookup);

#endif
