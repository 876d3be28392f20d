/* Sessions that write checkpoints into one directory: the second is refused at its start, on all of its ranks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "folder.h"
#include "harness.h"

static const char *write_config(const char *mode, const char *directory)
{
  static char path[96];
  snprintf(path, sizeof path, "%s/config-%d.yaml", folder, test_rank());
  FILE *file = fopen(path, "w");
  ck_assert_ptr_nonnull(file);
  fprintf(file, "mode: %s\ndeadline: 30\ncheckpoint: {directory: %s/%s}\ngroups: [{rule: adamw, lr: 1}]\n", mode,
          folder, directory);
  fclose(file);
  return path;
}

static eqs_status start(MPI_Comm comm, const char *config, eqs_session **session)
{
  static float weight[3];
  eqs_parameter *parameter;
  eqs_parameter_info info = {
      .struct_size = sizeof info, .name = "w", .ndim = 1, .shape = {3}, .gradient_placement = EQS_PARTIAL};
  ck_assert_ok(eqs_session_open(comm, config, session));
  ck_assert_ok(eqs_parameter_add(*session, &info, weight, &parameter));
  return eqs_session_start(*session);
}

static void assert_message_has(const char *part)
{
  ck_assert_msg(strstr(eqs_error_message(), part) != NULL, "\"%s\" is not in \"%s\"", part, eqs_error_message());
}

/* Sessions of one rank each: those of one process, and those of two, which are two jobs as far as files go. */
START_TEST(test_sessions_of_one_directory)
{
  eqs_session *first = NULL, *second = NULL;
  const char *config = write_config("embedded", "one/directory");
  if (test_rank() == 0) {
    ck_assert_ok(start(MPI_COMM_SELF, config, &first));
    ck_assert_int_eq(start(MPI_COMM_SELF, config, &second), EQS_USAGE);
    assert_message_has("one/directory: another session of this process writes its checkpoints there");
    eqs_session_close(&second); /* a refused session takes nothing from the first */
    ck_assert_int_eq(start(MPI_COMM_SELF, config, &second), EQS_USAGE);
    eqs_session_close(&second);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  if (test_rank() == 1) {
    ck_assert_int_eq(start(MPI_COMM_SELF, config, &second), EQS_USAGE);
    assert_message_has("one/directory: another job writes its checkpoints there, process ");
    eqs_session_close(&second);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  if (test_rank() == 0) ck_assert_ok(eqs_checkpoint(first, NULL, 0));
  if (test_rank() == 0) ck_assert_ok(eqs_session_close(&first));
  MPI_Barrier(MPI_COMM_WORLD);
  if (test_rank() == test_size() - 1) { /* the lock is free again */
    ck_assert_ok(start(MPI_COMM_SELF, config, &second));
    ck_assert_ok(eqs_session_close(&second));
  }
}
END_TEST

/* A job of several ranks, in all arrangements, on a directory that somebody has: all ranks have the status. */
START_TEST(test_all_ranks_are_refused)
{
  eqs_session *holder = NULL, *session;
  if (test_rank() == test_size() - 1) ck_assert_ok(start(MPI_COMM_SELF, write_config("embedded", "held"), &holder));
  for (int trainers = 1; trainers <= test_size(); trainers++) {
    const char *config = write_config(trainers == test_size() ? "embedded" : "service", "held");
    MPI_Barrier(MPI_COMM_WORLD);
    if (test_rank() >= trainers) {
      ck_assert_int_eq(eqs_serve(MPI_COMM_WORLD), EQS_USAGE);
      continue;
    }
    ck_assert_int_eq(start(MPI_COMM_WORLD, config, &session), EQS_USAGE);
    assert_message_has("held: another ");
    assert_message_has(" on host ");
    eqs_session_close(&session);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  if (holder != NULL) ck_assert_ok(eqs_session_close(&holder));
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("lock");
  TCase *cases = tcase_create("lock");
  tcase_set_timeout(cases, 0);
  tcase_add_checked_fixture(cases, make_folder, remove_folder);
  tcase_add_test(cases, test_sessions_of_one_directory);
  tcase_add_test(cases, test_all_ranks_are_refused);
  suite_add_tcase(suite, cases);
  return suite;
}
