#include "service/handles.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { block_size = 128 };

struct eqs_handle_block {
  eqs_handle_block *next;
  int count;
  eqs_parameter handle[block_size];
};

/* Of sessions that were closed: programs may still hold their handles. */
static eqs_handle_block *closed_blocks;

static struct {
  int64_t count;
  eqs_session **session;
} open_sessions;

eqs_status eqs_handle_create(eqs_session *session, int64_t index, eqs_handle_block **blocks, eqs_parameter **handle)
{
  eqs_status status = EQS_OK;
  if (*blocks == NULL || (*blocks)->count == block_size) {
    eqs_handle_block *block;
    EQS_TRY(eqs_allocate(&block, 1, sizeof *block));
    block->next = *blocks;
    *blocks = block;
  }
  *handle = &(*blocks)->handle[(*blocks)->count++];
  **handle = (eqs_parameter){.session = session, .index = index};
cleanup:
  return status;
}

void eqs_handles_close(eqs_handle_block **blocks)
{
  while (*blocks != NULL) {
    eqs_handle_block *block = *blocks;
    *blocks = block->next;
    for (int i = 0; i < block->count; i++) block->handle[i].session = NULL;
    block->next = closed_blocks;
    closed_blocks = block;
  }
}

eqs_status eqs_session_register(eqs_session *session)
{
  eqs_status status = eqs_grow(&open_sessions.session, open_sessions.count, sizeof *open_sessions.session);
  if (status == EQS_OK) open_sessions.session[open_sessions.count++] = session;
  return status;
}

void eqs_session_unregister(const eqs_session *session)
{
  int64_t kept = 0;
  for (int64_t i = 0; i < open_sessions.count; i++)
    if (open_sessions.session[i] != session) open_sessions.session[kept++] = open_sessions.session[i];
  open_sessions.count = kept;
  if (kept == 0) {
    free(open_sessions.session);
    open_sessions.session = NULL;
  }
}

eqs_session *eqs_session_open_one(void)
{
  return open_sessions.count > 0 ? open_sessions.session[open_sessions.count - 1] : NULL;
}

eqs_status eqs_check_session(const eqs_session *session, const char *call)
{
  if (session == NULL)
    return eqs_fail(EQS_USAGE, "%s: there is no session (NULL): it was closed, or never opened", call);
  for (int64_t i = 0; i < open_sessions.count; i++)
    if (open_sessions.session[i] == session) return EQS_OK;
  return eqs_fail(EQS_USAGE, "%s: the session was closed", call);
}

eqs_status eqs_check_parameter(const eqs_parameter *parameter, const char *call)
{
  if (parameter == NULL) return eqs_fail(EQS_USAGE, "%s: the parameter is NULL", call);
  return parameter->session != NULL ? EQS_OK : eqs_fail(EQS_USAGE, "%s: the parameter's session was closed", call);
}

eqs_status eqs_check_pointer(const void *pointer, const char *call, const char *argument)
{
  return pointer != NULL ? EQS_OK : eqs_fail(EQS_USAGE, "%s: %s is NULL", call, argument);
}

/* The first member of every public struct. */
static eqs_status read_size(const void *given, size_t known, const char *type, size_t *size)
{
  if (given == NULL) return eqs_fail(EQS_USAGE, "%s: the pointer is NULL", type);
  memcpy(size, given, sizeof *size);
  if (*size < sizeof *size || *size > 64 * known)
    return eqs_fail(EQS_USAGE, "%s: struct_size must be sizeof(%s), is %zu", type, type, *size);
  if (*size > known) *size = known;
  return EQS_OK;
}

eqs_status eqs_read_struct(const void *given, size_t known, const char *type, void *copy)
{
  size_t size = 0;
  eqs_status status = read_size(given, known, type, &size);
  if (status != EQS_OK) return status;
  memset(copy, 0, known);
  memcpy(copy, given, size);
  memcpy(copy, &known, sizeof known);
  return EQS_OK;
}

eqs_status eqs_give_struct(const void *value, size_t known, const char *type, void *given)
{
  size_t size = 0, skipped = sizeof size;
  eqs_status status = read_size(given, known, type, &size);
  if (status == EQS_OK) memcpy((char *)given + skipped, (const char *)value + skipped, size - skipped);
  return status;
}
