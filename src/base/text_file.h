/* Reading of texts that people or other programs wrote. */
#ifndef EQS_BASE_TEXT_FILE_H
#define EQS_BASE_TEXT_FILE_H

#include "base/status.h"

/*
 * The whole of a file. Pipes and devices, which could block for ever, are refused.
 *
 * largest  [in]  bytes that a file of its kind can have
 * text     [out] allocated, zero-terminated
 *
 * EQS_IO: cannot be read; EQS_USAGE: larger, or with a zero byte in it. Not collective.
 */
eqs_status eqs_text_file_read(const char *path, int64_t largest, char **text);

#endif
