#include "bench/machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "dist/kernels.h"

/* The processor's name as Linux tells it. */
static void processor_name(char *name, size_t size)
{
  static const char key[] = "model name";
  char line[256];
  FILE *file = fopen("/proc/cpuinfo", "r");
  snprintf(name, size, "unknown processor");
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    const char *value = strchr(line, ':');
    if (strncmp(line, key, strlen(key)) != 0 || value == NULL) continue;
    snprintf(name, size, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
    break;
  }
  if (file != NULL) fclose(file);
}

void eqs_machine_text(char *text, size_t size)
{
  char processor[128];
  struct utsname system;
  processor_name(processor, sizeof processor);
  if (uname(&system) != 0) strcpy(system.sysname, "unknown system"), strcpy(system.release, "");
  snprintf(text, size, "%s, %ld cores, %s %s, BLIS kernels %s", processor, sysconf(_SC_NPROCESSORS_ONLN),
           system.sysname, system.release, eqs_blis_kernels());
}
