/* Waiting with a deadline, collectives, and agreeing on failures. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/status.h"
#include "dist/communicator.h"
#include "dist/context.h"
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
typedef struct {
  MPI_Comm comm;
  int calls;
} late_answer;

static eqs_status answer_at_last(void *owner, bool *advanced)
{
  late_answer *answer = owner;
  *advanced = true;
  nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
  if (++answer->calls == 3) MPI_Send(&answer->calls, 1, MPI_INT, 0, 78, answer->comm);
  return answer->calls <= 3 ? EQS_OK : eqs_fail(EQS_FAILED, "a fourth call");
}

START_TEST(waiting_lets_other_things_go_on)
{
  int number = 0;
  MPI_Request request;
  late_answer answer = {0};
  const eqs_context context = {.deadline = 0.05, .advance = answer_at_last, .owner = &answer};
  MPI_Comm_dup(MPI_COMM_SELF, &answer.comm);
  ck_assert_ok(eqs_context_attach(answer.comm, &context));
  MPI_Irecv(&number, 1, MPI_INT, 0, 78, answer.comm, &request);
  ck_assert_ok(eqs_wait(answer.comm, &request, "the answer"));
  ck_assert_int_eq(number, 3);
  ck_assert_int_eq(eqs_progress(answer.comm), EQS_FAILED);
  ck_assert_ok(eqs_progress(MPI_COMM_SELF));
  MPI_Comm_free(&answer.comm);
}
END_TEST

START_TEST(nothing_comes_before_the_deadline)
{
  int never;
  MPI_Request request;
  MPI_Comm comm;
  static const eqs_context context = {.deadline = 0.05};
  MPI_Comm_dup(MPI_COMM_SELF, &comm);
  ck_assert_ok(eqs_context_attach(comm, &context));
  MPI_Irecv(&never, 1, MPI_INT, 0, 77, comm, &request);
  double start = eqs_clock();
  eqs_status status = eqs_wait(comm, &request, "the answer");
  ck_assert_int_eq(status, EQS_PEER_LOST);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "0.05 s"));
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "the answer"));
  ck_assert(eqs_clock() - start >= 0.05);
  MPI_Cancel(&request);
  MPI_Wait(&request, MPI_STATUS_IGNORE);
  MPI_Comm_free(&comm);
}
END_TEST

/* Communicators side by side: each has its own context, a part has that of the whole, a duplicate has none. */
START_TEST(a_context_belongs_to_its_communicator)
{
  eqs_counts counts[2] = {0};
  const eqs_context contexts[2] = {{.deadline = 11, .counts = &counts[0]}, {.deadline = 12, .counts = &counts[1]}};
  MPI_Comm comms[2], part, duplicate;
  for (int i = 0; i < 2; i++) {
    MPI_Comm_dup(MPI_COMM_WORLD, &comms[i]);
    ck_assert_ok(eqs_context_attach(comms[i], &contexts[i]));
  }
  ck_assert_ok(eqs_comm_split(comms[1], test_rank() % 2, test_rank(), &part));
  MPI_Comm_dup(comms[1], &duplicate);
  ck_assert_double_eq(eqs_deadline(comms[0]), 11);
  ck_assert_double_eq(eqs_deadline(part), 12);
  ck_assert_double_eq(eqs_deadline(duplicate), eqs_default_deadline());
  eqs_count_flops(comms[0], 3);
  eqs_count_messages(part, 1, 8);
  eqs_count_flops(duplicate, 100);
  ck_assert(counts[0].flops == 3 && counts[0].messages == 0);
  ck_assert(counts[1].flops == 0 && counts[1].messages == 1 && counts[1].bytes == 8);
  MPI_Comm_free(&part);
  MPI_Comm_free(&duplicate);
  MPI_Comm_free(&comms[0]);
  MPI_Comm_free(&comms[1]);
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
  tcase_add_test(tests, a_context_belongs_to_its_communicator);
  tcase_add_test(tests, errors_of_mpi_have_a_text);
  tcase_add_test(tests, agreeing_on_success);
  tcase_add_test(tests, agreeing_on_the_lowest_failure);
  tcase_set_timeout(tests, 0);
  suite_add_tcase(suite, tests);
  return suite;
}
