#include "model/parameter_name.h"

#include <stdio.h>
#include <string.h>

eqs_status eqs_check_parameter_name(const char *name)
{
  char suggested[400];
  if (name == NULL || name[0] == '\0') return eqs_fail(EQS_USAGE, "a parameter has no name");
  if (strcmp(name, ".") == 0) return eqs_fail(EQS_USAGE, "parameter '.': a checkpoint cannot have this name");
  if (strchr(name, '/') == NULL) return EQS_OK;
  snprintf(suggested, sizeof suggested, "%s", name);
  for (char *c = suggested; *c != '\0'; c++)
    if (*c == '/') *c = '.';
  return eqs_fail(EQS_USAGE, "parameter '%.399s': a checkpoint cannot have a name with '/': call it '%s'", name,
                  suggested);
}
