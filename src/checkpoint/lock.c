#include "checkpoint/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "checkpoint/directory.h"

/* Who has a lock, as the file says it: "HOST PROCESS TIME". */
typedef struct {
  char host[256];
  long process;
  char since[32];
} holder;

struct eqs_directory_lock {
  dev_t device; /* of the directory, with `inode`: it may have several names */
  ino_t inode;
  int file;
  char *directory;
  holder own;
  eqs_directory_lock *next;
};

static eqs_directory_lock *held; /* by this process */

static holder this_process(void)
{
  holder own = {.process = (long)getpid()};
  struct tm utc;
  time_t now = time(NULL);
  if (gethostname(own.host, sizeof own.host - 1) != 0 || own.host[0] == '\0') strcpy(own.host, "unknown");
  strftime(own.since, sizeof own.since, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
  return own;
}

static eqs_status fail_held(const char *directory, const char *who, const holder *by)
{
  return eqs_fail(
      EQS_USAGE,
      "checkpoint directory %s: %s writes its checkpoints there, process %ld on host %s, since %s: end that "
      "one first, or give this one a `checkpoint: {directory: ...}` of its own",
      directory, who, by->process, by->host, by->since);
}

/* What can be known of the other process that has the lock: the file's text, or its number alone. */
static eqs_status refuse(const char *directory, int file)
{
  holder by = {0};
  char text[512] = "";
  struct flock asked = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (pread(file, text, sizeof text - 1, 0) <= 0 ||
      sscanf(text, "%255s %ld %31s", by.host, &by.process, by.since) != 3) {
    by = (holder){.host = "unknown", .since = "a moment ago"};
    if (fcntl(file, F_GETLK, &asked) == 0 && asked.l_type != F_UNLCK) by.process = (long)asked.l_pid;
  }
  return fail_held(directory, "another job", &by);
}

static int set_lock(int file)
{
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int result;
  do {
    result = fcntl(file, F_SETLK, &whole);
  } while (result != 0 && errno == EINTR);
  return result;
}

/* For others to read; a disk that is full leaves it empty. */
static void write_holder(int file, const holder *own)
{
  char text[512];
  int length = snprintf(text, sizeof text, "%s %ld %s\n", own->host, own->process, own->since);
  if (pwrite(file, text, (size_t)length, 0) != length) length = 0;
  if (ftruncate(file, length) != 0) eqs_log(EQS_LOG_WARNING, "a checkpoint directory's .lock: %s", strerror(errno));
}

/* Without a lock: silently where no checkpoint can be written either; `last`: it is not tried again. */
static void go_without(const char *directory, int error, bool last)
{
  if (last && error != EACCES && error != EPERM && error != EROFS)
    eqs_log(EQS_LOG_WARNING, "cannot lock the checkpoint directory %s (%s): no other job may write there", directory,
            strerror(error));
}

/* A file that everybody who may write in the directory can lock. */
static int open_lock(const char *path, const struct stat *directory)
{
  struct stat about;
  int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (file >= 0 && fstat(file, &about) == 0 && about.st_size == 0 && about.st_uid == geteuid())
    if (fchmod(file, directory->st_mode & 0666) != 0) errno = 0; /* it is as the umask has it, then */
  return file;
}

/* A process forked from the holder has the table, but not the locks. */
static const eqs_directory_lock *find_held(const struct stat *directory)
{
  for (const eqs_directory_lock *lock = held; lock != NULL; lock = lock->next)
    if (lock->device == directory->st_dev && lock->inode == directory->st_ino && lock->own.process == (long)getpid())
      return lock;
  return NULL;
}

static eqs_status lock_file(const char *directory, const char *path, const struct stat *about, bool make,
                            eqs_directory_lock **lock)
{
  eqs_status status = EQS_OK;
  eqs_directory_lock *made = NULL;
  int file = open_lock(path, about);
  if (file < 0 || set_lock(file) != 0) {
    if (file >= 0 && (errno == EACCES || errno == EAGAIN))
      status = refuse(directory, file);
    else
      go_without(directory, errno, make);
    goto cleanup;
  }
  EQS_TRY(eqs_allocate(&made, 1, sizeof *made));
  *made = (eqs_directory_lock){.device = about->st_dev, .inode = about->st_ino, .own = this_process()};
  EQS_TRY(eqs_copy_text(&made->directory, directory));
  write_holder(file, &made->own);
  made->file = file;
  made->next = held;
  *lock = held = made;
  file = -1;
  made = NULL;
cleanup:
  eqs_file_close(file);
  free(made);
  return status;
}

eqs_status eqs_directory_lock_take(const char *directory, bool make, eqs_directory_lock **lock)
{
  eqs_status status = EQS_OK;
  struct stat about;
  char *path = NULL;
  *lock = NULL;
  if (make && eqs_directory_make(directory) != EQS_OK) return EQS_OK; /* the first checkpoint says why */
  if (stat(directory, &about) != 0 || !S_ISDIR(about.st_mode)) return EQS_OK;
  const eqs_directory_lock *own = find_held(&about);
  if (own != NULL) return fail_held(directory, "another session of this process", &own->own);
  EQS_TRY(eqs_format(&path, "%s/.lock", directory));
  EQS_TRY(lock_file(directory, path, &about, make, lock));
cleanup:
  free(path);
  return status;
}

eqs_status eqs_directory_lock_renew(const eqs_directory_lock *lock)
{
  if (lock == NULL || set_lock(lock->file) == 0 || (errno != EACCES && errno != EAGAIN)) return EQS_OK;
  return refuse(lock->directory, lock->file);
}

void eqs_directory_lock_release(eqs_directory_lock **lock)
{
  eqs_directory_lock *released = *lock, **link = &held;
  if (released == NULL) return;
  while (*link != released) link = &(*link)->next;
  *link = released->next;
  eqs_file_close(released->file);
  free(released->directory);
  free(released);
  *lock = NULL;
}
