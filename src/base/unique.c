#include "base/unique.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/memory.h"

const char *eqs_unique_get(const eqs_unique *table, int64_t number, int64_t *size)
{
  int64_t begin = number > 0 ? table->end[number - 1] : 0;
  *size = table->end[number] - begin;
  return table->bytes.bytes + begin;
}

/* Where a string is in the hash table, or where it would be put. */
static int64_t find_place(const eqs_unique *table, const void *bytes, int64_t size)
{
  int64_t mask = table->places - 1, at = (int64_t)(XXH3_64bits(bytes, (size_t)size) & (uint64_t)mask);
  for (; table->place[at] != 0; at = (at + 1) & mask) {
    int64_t other_size;
    const char *other = eqs_unique_get(table, table->place[at] - 1, &other_size);
    if (other_size == size && memcmp(other, bytes, (size_t)size) == 0) break;
  }
  return at;
}

/* Twice as many places, at most half of which are taken. */
static eqs_status enlarge(eqs_unique *table)
{
  eqs_unique larger = *table;
  larger.places = table->places > 0 ? 2 * table->places : 64;
  eqs_status status = eqs_allocate(&larger.place, larger.places, sizeof *larger.place);
  if (status != EQS_OK) return status;
  for (int64_t i = 0; i < table->count; i++) {
    int64_t size;
    const char *bytes = eqs_unique_get(table, i, &size);
    larger.place[find_place(&larger, bytes, size)] = i + 1;
  }
  free(table->place);
  *table = larger;
  return EQS_OK;
}

eqs_status eqs_unique_add(eqs_unique *table, const void *bytes, int64_t size, int64_t *number)
{
  eqs_status status = EQS_OK;
  if (2 * (table->count + 1) > table->places) EQS_TRY(enlarge(table));
  int64_t at = find_place(table, bytes, size);
  if (table->place[at] == 0) {
    EQS_TRY(eqs_grow(&table->end, table->count, sizeof *table->end));
    eqs_bytes_add(&table->bytes, bytes, size);
    EQS_TRY(table->bytes.status);
    table->end[table->count++] = table->bytes.size;
    table->place[at] = table->count;
  }
  *number = table->place[at] - 1;
cleanup:
  return status;
}

void eqs_unique_free(eqs_unique *table)
{
  free(table->end);
  free(table->place);
  eqs_bytes_free(&table->bytes);
  *table = (eqs_unique){0};
}
