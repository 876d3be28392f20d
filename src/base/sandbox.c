#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"

/* What goes before the result, or before the message of a failure. */
typedef struct {
  int64_t status, size;
} reply_head;

static bool write_all(int pipe, const void *bytes, int64_t size)
{
  for (const char *next = bytes; size > 0;) {
    ssize_t written = write(pipe, next, (size_t)size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    next += written;
    size -= written;
  }
  return true;
}

static bool read_all(int pipe, void *bytes, int64_t size)
{
  for (char *next = bytes; size > 0;) {
    ssize_t got = read(pipe, next, (size_t)size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    next += got;
    size -= got;
  }
  return true;
}

/* Of this process's address space. */
static int64_t size_of_process(void)
{
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL) return 0;
  if (fscanf(file, "%ld", &pages) != 1) pages = 0;
  fclose(file);
  return pages * sysconf(_SC_PAGESIZE);
}

static void set_limit(int resource, int64_t most)
{
  struct rlimit limit;
  if (getrlimit(resource, &limit) != 0) return;
  if ((rlim_t)most < limit.rlim_cur) limit.rlim_cur = (rlim_t)most;
  setrlimit(resource, &limit);
}

/* A crash is to end the child at once and silently: without MPI's report, or a core of a large process. */
static void confine(const eqs_sandbox_limits *limits)
{
  int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere >= 0) dup2(nowhere, STDERR_FILENO);
  static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGXCPU, SIGTERM, SIGINT};
  for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++) signal(fatal[i], SIG_DFL);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_CPU, limits->seconds);
  int64_t size = size_of_process();
  if (size > 0) set_limit(RLIMIT_AS, size + limits->memory);
}

/* The child's whole life. Nothing of the parent's is flushed, finalised or freed. */
static _Noreturn void work_and_reply(int pipe, const eqs_sandbox_limits *limits, eqs_sandbox_work work, void *job)
{
  char *bytes = NULL;
  int64_t size = 0;
  confine(limits);
  eqs_status status = work(job, &bytes, &size);
  const char *reply = status == EQS_OK ? bytes : eqs_error_message();
  reply_head head = {.status = status, .size = status == EQS_OK ? size : (int64_t)strlen(reply)};
  if (write_all(pipe, &head, sizeof head)) write_all(pipe, reply, head.size);
  _exit(0);
}

/* What a child that did not reply has died of. */
static eqs_status cause_of_death(const eqs_sandbox_limits *limits, int ending)
{
  if (!WIFSIGNALED(ending)) return eqs_fail(EQS_DAMAGED, "%s: damaged: it cannot be read", limits->path);
  switch (WTERMSIG(ending)) {
  case SIGPIPE: return eqs_fail(EQS_DAMAGED, "%s: damaged: there is more in it than it can hold", limits->path);
  case SIGXCPU:
    return eqs_fail(EQS_DAMAGED, "%s: damaged: reading it does not come to an end (%lld s)", limits->path,
                    (long long)limits->seconds);
  case SIGKILL:
  case SIGTERM:
  case SIGINT: return eqs_fail(EQS_FAILED, "%s: the process that read it was killed", limits->path);
  default:
    return eqs_fail(EQS_DAMAGED, "%s: damaged: reading it crashes (%s)", limits->path, strsignal(WTERMSIG(ending)));
  }
}

/* The child's reply. EQS_DAMAGED: there is none, or it is larger than possible. */
static eqs_status take_reply(int pipe, const eqs_sandbox_limits *limits, char **bytes, int64_t *size, bool *complete)
{
  eqs_status status = EQS_OK;
  reply_head head;
  char *reply = NULL;
  *complete = false;
  if (!read_all(pipe, &head, sizeof head)) goto cleanup;
  if (head.status < EQS_OK || head.status > EQS_PEER_LOST || head.size < 0 ||
      (head.status == EQS_OK && head.size > limits->largest))
    goto cleanup;
  EQS_TRY(eqs_allocate_raw(&reply, head.size + 1, 1));
  if (!read_all(pipe, reply, head.size)) goto cleanup;
  reply[head.size] = '\0';
  *complete = true;
  if (head.status != EQS_OK) {
    status = eqs_fail((eqs_status)head.status, "%s", reply);
    goto cleanup;
  }
  *bytes = reply;
  *size = head.size;
  reply = NULL;
cleanup:
  free(reply);
  return status;
}

eqs_status eqs_sandbox_run(const eqs_sandbox_limits *limits, eqs_sandbox_work work, void *job, char **bytes,
                           int64_t *size)
{
  int ends[2], ending = 0;
  bool complete;
  *bytes = NULL;
  *size = 0;
  if (pipe2(ends, O_CLOEXEC) != 0) return work(job, bytes, size);
  pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    work_and_reply(ends[1], limits, work, job);
  }
  close(ends[1]);
  if (child < 0) {
    close(ends[0]);
    return work(job, bytes, size);
  }
  eqs_status status = take_reply(ends[0], limits, bytes, size, &complete);
  close(ends[0]); /* what writes more ends */
  while (waitpid(child, &ending, 0) < 0 && errno == EINTR) continue;
  return status == EQS_OK && !complete ? cause_of_death(limits, ending) : status;
}
