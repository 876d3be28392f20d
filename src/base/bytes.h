/* The writer and the reader of packed bytes. */
#ifndef EQS_BASE_BYTES_H
#define EQS_BASE_BYTES_H

#include "base/status.h"

/* Grows by doubling; after a failure nothing is added. Zeroed at first. */
typedef struct {
  char *bytes;
  int64_t size, room;
  eqs_status status; /* EQS_FAILED: out of memory */
} eqs_bytes;

void eqs_bytes_free(eqs_bytes *to);

/* `bytes` may not be a part of `to`. */
void eqs_bytes_add(eqs_bytes *to, const void *bytes, int64_t size);

void eqs_bytes_add_zeros(eqs_bytes *to, int64_t size);

/* The lowest `width` bytes of a number, the least first. */
void eqs_bytes_add_little(eqs_bytes *to, uint64_t number, int width);

/* A number that takes a byte for each of its 7 bits. */
void eqs_bytes_add_count(eqs_bytes *to, int64_t count);

/* A length, as a count, and the bytes; a text without its end. */
void eqs_bytes_add_block(eqs_bytes *to, const void *bytes, int64_t size);
void eqs_bytes_add_text(eqs_bytes *to, const char *text);

/*
 * What is left to be taken of bytes that nobody has to trust. Every read is checked, and the first failure stays: after
 * it nothing is taken any more, all reads return its status, and numbers are 0. So a reader may check once, at the end.
 */
typedef struct {
  const char *next, *end;
  eqs_status status;
} eqs_bytes_left;

eqs_bytes_left eqs_bytes_reader(const void *bytes, int64_t size);

/* EQS_DAMAGED: fewer are left. */
eqs_status eqs_bytes_take(eqs_bytes_left *from, void *to, int64_t size);
eqs_status eqs_bytes_take_number(eqs_bytes_left *from, int64_t *number); /* of 8 bytes */

/* A pointer to the next bytes, where they lie; NULL: fewer are left. */
const char *eqs_bytes_skip(eqs_bytes_left *from, int64_t size);

/* EQS_DAMAGED: something is left that nobody has taken. */
eqs_status eqs_bytes_end(eqs_bytes_left *from);

/* EQS_DAMAGED: negative, more than `most`, or that many things of at least `least` bytes each are not left. */
eqs_status eqs_bytes_take_count(eqs_bytes_left *from, int64_t least, int64_t most, int64_t *count);

/* Allocated, with a zero byte behind; a text has none inside. EQS_DAMAGED, EQS_FAILED. */
eqs_status eqs_bytes_take_block(eqs_bytes_left *from, char **bytes, int64_t *size);
eqs_status eqs_bytes_take_text(eqs_bytes_left *from, char **text);

/* What is said of bytes that are not what they should be. Returns EQS_DAMAGED. */
eqs_status eqs_bytes_garbled(void);

#endif
