#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

static _Thread_local char message[2048]; /* a thread that writes a checkpoint has its own failures */

eqs_status eqs_fail(eqs_status status, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  char text[sizeof message];
  vsnprintf(text, sizeof text, format, arguments); /* arguments may point into message */
  va_end(arguments);
  memcpy(message, text, sizeof message);
  return status;
}

eqs_status eqs_fail_in(eqs_status status, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  char context[256];
  vsnprintf(context, sizeof context, format, arguments);
  va_end(arguments);
  return eqs_fail(status, "%s: %s", context, message);
}

const char *eqs_error_message(void)
{
  return message;
}

void eqs_trace(const char *file, int line, const char *function, eqs_status status)
{
  eqs_log(EQS_LOG_DEBUG, "%s:%d: %s: status %d: %s", file, line, function, (int)status, message);
}
