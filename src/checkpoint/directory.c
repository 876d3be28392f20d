#include "checkpoint/directory.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "checkpoint/read_contents.h"
#include "checkpoint/write.h"
#include "dist/communicator.h"

/* A checkpoint of a directory. */
typedef struct {
  int64_t step;
  struct timespec written;
  char *path;
} found_file;

typedef struct {
  int64_t count;
  found_file *file;
} found_files;

/* "step-<digits>.h5", followed by `ending`. */
static bool is_step_name(const char *name, const char *ending, int64_t *step)
{
  static const char prefix[] = "step-", suffix[] = ".h5";
  if (strncmp(name, prefix, strlen(prefix)) != 0) return false;
  name += strlen(prefix);
  size_t digits = strspn(name, "0123456789");
  if (digits == 0 || digits > 18) return false; /* more do not fit */
  *step = strtoll(name, NULL, 10);
  name += digits;
  return strncmp(name, suffix, strlen(suffix)) == 0 && strcmp(name + strlen(suffix), ending) == 0;
}

/* The one written last first; of one moment, the one of the latest step. */
static int newest_first(const void *a, const void *b)
{
  const found_file *left = a, *right = b;
  if (left->written.tv_sec != right->written.tv_sec) return left->written.tv_sec > right->written.tv_sec ? -1 : 1;
  if (left->written.tv_nsec != right->written.tv_nsec) return left->written.tv_nsec > right->written.tv_nsec ? -1 : 1;
  return left->step > right->step ? -1 : left->step < right->step;
}

static void free_found(found_files *found)
{
  for (int64_t i = 0; i < found->count; i++) free(found->file[i].path);
  free(found->file);
}

/* The files of a directory that are named as checkpoints, with an ending; newest first. */
static eqs_status list_files(const char *directory, const char *ending, found_files *found)
{
  eqs_status status = EQS_OK;
  DIR *opened = opendir(directory);
  if (opened == NULL) return eqs_fail(EQS_IO, "%s: cannot open: %s", directory, strerror(errno));
  for (struct dirent *entry = readdir(opened); entry; entry = readdir(opened)) {
    struct stat about;
    int64_t step;
    if (!is_step_name(entry->d_name, ending, &step)) continue;
    EQS_TRY(eqs_grow(&found->file, found->count, sizeof *found->file));
    found_file *file = &found->file[found->count];
    EQS_TRY(eqs_format(&file->path, "%s/%s", directory, entry->d_name));
    found->count++;
    file->step = step;
    if (stat(file->path, &about) == 0) file->written = about.st_mtim;
  }
  if (found->count > 0) qsort(found->file, (size_t)found->count, sizeof *found->file, newest_first);
cleanup:
  closedir(opened);
  return status;
}

/* Make one directory, if it is not there, and have its name on the disk. */
static eqs_status make_one_directory(const char *path)
{
  if (mkdir(path, 0777) == 0) return eqs_directory_sync(path);
  return errno == EEXIST ? EQS_OK : eqs_fail(EQS_IO, "%s: cannot make the directory: %s", path, strerror(errno));
}

eqs_status eqs_directory_make(const char *directory)
{
  eqs_status status = EQS_OK;
  char *path = NULL;
  EQS_TRY(eqs_copy_text(&path, directory));
  for (char *end = path + 1;; end++) {
    if (*end != '/' && *end != '\0') continue;
    char ending = *end;
    *end = '\0';
    EQS_TRY(make_one_directory(path));
    *end = ending;
    if (ending == '\0') break;
  }
cleanup:
  free(path);
  return status;
}

static eqs_status remove_leftovers(const char *directory)
{
  eqs_status status = EQS_OK;
  found_files leftovers = {0};
  char *link = NULL;
  EQS_TRY(list_files(directory, ".partial", &leftovers));
  for (int64_t i = 0; i < leftovers.count; i++) unlink(leftovers.file[i].path);
  EQS_TRY(eqs_format(&link, "%s/latest.partial", directory));
  unlink(link);
cleanup:
  free(link);
  free_found(&leftovers);
  return status;
}

eqs_status eqs_directory_prepare(const char *directory, int64_t step)
{
  eqs_status status = EQS_OK;
  if (directory[0] == '\0' || step < 0) return eqs_fail(EQS_USAGE, "a checkpoint needs a directory and a step");
  EQS_TRY(eqs_directory_make(directory));
  EQS_TRY(remove_leftovers(directory));
cleanup:
  return status;
}

eqs_status eqs_directory_file(const char *directory, int64_t step, char **file)
{
  return eqs_format(file, "%s/step-%08" PRId64 ".h5", directory, step);
}

/* Point `latest` at a file of the directory, by a link beside it that takes its place at once. */
static eqs_status move_latest(const char *directory, const char *path)
{
  eqs_status status = EQS_OK;
  char *latest = NULL, *partial = NULL;
  const char *name = path + strlen(directory) + 1;
  EQS_TRY(eqs_format(&latest, "%s/latest", directory));
  EQS_TRY(eqs_format(&partial, "%s/latest.partial", directory));
  if (symlink(name, partial) != 0) {
    status = eqs_fail(EQS_IO, "%s: cannot link: %s", partial, strerror(errno));
    goto cleanup;
  }
  status = eqs_file_rename(partial, latest);
  if (status != EQS_OK) unlink(partial); /* it is still there if the renaming failed */
cleanup:
  free(partial);
  free(latest);
  return status;
}

/*
 * Remove a checkpoint. It loses its name first, on the disk too, so that no reader ever takes what is left of a file
 * whose removal was cut off: the next save removes it as a leftover.
 */
static eqs_status remove_checkpoint(const char *path)
{
  eqs_status status = EQS_OK;
  char *partial = NULL;
  EQS_TRY(eqs_format(&partial, "%s.partial", path));
  if (rename(path, partial) != 0 || eqs_directory_sync(partial) != EQS_OK || unlink(partial) != 0)
    status = eqs_fail(EQS_IO, "%s: cannot remove: %s", path, strerror(errno));
cleanup:
  free(partial);
  return status;
}

/* Remove all but the newest `keep` checkpoints and those of every `keep_every`-th step, never the one at `path`. */
static eqs_status remove_old(const eqs_checkpoint_directory *to, const char *path)
{
  eqs_status status = EQS_OK, failure = EQS_OK;
  found_files found = {0};
  EQS_TRY(list_files(to->path, "", &found));
  int64_t kept = 1;
  for (int64_t i = 0; i < found.count; i++) {
    const found_file *file = &found.file[i];
    if (strcmp(file->path, path) == 0) continue;
    if (kept++ < to->keep) continue;
    if (to->keep_every > 0 && file->step % to->keep_every == 0) continue;
    eqs_status removed = remove_checkpoint(file->path);
    if (removed != EQS_OK) failure = removed;
  }
  status = failure;
cleanup:
  free_found(&found);
  return status;
}

/* A job goes on with more checkpoints than it was to keep. */
static void prune(const eqs_checkpoint_directory *to, const char *path)
{
  if (to->keep > 0 && remove_old(to, path) != EQS_OK) eqs_log(EQS_LOG_WARNING, "%s", eqs_error_message());
}

eqs_status eqs_directory_publish(const eqs_checkpoint_directory *to, const char *file)
{
  eqs_status status = move_latest(to->path, file);
  if (status == EQS_OK) prune(to, file);
  return status;
}

eqs_status eqs_checkpoint_save(MPI_Comm owners, const eqs_checkpoint_directory *to,
                               const eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  char *path = NULL;
  int rank;
  MPI_Comm_rank(owners, &rank);
  EQS_TRY(eqs_agree(owners, rank == 0 ? eqs_directory_prepare(to->path, contents->step) : EQS_OK));
  EQS_TRY(eqs_agree(owners, eqs_directory_file(to->path, contents->step, &path)));
  EQS_TRY(eqs_checkpoint_write(owners, path, contents));
  EQS_TRY(eqs_agree(owners, rank == 0 ? eqs_directory_publish(to, path) : EQS_OK));
cleanup:
  free(path);
  return status;
}

static eqs_status check_file(const char *file)
{
  eqs_checkpoint_contents contents;
  eqs_status status = eqs_contents_read(file, &contents);
  if (status == EQS_OK) eqs_contents_free(&contents);
  return status;
}

/* The file of the directory that `latest` names, if it can be used; else *file is NULL. */
static eqs_status follow_latest(const char *directory, char **file)
{
  eqs_status status = EQS_OK;
  char *latest = NULL, name[256];
  EQS_TRY(eqs_format(&latest, "%s/latest", directory));
  ssize_t length = readlink(latest, name, sizeof name - 1);
  if (length < 0) {
    status = eqs_fail(EQS_IO, "%s: %s", latest, errno == EINVAL ? "not a link" : strerror(errno));
    goto cleanup;
  }
  name[length] = '\0';
  if (strchr(name, '/') != NULL || name[0] == '.') {
    status = eqs_fail(EQS_IO, "%s: leads out of the directory, to %.200s", latest, name);
    goto cleanup;
  }
  EQS_TRY(eqs_format(file, "%s/%s", directory, name));
  EQS_TRY(check_file(*file));
cleanup:
  if (status != EQS_OK) {
    free(*file);
    *file = NULL;
  }
  free(latest);
  return status;
}

/* The first file whose metadata is whole, from number `first` on; NULL if there is none. */
static char *take_whole(found_files *found, int64_t first)
{
  for (int64_t i = first; i < found->count; i++) {
    if (check_file(found->file[i].path) != EQS_OK) continue;
    char *file = found->file[i].path;
    found->file[i].path = NULL;
    return file;
  }
  return NULL;
}

/* Without a usable `latest`, the newest that is whole. `reason` is why it could not be used. */
static eqs_status find_newest(const char *directory, eqs_status reason, char **file)
{
  eqs_status status = EQS_OK;
  found_files found = {0};
  char *why = NULL;
  EQS_TRY(eqs_copy_text(&why, eqs_error_message()));
  EQS_TRY(list_files(directory, "", &found));
  *file = take_whole(&found, 0);
  if (*file != NULL)
    eqs_log(EQS_LOG_WARNING, "%s; taking %s instead", why, *file);
  else
    status =
        found.count > 0 ? eqs_fail(reason, "%s", why) : eqs_fail(EQS_IO, "%s: there is no checkpoint in it", directory);
cleanup:
  free(why);
  free_found(&found);
  return status;
}

eqs_status eqs_checkpoint_find(const char *path, char **file)
{
  struct stat about;
  *file = NULL;
  if (stat(path, &about) != 0) return eqs_fail(EQS_IO, "%s: %s", path, strerror(errno));
  if (!S_ISDIR(about.st_mode)) return eqs_copy_text(file, path);
  eqs_status status = follow_latest(path, file);
  if (status == EQS_IO || status == EQS_DAMAGED) status = find_newest(path, status, file);
  return status;
}

bool eqs_checkpoint_exists(const char *path)
{
  struct stat about;
  found_files found = {0};
  if (stat(path, &about) != 0) return false;
  if (!S_ISDIR(about.st_mode)) return true;
  bool there = list_files(path, "", &found) != EQS_OK || found.count > 0; /* whoever restores finds out why not */
  free_found(&found);
  return there;
}

eqs_status eqs_checkpoint_find_older(const char *directory, const char *damaged, char **file)
{
  eqs_status status = EQS_OK;
  found_files found = {0};
  int64_t at = 0;
  *file = NULL;
  EQS_TRY(list_files(directory, "", &found));
  while (at < found.count && strcmp(found.file[at].path, damaged) != 0) at++;
  *file = take_whole(&found, at + 1);
  if (*file == NULL) status = eqs_fail(EQS_DAMAGED, "%s: damaged, and there is no older whole one beside it", damaged);
cleanup:
  free_found(&found);
  return status;
}
