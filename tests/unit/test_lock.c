/* The lock on a directory of checkpoints: who is refused, and whose end gives it back. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/lock.h"
#include "harness.h"

static char folder[64], directory[96];

static void make_folder(void)
{
  strcpy(folder, "/tmp/equishard-test-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(folder));
  snprintf(directory, sizeof directory, "%s/a/b", folder);
}

static void remove_folder(void)
{
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  ck_assert_int_eq(system(command), 0);
}

static void assert_message_has(const char *part)
{
  ck_assert_msg(strstr(eqs_error_message(), part) != NULL, "\"%s\" is not in \"%s\"", part, eqs_error_message());
}

static int open_files(void)
{
  int count = 0;
  for (int file = 0; file < 256; file++) count += fcntl(file, F_GETFD) >= 0;
  return count;
}

/* A process that takes the lock, says how that went, and waits to be killed. */
typedef struct {
  pid_t process;
  eqs_status status;
  char message[512];
} other;

static other start_other(void)
{
  int ends[2];
  other started = {0};
  ck_assert_int_eq(pipe(ends), 0);
  started.process = fork();
  ck_assert_int_ge(started.process, 0);
  if (started.process == 0) {
    eqs_directory_lock *lock;
    started.status = eqs_directory_lock_take(directory, false, &lock);
    if (started.status == EQS_OK && lock == NULL) started.status = EQS_FAILED;
    snprintf(started.message, sizeof started.message, "%s", eqs_error_message());
    if (write(ends[1], &started, sizeof started) != (ssize_t)sizeof started) _exit(1);
    for (;;) pause();
  }
  pid_t process = started.process;
  ck_assert_int_eq(read(ends[0], &started, sizeof started), (ssize_t)sizeof started);
  started.process = process;
  close(ends[0]);
  close(ends[1]);
  return started;
}

static void kill_other(const other *started)
{
  ck_assert_int_eq(kill(started->process, SIGKILL), 0);
  ck_assert_int_eq(waitpid(started->process, NULL, 0), started->process);
}

START_TEST(a_directory_has_one_writer)
{
  eqs_directory_lock *lock, *second;
  char host[256] = "", expected[600], alias[96];
  make_folder();
  int files = open_files();
  ck_assert_ok(eqs_directory_lock_take(directory, false, &lock));
  ck_assert_ptr_null(lock); /* there is no directory, and none is made */
  ck_assert_int_ne(access(directory, F_OK), 0);
  ck_assert_ok(eqs_directory_lock_take(directory, true, &lock));
  ck_assert_ptr_nonnull(lock);
  ck_assert_int_eq(open_files(), files + 1);

  /* this process again, under another name too; another process */
  snprintf(alias, sizeof alias, "%s/alias", folder);
  ck_assert_int_eq(symlink(directory, alias), 0);
  const char *const names[] = {directory, alias};
  gethostname(host, sizeof host - 1);
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(eqs_directory_lock_take(names[i], true, &second), EQS_USAGE);
    ck_assert_ptr_null(second);
    snprintf(expected, sizeof expected,
             "checkpoint directory %s: another session of this process writes its checkpoints there, process %ld on "
             "host %s, since 2",
             names[i], (long)getpid(), host);
    assert_message_has(expected);
  }
  other child = start_other();
  ck_assert_int_eq(child.status, EQS_USAGE);
  snprintf(expected, sizeof expected,
           "checkpoint directory %s: another job writes its checkpoints there, process %ld on host %s, since 2",
           directory, (long)getpid(), host);
  ck_assert_ptr_nonnull(strstr(child.message, expected));
  kill_other(&child); /* closes what it inherited of the file: the lock stays */
  child = start_other();
  ck_assert_int_eq(child.status, EQS_USAGE);
  kill_other(&child);

  eqs_directory_lock_release(&lock);
  ck_assert_ptr_null(lock);
  ck_assert_int_eq(open_files(), files);
  ck_assert_ok(eqs_directory_lock_take(directory, true, &lock)); /* and again */
  eqs_directory_lock_release(&lock);
  remove_folder();
}
END_TEST

/* The holder's end gives the lock back, however it ends; processes forked from it do not keep it. */
START_TEST(a_lock_ends_with_its_holder)
{
  eqs_directory_lock *lock;
  char expected[64];
  make_folder();
  ck_assert_ok(eqs_directory_lock_take(directory, true, &lock));
  pid_t worker = fork();
  if (worker == 0)
    for (;;) pause();
  eqs_directory_lock_release(&lock);
  other child = start_other();
  ck_assert_int_eq(child.status, EQS_OK);
  ck_assert_int_eq(eqs_directory_lock_take(directory, true, &lock), EQS_USAGE);
  snprintf(expected, sizeof expected, "process %ld on host", (long)child.process);
  assert_message_has(expected);
  kill_other(&child);
  ck_assert_ok(eqs_directory_lock_take(directory, true, &lock));
  ck_assert_ptr_nonnull(lock);
  eqs_directory_lock_release(&lock);
  kill(worker, SIGKILL);
  waitpid(worker, NULL, 0);
  remove_folder();
}
END_TEST

/* A descriptor of the file that this process closes takes the lock with it: it is taken again before writing. */
START_TEST(a_lost_lock_is_renewed)
{
  eqs_directory_lock *lock;
  char path[128];
  make_folder();
  ck_assert_ok(eqs_directory_lock_take(directory, true, &lock));
  snprintf(path, sizeof path, "%s/.lock", directory);
  close(open(path, O_RDONLY));
  ck_assert_ok(eqs_directory_lock_renew(lock));
  other child = start_other();
  ck_assert_int_eq(child.status, EQS_USAGE);
  kill_other(&child);
  close(open(path, O_RDONLY));
  child = start_other();
  ck_assert_int_eq(child.status, EQS_OK);
  ck_assert_int_eq(eqs_directory_lock_renew(lock), EQS_USAGE);
  assert_message_has("another job");
  kill_other(&child);
  eqs_directory_lock_release(&lock);
  ck_assert_ok(eqs_directory_lock_renew(NULL));
  remove_folder();
}
END_TEST

/* Where nothing can be written there is nothing to lock, and no failure: the first checkpoint says what is wrong. */
START_TEST(nothing_to_lock)
{
  eqs_directory_lock *lock;
  char file[128];
  make_folder();
  snprintf(file, sizeof file, "%s/file", folder);
  close(open(file, O_CREAT | O_WRONLY, 0600));
  snprintf(directory, sizeof directory, "%s/file/b", folder);
  ck_assert_ok(eqs_directory_lock_take(directory, true, &lock));
  ck_assert_ptr_null(lock);
  ck_assert_ok(eqs_directory_lock_take(file, true, &lock));
  ck_assert_ptr_null(lock);
  ck_assert_ok(eqs_directory_lock_take("/proc/self", true, &lock)); /* a file system that has no new files */
  ck_assert_ptr_null(lock);
  remove_folder();
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("lock");
  TCase *cases = tcase_create("lock");
  tcase_add_test(cases, a_directory_has_one_writer);
  tcase_add_test(cases, a_lock_ends_with_its_holder);
  tcase_add_test(cases, a_lost_lock_is_renewed);
  tcase_add_test(cases, nothing_to_lock);
  suite_add_tcase(suite, cases);
  return suite;
}
