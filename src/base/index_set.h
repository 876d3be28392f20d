/* A set of small integers whose least and greatest are found at once: a bit each, and a bit for every 64 of them. */
#ifndef EQS_BASE_INDEX_SET_H
#define EQS_BASE_INDEX_SET_H

#include <stdbool.h>

#include "base/status.h"

typedef struct {
  int64_t words, summaries;
  uint64_t *word;    /* bit i % 64 of word i / 64: i is in the set */
  uint64_t *summary; /* bit w % 64 of summary w / 64: word w is not 0 */
} eqs_index_set;

/* An empty set of 0 to size - 1. */
eqs_status eqs_index_set_create(int64_t size, eqs_index_set *set);
void eqs_index_set_destroy(eqs_index_set *set);

void eqs_index_set_clear(eqs_index_set *set);
void eqs_index_set_add(eqs_index_set *set, int64_t i);
void eqs_index_set_remove(eqs_index_set *set, int64_t i);

/* -1: the set is empty. */
int64_t eqs_index_set_least(const eqs_index_set *set);
int64_t eqs_index_set_greatest(const eqs_index_set *set);

#endif
