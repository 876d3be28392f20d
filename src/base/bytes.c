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

eqs_bytes_left eqs_bytes_reader(const void *bytes, int64_t size)
{
  const char *first = bytes;
  return (eqs_bytes_left){.next = first, .end = size > 0 ? first + size : first};
}

static eqs_status fail(eqs_bytes_left *from)
{
  if (from->status == EQS_OK) from->status = eqs_bytes_garbled();
  return from->status;
}

const char *eqs_bytes_skip(eqs_bytes_left *from, int64_t size)
{
  if (from->status != EQS_OK || size < 0 || size > from->end - from->next) {
    fail(from);
    return NULL;
  }
  from->next += size;
  return from->next - size;
}

eqs_status eqs_bytes_take(eqs_bytes_left *from, void *to, int64_t size)
{
  const char *bytes = eqs_bytes_skip(from, size);
  if (bytes != NULL && size > 0) memcpy(to, bytes, (size_t)size);
  return from->status;
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
    const char *next = shift > 56 ? NULL : eqs_bytes_skip(from, 1);
    if (next == NULL) return fail(from);
    byte = (unsigned char)*next;
    number |= (uint64_t)(byte & 0x7f) << shift;
  }
  if (most < 0 || number > (uint64_t)most || (least > 0 && number > (uint64_t)((from->end - from->next) / least)))
    return fail(from);
  *count = (int64_t)number;
  return EQS_OK;
}

eqs_status eqs_bytes_take_block(eqs_bytes_left *from, char **bytes, int64_t *size)
{
  eqs_status status = EQS_OK;
  *bytes = NULL;
  EQS_TRY(eqs_bytes_take_count(from, 1, INT64_MAX, size));
  EQS_TRY(from->status = eqs_allocate(bytes, *size + 1, 1));
  EQS_TRY(eqs_bytes_take(from, *bytes, *size));
cleanup:
  return status;
}

eqs_status eqs_bytes_take_text(eqs_bytes_left *from, char **text)
{
  eqs_status status = EQS_OK;
  int64_t size;
  EQS_TRY(eqs_bytes_take_block(from, text, &size));
  if ((int64_t)strlen(*text) != size) status = fail(from);
cleanup:
  return status;
}

eqs_status eqs_bytes_end(eqs_bytes_left *from)
{
  return from->next == from->end ? from->status : fail(from);
}
