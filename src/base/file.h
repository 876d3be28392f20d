/* Whole transfers and durable names, with the system's errors in words. Not collective. */
#ifndef EQS_BASE_FILE_H
#define EQS_BASE_FILE_H

#include <stdbool.h>

#include "base/status.h"

/* open(2); `file` is the descriptor. EQS_IO. */
eqs_status eqs_file_open(const char *path, int flags, int *file);

/* Open a regular file to be read: its size too; a pipe holds nobody up. EQS_IO. */
eqs_status eqs_file_open_input(const char *path, int *file, int64_t *bytes);

/* Whether two names lead to one file. */
bool eqs_file_same(const char *a, const char *b);

/* Close a descriptor that is not negative. */
void eqs_file_close(int file);

/*
 * Close a file that was written but not flushed, and set the descriptor to -1: network file systems may say only now
 * that there was no space. EQS_IO.
 */
eqs_status eqs_file_finish(int *file, const char *path);

/* Size of an open file. EQS_IO. */
eqs_status eqs_file_size(int file, const char *path, int64_t *bytes);

/* All of it or a failure. EQS_IO; reading: EQS_DAMAGED if the file ends before. */
eqs_status eqs_file_write(int file, const char *path, const void *data, int64_t bytes, int64_t offset);
eqs_status eqs_file_read(int file, const char *path, void *data, int64_t bytes, int64_t offset);

/* Make a file this long. EQS_IO. */
eqs_status eqs_file_resize(int file, const char *path, int64_t bytes);

/*
 * Have the file system set `bytes` aside, so that a full disk is noticed before data is written. File systems that
 * cannot are left alone. EQS_IO.
 */
eqs_status eqs_file_reserve(int file, const char *path, int64_t bytes);

/* To the disk: a file; the directory that has a path's name. EQS_IO. */
eqs_status eqs_file_sync(int file, const char *path);
eqs_status eqs_directory_sync(const char *path);

/* rename(2), then the directory to the disk. EQS_IO. */
eqs_status eqs_file_rename(const char *from, const char *to);

#endif
