#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Asked at every message, so that a program may change it. */
static bool debugs(void)
{
  const char *wanted = getenv("EQUISHARD_LOG");
  return wanted != NULL && strcmp(wanted, "debug") == 0;
}

void eqs_log(eqs_log_level level, const char *format, ...)
{
  static const char *const prefix[] = {
      "equishard: debug: ", "equishard: ", "equishard: warning: ", "equishard: error: "};
  if (level == EQS_LOG_DEBUG && !debugs()) return;
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
