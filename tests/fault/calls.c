/*
 * Preloaded into a rank: sees its calls to the system that write below a directory, and disturbs some of them.
 *
 *   CALLS_DIRECTORY  calls count on it, on the directory above it, and on what is in it
 *   CALLS_LOG        gets a line per call when it is done: number, name, path, flags of an opening, "!" if it was
 * disturbed CALLS_DISTURB    "NUMBER:WHAT ...": NUMBER counts this process's calls from 1, 0 means every call named
 * after it; WHAT is a number of errno: the call fails and does nothing; "kill": the rank dies before it; "stop": it
 * stops behind it; "skip": the call does nothing and says it has; "wait": it is made half a second later
 *                    ("0:fsync=skip": every fsync does nothing)
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef enum { NORMAL, FAIL, KILL, STOP, SKIP, WAIT } disturbance;

typedef struct {
  int number;
  const char *name, *path;
  int flags;
  disturbance what;
  int error; /* of FAIL */
} seen_call;

static atomic_int calls;

/* The real function behind one of the same name. */
#define REAL(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

static int matters(const char *path)
{
  const char *directory = getenv("CALLS_DIRECTORY");
  if (directory == NULL || path == NULL) return 0;
  size_t length = strlen(directory), above = (size_t)(strrchr(directory, '/') - directory);
  if (strncmp(path, directory, length) == 0 && (path[length] == '\0' || path[length] == '/')) return 1;
  return strlen(path) == above && strncmp(path, directory, above) == 0;
}

static disturbance wanted(const char *what, int *error)
{
  if (strncmp(what, "kill", 4) == 0) return KILL;
  if (strncmp(what, "stop", 4) == 0) return STOP;
  if (strncmp(what, "skip", 4) == 0) return SKIP;
  if (strncmp(what, "wait", 4) == 0) return WAIT;
  *error = atoi(what);
  return FAIL;
}

/* What is to happen at a call. */
static void look_up(seen_call *call)
{
  const char *next = getenv("CALLS_DISTURB");
  size_t length = strlen(call->name);
  while (next != NULL && *next != '\0') {
    char *what;
    long number = strtol(next, &what, 10);
    what++;
    if (number == call->number) call->what = wanted(what, &call->error);
    if (number == 0 && strncmp(what, call->name, length) == 0 && what[length] == '=')
      call->what = wanted(what + length + 1, &call->error);
    next = strchr(what, ' ');
    if (next != NULL) next++;
  }
}

static void write_line(const seen_call *call)
{
  char line[PATH_MAX + 100];
  int length = snprintf(line, sizeof line, "%d %s %s %o%s\n", call->number, call->name, call->path,
                        (unsigned)call->flags, call->what == NORMAL ? "" : " !");
  int log = (int)syscall(SYS_openat, AT_FDCWD, getenv("CALLS_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  syscall(SYS_write, log, line, (size_t)length);
  syscall(SYS_close, log);
}

/* Whether the call is to be made. */
static int begin(seen_call *call)
{
  if (!matters(call->path)) return 1;
  call->number = atomic_fetch_add(&calls, 1) + 1;
  look_up(call);
  if (call->what == KILL) {
    write_line(call);
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
  if (call->what == WAIT) usleep(500000);
  return call->what != FAIL && call->what != SKIP;
}

/* Its result. */
static int end(const seen_call *call, int result)
{
  int error = errno;
  if (call->number > 0) write_line(call);
  if (call->what == STOP) raise(SIGSTOP);
  errno = call->what == FAIL ? call->error : error;
  return call->what == FAIL ? -1 : call->what == SKIP ? 0 : result;
}

/* Evaluates a call of the real function, or not. */
#define DISTURBED(call, made) (begin(&(call)) ? end(&(call), (made)) : end(&(call), 0))

static const char *path_of(int file, char path[PATH_MAX])
{
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length > 0 ? length : 0] = '\0';
  return path;
}

int open(const char *path, int flags, ...)
{
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  seen_call call = {.name = "open", .path = path, .flags = flags};
  return DISTURBED(call, REAL(open)(path, flags, mode));
}

DIR *opendir(const char *path)
{
  seen_call call = {.name = "opendir", .path = path, .flags = O_DIRECTORY};
  DIR *result = begin(&call) ? REAL(opendir)(path) : NULL;
  end(&call, 0);
  return result;
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset)
{
  char path[PATH_MAX];
  seen_call call = {.name = "pwrite", .path = path_of(file, path)};
  ssize_t result = begin(&call) ? REAL(pwrite)(file, bytes, count, offset) : (ssize_t)count;
  return end(&call, 0) == 0 ? result : -1;
}

int ftruncate(int file, off_t length)
{
  char path[PATH_MAX];
  seen_call call = {.name = "ftruncate", .path = path_of(file, path)};
  return DISTURBED(call, REAL(ftruncate)(file, length));
}

int fallocate(int file, int mode, off_t offset, off_t length)
{
  char path[PATH_MAX];
  seen_call call = {.name = "fallocate", .path = path_of(file, path)};
  return DISTURBED(call, REAL(fallocate)(file, mode, offset, length));
}

int fsync(int file)
{
  char path[PATH_MAX];
  seen_call call = {.name = "fsync", .path = path_of(file, path)};
  return DISTURBED(call, REAL(fsync)(file));
}

int close(int file)
{
  char path[PATH_MAX];
  seen_call call = {.name = "close", .path = path_of(file, path)};
  return DISTURBED(call, REAL(close)(file));
}

int rename(const char *from, const char *to)
{
  seen_call call = {.name = "rename", .path = from};
  return DISTURBED(call, REAL(rename)(from, to));
}

int symlink(const char *target, const char *path)
{
  seen_call call = {.name = "symlink", .path = path};
  return DISTURBED(call, REAL(symlink)(target, path));
}

int unlink(const char *path)
{
  seen_call call = {.name = "unlink", .path = path};
  return DISTURBED(call, REAL(unlink)(path));
}

int mkdir(const char *path, mode_t mode)
{
  seen_call call = {.name = "mkdir", .path = path};
  return DISTURBED(call, REAL(mkdir)(path, mode));
}
