#include "service/trainer_data.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "service/progress.h"

/* Where the settings of the groups are; keys that begin like it are the library's and its clients'. */
static const char settings_key[] = "equishard.settings";

static eqs_status put_item(eqs_wire *wire, const char *key, const void *bytes, size_t size)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_wire_put_text(wire, key));
  EQS_TRY(eqs_wire_put_integer(wire, (int64_t)size));
  EQS_TRY(eqs_wire_put(wire, bytes, (int64_t)size));
cleanup:
  return status;
}

static eqs_status get_item(eqs_wire *wire, eqs_checkpoint_item *item)
{
  eqs_status status = EQS_OK;
  int64_t size;
  EQS_TRY(eqs_wire_get_text(wire, &item->key));
  EQS_TRY(eqs_wire_get_integer(wire, &size));
  EQS_TRY(eqs_wire_get(wire, size, &item->bytes));
  item->size = (size_t)size;
cleanup:
  return status;
}

static eqs_status check_item(const eqs_trainer_item *item)
{
  if (item->key == NULL || item->key[0] == '\0') return eqs_fail(EQS_USAGE, "an item of a checkpoint has no key");
  if (strpbrk(item->key, "/@") != NULL)
    return eqs_fail(EQS_USAGE, "item '%s' of a checkpoint: a key has no '/' and no '@'", item->key);
  if (item->bytes == NULL && item->size > 0)
    return eqs_fail(EQS_USAGE, "item '%s' of a checkpoint: bytes is NULL", item->key);
  return EQS_OK;
}

/* An item of the program's array, whose elements may be of another version's size. */
static eqs_status read_item(const eqs_trainer_item *items, int index, eqs_trainer_item *item)
{
  size_t stride = 0;
  memcpy(&stride, items, sizeof stride);
  eqs_status status =
      eqs_read_struct((const char *)items + (size_t)index * stride, sizeof *item, "eqs_trainer_item", item);
  return status == EQS_OK ? check_item(item) : status;
}

eqs_status eqs_pack_items(const eqs_session *session, const eqs_trainer_item *items, int count, eqs_wire *shared,
                          eqs_wire *own)
{
  eqs_status status = EQS_OK;
  char *text = NULL, *key = NULL;
  if (count < 0 || (items == NULL && count > 0)) EQS_TRY(eqs_fail(EQS_USAGE, "eqs_checkpoint: items is NULL"));
  for (int i = 0; i < count; i++) {
    eqs_trainer_item item;
    EQS_TRY(read_item(items, i, &item));
    if (item.per_trainer) {
      EQS_TRY(eqs_format(&key, "%s@%d", item.key, session->roster.trainer));
      EQS_TRY(put_item(own, key, item.bytes, item.size));
      free(key);
      key = NULL;
    } else {
      EQS_TRY(put_item(shared, item.key, item.bytes, item.size));
    }
  }
  EQS_TRY(eqs_settings_write(session->config, session->settings, &text));
  EQS_TRY(put_item(shared, settings_key, text, strlen(text)));
cleanup:
  free(text);
  free(key);
  return status;
}

/* All trainers' own items at the first trainer. Collective over the trainers. */
static eqs_status gather_own(eqs_session *session, const eqs_wire *own, eqs_wire *all)
{
  eqs_status status = EQS_OK;
  MPI_Comm trainers = session->roster.trainer_comm;
  int count = session->roster.trainers, *sizes = NULL, *offsets = NULL, size = (int)own->size;
  bool first = session->roster.trainer == 0, fits = own->size < INT32_MAX;
  int64_t total = 0;
  MPI_Request request;
  EQS_TRY(eqs_agree(trainers, eqs_allocate(&sizes, count, sizeof *sizes)));
  EQS_TRY(eqs_agree(trainers, eqs_allocate(&offsets, count, sizeof *offsets)));
  EQS_TRY(eqs_check_mpi(MPI_Iallgather(&size, 1, MPI_INT, sizes, 1, MPI_INT, trainers, &request), "MPI_Iallgather"));
  EQS_TRY(eqs_session_wait(session, &request, "the other trainers' data"));
  for (int t = 0; t < count; t++) {
    offsets[t] = (int)total;
    total += sizes[t];
    fits = fits && total < INT32_MAX;
  }
  EQS_TRY(eqs_agree(trainers,
                    fits ? EQS_OK
                         : eqs_fail(EQS_USAGE, "the data of all trainers in a checkpoint come to more than 2 GiB")));
  if (first && total > all->capacity) {
    eqs_wire_free(all);
    status = eqs_allocate_raw(&all->data, total, 1);
    all->capacity = status == EQS_OK ? total : 0;
  }
  EQS_TRY(eqs_agree(trainers, status));
  EQS_TRY(
      eqs_check_mpi(MPI_Igatherv(own->data, size, MPI_BYTE, all->data, sizes, offsets, MPI_BYTE, 0, trainers, &request),
                    "MPI_Igatherv"));
  EQS_TRY(eqs_session_wait(session, &request, "the other trainers' data"));
  all->size = first ? total : 0;
cleanup:
  free(sizes);
  free(offsets);
  return status;
}

eqs_status eqs_share_own_items(eqs_session *session, eqs_wire *all)
{
  eqs_status status = EQS_OK;
  if (eqs_trains(session)) EQS_TRY(gather_own(session, &session->own_items, all));
  EQS_TRY(eqs_session_broadcast(session, session->roster.trainer_rank[0], all, "the trainers' data"));
cleanup:
  return status;
}

/* How many items a wire has from its position on. */
static eqs_status count_items(eqs_wire reader, int *count)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_item item;
  while (reader.position < reader.size) {
    EQS_TRY(get_item(&reader, &item));
    (*count)++;
  }
cleanup:
  return status;
}

eqs_status eqs_unpack_items(eqs_wire *shared, eqs_wire *own, eqs_checkpoint_item **items, int *count)
{
  eqs_status status = EQS_OK;
  int filled = 0;
  *items = NULL, *count = 0;
  EQS_TRY(count_items(*shared, count));
  EQS_TRY(count_items(*own, count));
  EQS_TRY(eqs_allocate(items, *count, sizeof **items));
  while (shared->position < shared->size) EQS_TRY(get_item(shared, &(*items)[filled++]));
  while (own->position < own->size) EQS_TRY(get_item(own, &(*items)[filled++]));
cleanup:
  return status;
}

eqs_status eqs_keep_restored_items(eqs_session *session, const eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  for (int i = 0; i < contents->items; i++)
    EQS_TRY(put_item(&session->trainer_data, contents->item[i].key, contents->item[i].bytes, contents->item[i].size));
cleanup:
  return status;
}

static eqs_status find_item(const eqs_session *session, const char *key, eqs_checkpoint_item *found)
{
  eqs_status status = EQS_OK;
  eqs_wire reader = session->trainer_data;
  reader.position = 0;
  *found = (eqs_checkpoint_item){0};
  while (reader.position < reader.size) {
    eqs_checkpoint_item item;
    EQS_TRY(get_item(&reader, &item));
    if (strcmp(item.key, key) == 0) {
      *found = item;
      break;
    }
  }
cleanup:
  return status;
}

eqs_status eqs_restore_settings(eqs_session *session)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_item item;
  EQS_TRY(find_item(session, settings_key, &item));
  if (item.bytes != NULL)
    EQS_TRY(eqs_settings_read(session->config, item.bytes, item.size, session->restored_group,
                              session->roster.owner == 0, session->settings));
cleanup:
  return status;
}

eqs_status eqs_trainer_data(const eqs_session *session, const char *key, const void **bytes, size_t *size)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_item item;
  EQS_TRY(eqs_check_session(session, "eqs_trainer_data"));
  EQS_TRY(eqs_check_pointer(key, "eqs_trainer_data", "key"));
  EQS_TRY(eqs_check_pointer(bytes, "eqs_trainer_data", "bytes"));
  EQS_TRY(eqs_check_pointer(size, "eqs_trainer_data", "size"));
  EQS_TRY(find_item(session, key, &item));
  *bytes = item.bytes, *size = item.size;
cleanup:
  return status;
}
