#include "base/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

static eqs_status open_regular(const char *path, int64_t largest, int *file, int64_t *size)
{
  struct stat about;
  *file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (*file < 0 || fstat(*file, &about) != 0) return eqs_fail(EQS_IO, "%s: cannot be read: %s", path, strerror(errno));
  if (!S_ISREG(about.st_mode)) return eqs_fail(EQS_IO, "%s: cannot be read: not a regular file", path);
  if (about.st_size > largest)
    return eqs_fail(EQS_USAGE, "%s: larger than %lld MiB: not what it should be", path, (long long)(largest >> 20));
  *size = about.st_size;
  return EQS_OK;
}

const char *eqs_skip_byte_order_mark(const char *text)
{
  static const char mark[] = "\xef\xbb\xbf";
  size_t length = strlen(mark);
  return strncmp(text, mark, length) == 0 ? text + length : text;
}

eqs_status eqs_text_file_read(const char *path, int64_t largest, char **text)
{
  eqs_status status = EQS_OK;
  char *read_so_far = NULL;
  int file = -1;
  int64_t size = 0, length = 0;
  *text = NULL;
  EQS_TRY(open_regular(path, largest, &file, &size));
  EQS_TRY(eqs_allocate_raw(&read_so_far, size + 1, 1));
  while (length < size) {
    ssize_t got = read(file, read_so_far + length, (size_t)(size - length));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) EQS_TRY(eqs_fail(EQS_IO, "%s: cannot be read: %s", path, strerror(errno)));
    if (got == 0) break;
    length += got;
  }
  read_so_far[length] = '\0';
  if ((int64_t)strlen(read_so_far) != length)
    EQS_TRY(eqs_fail(EQS_USAGE, "%s: contains a zero byte: not a text", path));
  const char *begin = eqs_skip_byte_order_mark(read_so_far);
  memmove(read_so_far, begin, strlen(begin) + 1);
  *text = read_so_far;
  read_so_far = NULL;
cleanup:
  if (file >= 0) close(file);
  free(read_so_far);
  return status;
}
