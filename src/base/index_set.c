#include "base/index_set.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

eqs_status eqs_index_set_create(int64_t size, eqs_index_set *set)
{
  eqs_status status = EQS_OK;
  *set = (eqs_index_set){.words = (size + 63) / 64};
  set->summaries = (set->words + 63) / 64;
  EQS_TRY(eqs_allocate(&set->word, set->words, sizeof *set->word));
  EQS_TRY(eqs_allocate(&set->summary, set->summaries, sizeof *set->summary));
cleanup:
  return status;
}

void eqs_index_set_destroy(eqs_index_set *set)
{
  free(set->word);
  free(set->summary);
  *set = (eqs_index_set){0};
}

void eqs_index_set_clear(eqs_index_set *set)
{
  if (set->words == 0) return;
  memset(set->word, 0, (size_t)set->words * sizeof *set->word);
  memset(set->summary, 0, (size_t)set->summaries * sizeof *set->summary);
}

void eqs_index_set_add(eqs_index_set *set, int64_t i)
{
  int64_t w = i / 64;
  set->word[w] |= UINT64_C(1) << i % 64;
  set->summary[w / 64] |= UINT64_C(1) << w % 64;
}

void eqs_index_set_remove(eqs_index_set *set, int64_t i)
{
  int64_t w = i / 64;
  set->word[w] &= ~(UINT64_C(1) << i % 64);
  if (set->word[w] == 0) set->summary[w / 64] &= ~(UINT64_C(1) << w % 64);
}

int64_t eqs_index_set_least(const eqs_index_set *set)
{
  for (int64_t s = 0; s < set->summaries; s++) {
    if (set->summary[s] == 0) continue;
    int64_t w = 64 * s + __builtin_ctzll(set->summary[s]);
    return 64 * w + __builtin_ctzll(set->word[w]);
  }
  return -1;
}

int64_t eqs_index_set_greatest(const eqs_index_set *set)
{
  for (int64_t s = set->summaries - 1; s >= 0; s--) {
    if (set->summary[s] == 0) continue;
    int64_t w = 64 * s + 63 - __builtin_clzll(set->summary[s]);
    return 64 * w + 63 - __builtin_clzll(set->word[w]);
  }
  return -1;
}
