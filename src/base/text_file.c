#include "base/text_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

const char *eqs_skip_byte_order_mark(const char *text)
{
  static const char mark[] = "\xef\xbb\xbf";
  size_t length = strlen(mark);
  return strncmp(text, mark, length) == 0 ? text + length : text;
}

eqs_status eqs_text_file_read(const char *path, int64_t largest, char **text)
{
  eqs_status status = EQS_OK;
  char *bytes = NULL;
  int file = -1;
  int64_t size = 0;
  *text = NULL;
  EQS_TRY(eqs_file_open_input(path, &file, &size));
  if (size > largest)
    EQS_TRY(eqs_fail(EQS_USAGE, "%s: a text of this kind must not be larger than %lld MiB, is %lld bytes", path,
                     (long long)(largest >> 20), (long long)size));
  EQS_TRY(eqs_allocate_raw(&bytes, size + 1, 1));
  EQS_TRY(eqs_file_read(file, path, bytes, size, 0));
  bytes[size] = '\0';
  if ((int64_t)strlen(bytes) != size) EQS_TRY(eqs_fail(EQS_USAGE, "%s: contains a zero byte: not a text", path));
  const char *begin = eqs_skip_byte_order_mark(bytes);
  memmove(bytes, begin, strlen(begin) + 1);
  *text = bytes;
  bytes = NULL;
cleanup:
  eqs_file_close(file);
  free(bytes);
  return status;
}
