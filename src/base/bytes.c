#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

void eqs_bytes_free(eqs_bytes *to)
{
  free(to->bytes);
  *to = (eqs_bytes){0};
}

/* Where `size` more bytes go; NULL if there is no room for them. */
static char *make_room(eqs_bytes *to, int64_t size)
{
  if (to->status != EQS_OK || size == 0) return NULL;
  if (size > to->room - to->size) {
    int64_t room = to->room < size ? to->size + size : 2 * to->room;
    char *larger = realloc(to->bytes, (size_t)room);
    if (larger == NULL) {
      to->status = eqs_fail(EQS_FAILED, "out of memory: %lld bytes could not be allocated", (long long)room);
      return NULL;
    }
    to->bytes = larger;
    to->room = room;
  }
  to->size += size;
  return to->bytes + to->size - size;
}

void eqs_bytes_add(eqs_bytes *to, const void *bytes, int64_t size)
{
  char *place = make_room(to, size);
  if (place != NULL) memcpy(place, bytes, (size_t)size);
}

void eqs_bytes_add_zeros(eqs_bytes *to, int64_t size)
{
  char *place = make_room(to, size);
  if (place != NULL) memset(place, 0, (size_t)size);
}

void eqs_bytes_add_little(eqs_bytes *to, uint64_t number, int width)
{
  char *place = make_room(to, width);
  for (int i = 0; place != NULL && i < width; i++) place[i] = (char)(number >> 8 * i & 0xff);
}

void eqs_bytes_add_count(eqs_bytes *to, int64_t count)
{
  uint64_t left = (uint64_t)count;
  for (; left >= 0x80; left >>= 7) eqs_bytes_add_little(to, left | 0x80, 1);
  eqs_bytes_add_little(to, left, 1);
}

void eqs_bytes_add_block(eqs_bytes *to, const void *bytes, int64_t size)
{
  eqs_bytes_add_count(to, size);
  eqs_bytes_add(to, bytes, size);
}

void eqs_bytes_add_text(eqs_bytes *to, const char *text)
{
  eqs_bytes_add_block(to, text, (int64_t)strlen(text));
}

eqs_status eqs_bytes_garbled(void)
{
  return eqs_fail(EQS_DAMAGED, "what is in a checkpoint is garbled");
}

eqs_status eqs_bytes_take(eqs_bytes_left *from, void *to, int64_t size)
{
  if (size > from->end - from->next) return eqs_bytes_garbled();
  if (size > 0) memcpy(to, from->next, (size_t)size);
  from->next += size;
  return EQS_OK;
}

eqs_status eqs_bytes_take_number(eqs_bytes_left *from, int64_t *number)
{
  *number = 0;
  return eqs_bytes_take(from, number, sizeof *number);
}

eqs_status eqs_bytes_take_count(eqs_bytes_left *from, int64_t least, int64_t most, int64_t *count)
{
  uint64_t number = 0;
  unsigned char byte = 0x80;
  *count = 0;
  for (int shift = 0; byte & 0x80; shift += 7) {
    if (shift > 56 || from->next == from->end) return eqs_bytes_garbled();
    byte = (unsigned char)*from->next++;
    number |= (uint64_t)(byte & 0x7f) << shift;
  }
  if (most < 0 || number > (uint64_t)most || (least > 0 && number > (uint64_t)((from->end - from->next) / least)))
    return eqs_bytes_garbled();
  *count = (int64_t)number;
  return EQS_OK;
}

eqs_status eqs_bytes_take_block(eqs_bytes_left *from, char **bytes, int64_t *size)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_bytes_take_count(from, 1, INT64_MAX, size));
  EQS_TRY(eqs_allocate(bytes, *size + 1, 1));
  EQS_TRY(eqs_bytes_take(from, *bytes, *size));
cleanup:
  return status;
}

eqs_status eqs_bytes_take_text(eqs_bytes_left *from, char **text)
{
  eqs_status status = EQS_OK;
  int64_t size;
  EQS_TRY(eqs_bytes_take_block(from, text, &size));
  if ((int64_t)strlen(*text) != size) status = eqs_bytes_garbled();
cleanup:
  return status;
}
