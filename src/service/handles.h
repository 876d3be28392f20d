/*
 * What a program holds of sessions: every call checks that its session is open, or its parameter's, before it looks at
 * it. A parameter's handle outlives its session by the few bytes that say so.
 */
#ifndef EQS_SERVICE_HANDLES_H
#define EQS_SERVICE_HANDLES_H

#include <stdbool.h>

#include "base/status.h"

struct eqs_parameter {
  eqs_session *session; /* NULL: closed */
  int64_t index;        /* in the order of addition */
};

typedef struct eqs_handle_block eqs_handle_block;

/* A new handle of a session. blocks is the session's list of them. */
eqs_status eqs_handle_create(eqs_session *session, int64_t index, eqs_handle_block **blocks, eqs_parameter **handle);

/* The session ends: its handles say so from now on. */
void eqs_handles_close(eqs_handle_block **blocks);

/* Sessions that are open, in the order of their opening. */
eqs_status eqs_session_register(eqs_session *session);
void eqs_session_unregister(const eqs_session *session);
eqs_session *eqs_session_open_one(void); /* the last one that is open, or NULL */

/* EQS_USAGE, naming the call: NULL, or closed. */
eqs_status eqs_check_session(const eqs_session *session, const char *call);
eqs_status eqs_check_parameter(const eqs_parameter *parameter, const char *call);
eqs_status eqs_check_pointer(const void *pointer, const char *call, const char *argument);

/*
 * Copy a public struct into one of this version: of `known` bytes, members that the caller's does not have are 0.
 * EQS_USAGE: its struct_size is not set. And back: as much as the caller's has.
 */
eqs_status eqs_read_struct(const void *given, size_t known, const char *type, void *copy);
eqs_status eqs_give_struct(const void *value, size_t known, const char *type, void *given);

#endif
