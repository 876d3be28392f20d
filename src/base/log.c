#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

void eqs_log(eqs_log_level level, const char *format, ...)
{
  static const char *const prefix[] = {"equishard: ", "equishard: warning: ", "equishard: error: "};
  char line[4096];
  size_t length = (size_t)snprintf(line, sizeof line, "%s", prefix[level]);
  va_list arguments;
  va_start(arguments, format);
  int written = vsnprintf(line + length, sizeof line - length - 1, format, arguments);
  va_end(arguments);
  length += written < 0 ? 0 : (size_t)written;
  if (length > sizeof line - 2) length = sizeof line - 2;
  line[length++] = '\n';
  fflush(stdout);
  ssize_t ignored = write(STDERR_FILENO, line, length);
  (void)ignored;
}
