/* Waiting with a deadline, collectives, and agreeing on failures. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/status.h"
#include "dist/communicator.h"
#include "harness.h"

START_TEST(broadcast_from_every_rank)
{
  for (int root = 0; root < test_size(); root++) {
    int64_t values[100];
    for (int i = 0; i < 100; i++) values[i] = test_rank() == root ? root * 1000 + i : -1;
    ck_assert_ok(eqs_broadcast(MPI_COMM_WORLD, values, sizeof values, root, "a test"));
    for (int i = 0; i < 100; i++) ck_assert_int_eq(values[i], root * 1000 + i);
  }
  ck_assert_ok(eqs_broadcast(MPI_COMM_WORLD, NULL, 0, 0, "a test"));
}
END_TEST

/* 1 + 2 + ... + n, and the same bits everywhere of a sum that depends on its order. */
START_TEST(sums)
{
  int size = test_size();
  double values[2] = {test_rank() + 1, test_uniform(1, (uint64_t)test_rank())}, lowest, highest;
  ck_assert_ok(eqs_sum(MPI_COMM_WORLD, values, 2, "a test"));
  ck_assert(values[0] == size * (size + 1) / 2);
  MPI_Allreduce(&values[1], &lowest, 1, MPI_DOUBLE, MPI_MIN, MPI_COMM_WORLD);
  MPI_Allreduce(&values[1], &highest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  ck_assert(lowest == highest);
}
END_TEST

START_TEST(minima)
{
  int64_t values[2] = {10 - test_rank(), test_rank() + INT64_C(5000000000)};
  ck_assert_ok(eqs_minimum(MPI_COMM_WORLD, values, 2, "a test"));
  ck_assert_int_eq(values[0], 10 - (test_size() - 1));
  ck_assert_int_eq(values[1], INT64_C(5000000000));
}
END_TEST

/* Sends what is waited for at the third call, long after the deadline of one that nobody hears of. */
static eqs_status answer_at_last(void *context, bool *moved)
{
  int *calls = context;
  *moved = true;
  nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
  if (++*calls == 3) MPI_Send(calls, 1, MPI_INT, 0, 78, MPI_COMM_SELF);
  return *calls <= 3 ? EQS_OK : eqs_fail(EQS_FAILED, "a fourth call");
}

START_TEST(waiting_lets_other_things_go_on)
{
  int answer = 0, calls = 0;
  MPI_Request request;
  double before = eqs_deadline();
  eqs_set_deadline(0.05);
  eqs_set_progress(answer_at_last, &calls);
  ck_assert_ptr_eq(eqs_progress_context(), &calls);
  MPI_Irecv(&answer, 1, MPI_INT, 0, 78, MPI_COMM_SELF, &request);
  ck_assert_ok(eqs_wait(&request, "the answer"));
  ck_assert_int_eq(answer, 3);
  ck_assert_int_eq(eqs_progress(), EQS_FAILED);
  eqs_set_progress(NULL, NULL);
  ck_assert_ok(eqs_progress());
  eqs_set_deadline(before);
}
END_TEST

START_TEST(nothing_comes_before_the_deadline)
{
  int never;
  MPI_Request request;
  MPI_Irecv(&never, 1, MPI_INT, 0, 77, MPI_COMM_SELF, &request);
  double before = eqs_deadline(), start = eqs_clock();
  eqs_set_deadline(0.05);
  eqs_status status = eqs_wait(&request, "the answer");
  eqs_set_deadline(before);
  ck_assert_int_eq(status, EQS_PEER_LOST);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "the answer"));
  ck_assert(eqs_clock() - start >= 0.05);
  MPI_Cancel(&request);
  MPI_Wait(&request, MPI_STATUS_IGNORE);
}
END_TEST

START_TEST(errors_of_mpi_have_a_text)
{
  ck_assert_ok(eqs_check_mpi(MPI_SUCCESS, "MPI_Something"));
  ck_assert_int_eq(eqs_check_mpi(MPI_ERR_COUNT, "MPI_Something"), EQS_FAILED);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "MPI_Something"));
}
END_TEST

START_TEST(agreeing_on_success)
{
  ck_assert_ok(eqs_agree(MPI_COMM_WORLD, EQS_OK));
}
END_TEST

/* Ranks 1 and above fail, each with a message of its own: all get that of the lowest one. Its line on standard
 * error is thrown away here, where it is no failure. */
START_TEST(agreeing_on_the_lowest_failure)
{
  int lowest = test_size() > 1 ? 1 : 0;
  eqs_status local = EQS_OK;
  if (test_rank() >= lowest)
    local = eqs_fail(test_rank() == lowest ? EQS_IO : EQS_FAILED, "disk %d is full", test_rank());
  char expected[64];
  snprintf(expected, sizeof expected, "disk %d is full", lowest);
  FILE *nowhere = fopen("/dev/null", "w");
  int standard_error = dup(STDERR_FILENO);
  dup2(fileno(nowhere), STDERR_FILENO);
  eqs_status status = eqs_agree(MPI_COMM_WORLD, local);
  dup2(standard_error, STDERR_FILENO);
  close(standard_error);
  fclose(nowhere);
  ck_assert_int_eq(status, EQS_IO);
  ck_assert_str_eq(eqs_error_message(), expected);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("communicator");
  TCase *tests = tcase_create("communicator");
  tcase_add_test(tests, broadcast_from_every_rank);
  tcase_add_test(tests, sums);
  tcase_add_test(tests, minima);
  tcase_add_test(tests, waiting_lets_other_things_go_on);
  tcase_add_test(tests, nothing_comes_before_the_deadline);
  tcase_add_test(tests, errors_of_mpi_have_a_text);
  tcase_add_test(tests, agreeing_on_success);
  tcase_add_test(tests, agreeing_on_the_lowest_failure);
  tcase_set_timeout(tests, 0);
  suite_add_tcase(suite, tests);
  return suite;
}
