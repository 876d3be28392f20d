/* Work in a sandbox: its result or its failure comes back, and whatever becomes of it harms nobody. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/sandbox.h"
#include "harness.h"

enum { large = 3 << 20 };

static const eqs_sandbox_limits limits = {.path = "f.h5", .memory = INT64_C(256) << 20, .seconds = 1, .largest = large};

static eqs_status answer(void *job, char **bytes, int64_t *size)
{
  int64_t *asked = job;
  eqs_status status = eqs_allocate_raw(bytes, *asked, 1);
  for (int64_t i = 0; status == EQS_OK && i < *asked; i++) (*bytes)[i] = (char)(i % 251);
  *size = *asked;
  *asked = -1; /* of the other process */
  return status;
}

START_TEST(results)
{
  const int64_t sizes[] = {0, 1, 100000, large};
  for (int i = 0; i < 4; i++) {
    int64_t asked = sizes[i], size = -1, wrong = 0;
    char *bytes;
    ck_assert_ok(eqs_sandbox_run(&limits, answer, &asked, &bytes, &size));
    ck_assert_int_eq(size, sizes[i]);
    ck_assert_int_eq(asked, sizes[i]);
    for (int64_t b = 0; b < size; b++) wrong += bytes[b] != (char)(b % 251);
    ck_assert_int_eq(wrong, 0);
    free(bytes);
  }
  ck_assert_int_le(waitpid(-1, NULL, WNOHANG), 0); /* no child has ended that nobody has waited for */
}
END_TEST

static eqs_status refuse(void *job, char **bytes, int64_t *size)
{
  (void)bytes, (void)size;
  return eqs_fail(*(eqs_status *)job, "f.h5: as asked");
}

static eqs_status crash(void *job, char **bytes, int64_t *size)
{
  (void)bytes, (void)size;
  raise(*(int *)job);
  return EQS_OK;
}

static eqs_status loop(void *job, char **bytes, int64_t *size)
{
  (void)bytes, (void)size;
  for (volatile int *running = job; *running;) continue;
  return EQS_OK;
}

static eqs_status leave(void *job, char **bytes, int64_t *size)
{
  (void)job, (void)bytes, (void)size;
  _exit(0);
}

static eqs_status devour(void *job, char **bytes, int64_t *size)
{
  (void)job;
  *size = 0;
  for (int i = 0; i < 64; i++) { /* 4 GiB */
    char *piece = malloc(64 << 20);
    if (piece == NULL) return eqs_allocate_raw(bytes, 1, 1); /* as it should be */
    memset(piece, i, 64 << 20);
  }
  return eqs_fail(EQS_FAILED, "without limit");
}

static void assert_ends(eqs_sandbox_work work, void *job, eqs_status expected, const char *message)
{
  char *bytes;
  int64_t size;
  ck_assert_int_eq(eqs_sandbox_run(&limits, work, job, &bytes, &size), expected);
  ck_assert_str_eq(eqs_error_message(), message);
  ck_assert_ptr_null(bytes);
}

START_TEST(failures)
{
  eqs_status status = EQS_USAGE;
  int segmentation = SIGSEGV, abortion = SIGABRT, kill = SIGKILL, one = 1;
  int64_t size = large + 1;
  char *bytes;
  assert_ends(refuse, &status, EQS_USAGE, "f.h5: as asked");
  status = EQS_DAMAGED;
  assert_ends(refuse, &status, EQS_DAMAGED, "f.h5: as asked");
  assert_ends(crash, &segmentation, EQS_DAMAGED, "f.h5: damaged: reading it crashes (Segmentation fault)");
  assert_ends(crash, &abortion, EQS_DAMAGED, "f.h5: damaged: reading it crashes (Aborted)");
  assert_ends(crash, &kill, EQS_FAILED, "f.h5: the process that read it was killed");
  assert_ends(loop, &one, EQS_DAMAGED, "f.h5: damaged: reading it does not come to an end (1 s)");
  assert_ends(leave, NULL, EQS_DAMAGED, "f.h5: damaged: it cannot be read");
  assert_ends(answer, &size, EQS_DAMAGED, "f.h5: damaged: there is more in it than it can hold");
  ck_assert_ok(eqs_sandbox_run(&limits, devour, NULL, &bytes, &size));
  free(bytes);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("sandbox");
  TCase *tests = tcase_create("sandbox");
  tcase_add_test(tests, results);
  tcase_add_test(tests, failures);
  suite_add_tcase(suite, tests);
  return suite;
}
