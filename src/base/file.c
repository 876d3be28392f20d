#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

static eqs_status failed(const char *doing, const char *path)
{
  return eqs_fail(EQS_IO, "%s: cannot %s: %s", path, doing, strerror(errno));
}

eqs_status eqs_file_open(const char *path, int flags, int *file)
{
  do *file = open(path, flags | O_CLOEXEC, 0666);
  while (*file < 0 && errno == EINTR);
  return *file < 0 ? failed(flags & O_CREAT ? "create" : "open", path) : EQS_OK;
}

eqs_status eqs_file_open_input(const char *path, int *file, int64_t *bytes)
{
  struct stat about;
  eqs_status status = eqs_file_open(path, O_RDONLY | O_NONBLOCK, file);
  if (status != EQS_OK) return status;
  if (fstat(*file, &about) == 0 && S_ISREG(about.st_mode)) {
    *bytes = about.st_size;
    return EQS_OK;
  }
  eqs_file_close(*file);
  *file = -1;
  return eqs_fail(EQS_IO, "%s: not a file", path);
}

bool eqs_file_same(const char *a, const char *b)
{
  struct stat of_a, of_b;
  return stat(a, &of_a) == 0 && stat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}

void eqs_file_close(int file)
{
  if (file >= 0) close(file);
}

eqs_status eqs_file_finish(int *file, const char *path)
{
  int closing = *file;
  *file = -1;
  return close(closing) == 0 || errno == EINTR ? EQS_OK : failed("write", path); /* interrupted, it is closed as well */
}

eqs_status eqs_file_size(int file, const char *path, int64_t *bytes)
{
  struct stat about;
  if (fstat(file, &about) != 0) return failed("look at", path);
  *bytes = about.st_size;
  return EQS_OK;
}

/* One system call moves at most 2 GiB. */
static size_t piece_of(int64_t bytes)
{
  const int64_t piece = 1 << 30;
  return (size_t)(bytes < piece ? bytes : piece);
}

eqs_status eqs_file_write(int file, const char *path, const void *data, int64_t bytes, int64_t offset)
{
  const char *next = data;
  while (bytes > 0) {
    ssize_t written = pwrite(file, next, piece_of(bytes), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed("write", path);
    next += written;
    offset += written;
    bytes -= written;
  }
  return EQS_OK;
}

eqs_status eqs_file_read(int file, const char *path, void *data, int64_t bytes, int64_t offset)
{
  char *next = data;
  while (bytes > 0) {
    ssize_t got = pread(file, next, piece_of(bytes), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed("read", path);
    if (got == 0) return eqs_fail(EQS_DAMAGED, "%s: damaged: cut off", path);
    next += got;
    offset += got;
    bytes -= got;
  }
  return EQS_OK;
}

eqs_status eqs_file_resize(int file, const char *path, int64_t bytes)
{
  int result;
  do result = ftruncate(file, bytes);
  while (result != 0 && errno == EINTR);
  return result == 0 ? EQS_OK : failed("resize", path);
}

eqs_status eqs_file_reserve(int file, const char *path, int64_t bytes)
{
  int result;
  do result = fallocate(file, 0, 0, bytes);
  while (result != 0 && errno == EINTR);
  if (result != 0 && errno != EOPNOTSUPP && errno != ENOSYS) return failed("reserve space", path);
  return EQS_OK;
}

eqs_status eqs_file_sync(int file, const char *path)
{
  int result;
  do result = fsync(file);
  while (result != 0 && errno == EINTR);
  return result == 0 ? EQS_OK : failed("flush to the disk", path);
}

eqs_status eqs_directory_sync(const char *path)
{
  eqs_status status = EQS_OK;
  char *directory = NULL;
  int file = -1;
  const char *slash = strrchr(path, '/');
  if (slash == NULL)
    EQS_TRY(eqs_copy_text(&directory, "."));
  else
    EQS_TRY(eqs_format(&directory, "%.*s", slash == path ? 1 : (int)(slash - path), path));
  EQS_TRY(eqs_file_open(directory, O_RDONLY | O_DIRECTORY, &file));
  status = eqs_file_sync(file, directory);
  if (status != EQS_OK && errno == EINVAL) status = EQS_OK; /* a file system without it */
cleanup:
  eqs_file_close(file);
  free(directory);
  return status;
}

eqs_status eqs_file_rename(const char *from, const char *to)
{
  if (rename(from, to) != 0) return failed("rename its new version", to);
  return eqs_directory_sync(to);
}
