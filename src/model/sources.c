#include "model/sources.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memory.h"
#include "base/text_file.h"
#include "model/yaml.h"

enum { largest_file = 1 << 20, max_files = 64, max_include_depth = 8 };

/* `name` as seen from the folder of `from`. */
static eqs_status resolve(const char *from, const char *name, char **path)
{
  const char *slash = strrchr(from, '/');
  int folder = name[0] == '/' || slash == NULL ? 0 : (int)(slash - from) + 1;
  if (asprintf(path, "%.*s%s", folder, from, name) >= 0) return EQS_OK;
  *path = NULL;
  return eqs_fail(EQS_FAILED, "out of memory");
}

/* The `include` of a document: a text or a list of texts. Absent if the root is no mapping: parsing will complain. */
static eqs_yaml_value find_include(eqs_yaml_file *file)
{
  eqs_yaml_value root = eqs_yaml_root(file);
  eqs_yaml_mapping mapping;
  eqs_yaml_value include = {file, NULL};
  if (eqs_yaml_read_mapping(root, "a configuration", &mapping) != EQS_OK) return include;
  for (int i = 0; i < mapping.count; i++)
    if (strcmp(mapping.pairs[i].name, "include") == 0) include = mapping.pairs[i].value;
  eqs_yaml_mapping_free(&mapping);
  return include;
}

/* The files on the way from the first file to the one being read. */
typedef struct chain {
  const struct chain *parent;
  const char *path;
  const char *text; /* of one that is no file; else NULL */
  char *identity;   /* the same for every path to the file */
  int depth;
} chain;

/* What has been read, every file after those that it includes. */
typedef struct {
  eqs_sources sources;
  char *identity[max_files];
} collection;

static eqs_status identify(chain *link)
{
  link->identity = realpath(link->path, NULL);
  if (link->identity != NULL) return EQS_OK;
  return eqs_fail(errno == ENOMEM ? EQS_FAILED : EQS_IO, "%s: cannot be read: %s", link->path, strerror(errno));
}

static bool is_read(const collection *read, const char *identity)
{
  for (int i = 0; i < read->sources.count; i++)
    if (strcmp(read->identity[i], identity) == 0) return true;
  return false;
}

static eqs_status check_chain(const chain *link, eqs_yaml_value at, const collection *read)
{
  for (const chain *outer = link->parent; outer != NULL; outer = outer->parent)
    if (strcmp(outer->identity, link->identity) == 0)
      return eqs_yaml_fail(at, "include: %s includes itself", link->path);
  if (link->depth > max_include_depth) return eqs_yaml_fail(at, "include: more than %d files deep", max_include_depth);
  if (read->sources.count + link->depth >= max_files)
    return eqs_yaml_fail(at, "include: more than %d files", max_files);
  return EQS_OK;
}

static eqs_status read_source(chain *link, collection *read);

/* Read a file that another includes, unless that has been done. */
static eqs_status read_included(const chain *parent, eqs_yaml_value at, collection *read)
{
  eqs_status status = EQS_OK;
  const char *name;
  char *path = NULL;
  chain link = {.parent = parent, .depth = parent->depth + 1};
  EQS_TRY(eqs_yaml_read_text(at, "include", &name));
  EQS_TRY(resolve(parent->path, name, &path));
  link.path = path;
  status = identify(&link);
  if (status == EQS_OK && !is_read(read, link.identity)) {
    EQS_TRY(check_chain(&link, at, read));
    status = read_source(&link, read);
  }
  if (status == EQS_IO) status = eqs_fail_in(status, "%s:%d: include", parent->path, eqs_yaml_line(at));
cleanup:
  free(link.identity);
  free(path);
  return status;
}

/* From the last to the first: turned around in the end, they stand in the order of the list. */
static eqs_status read_all_included(const chain *link, const char *text, collection *read)
{
  eqs_status status = EQS_OK;
  eqs_yaml_file file = {0};
  int length;
  EQS_TRY(eqs_yaml_load(link->path, text, &file));
  eqs_yaml_value include = find_include(&file);
  if (include.node == NULL) goto cleanup;
  EQS_TRY(eqs_yaml_list_length(include, "include", max_files, &length));
  for (int i = length; i-- > 0;) EQS_TRY(read_included(link, eqs_yaml_item(include, i), read));
cleanup:
  eqs_yaml_unload(&file);
  return status;
}

static eqs_status read_source(chain *link, collection *read)
{
  eqs_status status = EQS_OK;
  eqs_source source = {0};
  eqs_sources *sources = &read->sources;
  if (link->text != NULL)
    EQS_TRY(eqs_copy_text(&source.text, link->text));
  else
    EQS_TRY(eqs_text_file_read(link->path, largest_file, &source.text));
  EQS_TRY(eqs_copy_text(&source.path, link->path));
  EQS_TRY(read_all_included(link, source.text, read));
  EQS_TRY(eqs_grow(&sources->sources, sources->count, sizeof *sources->sources));
  read->identity[sources->count] = link->identity;
  sources->sources[sources->count++] = source;
  link->identity = NULL;
  source = (eqs_source){0};
cleanup:
  free(source.path);
  free(source.text);
  return status;
}

static void turn_around(eqs_sources *sources)
{
  for (int i = 0, j = sources->count - 1; i < j; i++, j--) {
    eqs_source first = sources->sources[i];
    sources->sources[i] = sources->sources[j];
    sources->sources[j] = first;
  }
}

static eqs_status read_all(chain *link, eqs_sources *sources)
{
  collection read = {0};
  eqs_status status = link->text != NULL ? eqs_copy_text(&link->identity, "") : identify(link);
  if (status == EQS_OK) status = read_source(link, &read);
  for (int i = 0; i < read.sources.count; i++) free(read.identity[i]);
  free(link->identity);
  if (status != EQS_OK) eqs_sources_free(&read.sources);
  turn_around(&read.sources);
  *sources = read.sources;
  return status;
}

eqs_status eqs_sources_read(const char *path, eqs_sources *sources)
{
  chain link = {.path = path};
  return read_all(&link, sources);
}

eqs_status eqs_sources_read_text(const char *text, const char *name, eqs_sources *sources)
{
  chain link = {.path = name, .text = text};
  if (strlen(text) > largest_file)
    return eqs_fail(EQS_USAGE, "%s: the text is longer than %d bytes", name, largest_file);
  return read_all(&link, sources);
}

void eqs_sources_free(eqs_sources *sources)
{
  for (int i = 0; i < sources->count; i++) {
    free(sources->sources[i].path);
    free(sources->sources[i].text);
  }
  free(sources->sources);
  *sources = (eqs_sources){0};
}

/* Packed: path, text, path, text ... */
eqs_status eqs_sources_pack(const eqs_sources *sources, char **bytes, int64_t *size)
{
  eqs_bytes packed = {0};
  for (int i = 0; i < sources->count; i++) {
    eqs_bytes_add_text(&packed, sources->sources[i].path);
    eqs_bytes_add_text(&packed, sources->sources[i].text);
  }
  eqs_status status = packed.status;
  if (status != EQS_OK) eqs_bytes_free(&packed);
  *bytes = packed.bytes;
  *size = packed.size;
  return status;
}

eqs_status eqs_sources_unpack(const void *bytes, int64_t size, eqs_sources *sources)
{
  eqs_status status = EQS_OK;
  eqs_bytes_left from = eqs_bytes_reader(bytes, size);
  *sources = (eqs_sources){0};
  while (from.next < from.end) {
    EQS_TRY(eqs_grow(&sources->sources, sources->count, sizeof *sources->sources));
    eqs_source *source = &sources->sources[sources->count++];
    *source = (eqs_source){0};
    EQS_TRY(eqs_bytes_take_text(&from, &source->path));
    EQS_TRY(eqs_bytes_take_text(&from, &source->text));
  }
cleanup:
  if (status != EQS_OK) eqs_sources_free(sources);
  if (status == EQS_DAMAGED) status = eqs_fail(EQS_FAILED, "the configuration arrived incomplete");
  return status;
}
