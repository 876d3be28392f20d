/* The texts of a configuration: a file, and those that it includes. */
#ifndef EQS_MODEL_SOURCES_H
#define EQS_MODEL_SOURCES_H

#include "base/status.h"

/* The texts of a configuration file and of the files that it includes, the file itself first. */
typedef struct {
  char *path;
  char *text; /* zero-terminated */
} eqs_source;

typedef struct {
  int count;
  eqs_source *sources;
} eqs_sources;

/*
 * Read a file and the files it includes: relative to the including file, no cycles, each file once, after all that
 * include it, and otherwise in the order of `include`; so do their groups follow one another. Of other keys, and of
 * those in `defaults`, `checkpoint` and `metrics`, the first file that gives one counts. EQS_IO: not to be read;
 * EQS_USAGE: not YAML, or too large.
 */
eqs_status eqs_sources_read(const char *path, eqs_sources *sources);

/* The same from a text; messages call it by `name`, from whose folder it includes. */
eqs_status eqs_sources_read_text(const char *text, const char *name, eqs_sources *sources);
void eqs_sources_free(eqs_sources *sources);

/* Sources as one block of bytes, for a broadcast, and back. `bytes` is allocated. */
eqs_status eqs_sources_pack(const eqs_sources *sources, char **bytes, int64_t *size);
eqs_status eqs_sources_unpack(const void *bytes, int64_t size, eqs_sources *sources);

#endif
