#include "base/lookup.h"

#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

typedef struct {
  UT_hash_handle hh;
  int64_t number;
  char key[];
} entry;

struct eqs_lookup {
  entry *entries; /* uthash's */
};

static entry *find(const eqs_lookup *lookup, const void *key, size_t size)
{
  entry *found = NULL;
  if (lookup != NULL) HASH_FIND(hh, lookup->entries, key, size, found);
  return found;
}

eqs_status eqs_lookup_add(eqs_lookup **lookup, const void *key, size_t size, int64_t number)
{
  if (*lookup == NULL) *lookup = calloc(1, sizeof **lookup);
  if (*lookup == NULL) return eqs_fail(EQS_FAILED, "out of memory: a table of names");
  if (find(*lookup, key, size) != NULL) return EQS_OK;
  entry *added = malloc(sizeof *added + size);
  if (added != NULL) {
    added->number = number;
    memcpy(added->key, key, size);
    HASH_ADD_KEYPTR(hh, (*lookup)->entries, added->key, size, added);
  }
  if (added == NULL || find(*lookup, key, size) == NULL) { /* the table itself may be what found no room */
    free(added);
    return eqs_fail(EQS_FAILED, "out of memory: a table of names");
  }
  return EQS_OK;
}

eqs_status eqs_lookup_set(eqs_lookup **lookup, const void *key, size_t size, int64_t number)
{
  entry *found = find(*lookup, key, size);
  if (found == NULL) return eqs_lookup_add(lookup, key, size, number);
  found->number = number;
  return EQS_OK;
}

bool eqs_lookup_find(const eqs_lookup *lookup, const void *key, size_t size, int64_t *number)
{
  const entry *found = find(lookup, key, size);
  if (found != NULL) *number = found->number;
  return found != NULL;
}

eqs_status eqs_lookup_add_text(eqs_lookup **lookup, const char *text, int64_t number)
{
  return eqs_lookup_add(lookup, text, strlen(text), number);
}

bool eqs_lookup_find_text(const eqs_lookup *lookup, const char *text, int64_t *number)
{
  return eqs_lookup_find(lookup, text, strlen(text), number);
}

void eqs_lookup_free(eqs_lookup **lookup)
{
  if (*lookup == NULL) return;
  entry *each, *next;
  HASH_ITER(hh, (*lookup)->entries, each, next)
  {
    HASH_DEL((*lookup)->entries, each);
    free(each);
  }
  free(*lookup);
  *lookup = NULL;
}
