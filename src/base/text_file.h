/* Reading of texts that people or other programs wrote. */
#ifndef EQS_BASE_TEXT_FILE_H
#define EQS_BASE_TEXT_FILE_H

#include "base/status.h"

/* A text without the byte-order mark of UTF-8, which some editors write in front of it. */
const char *eqs_skip_byte_order_mark(const char *text);

/*
 * The whole of a file, but for a byte-order mark. Pipes and devices, which could block for ever, are refused.
 *
 * largest  [in]  bytes that a file of its kind can have
 * text     [out] allocated, zero-terminated
 *
 * EQS_IO: cannot be read; EQS_DAMAGED: it became shorter meanwhile; EQS_USAGE: larger, or with a zero byte in it. Not
 * collective.
 */
eqs_status eqs_text_file_read(const char *path, int64_t largest, char **text);

#endif
