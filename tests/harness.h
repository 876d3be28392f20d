/*
 * What every test program shares: main() of a Check suite that runs under mpirun.
 *
 * All ranks run the same tests in the same order, in one process each. The first failed assertion of a
 * rank ends the job, since the other ranks may wait for it. Nothing is printed by tests that pass, but
 * one line by rank 0.
 */
#ifndef EQS_TESTS_HARNESS_H
#define EQS_TESTS_HARNESS_H

#include <check.h>
#include <mpi.h>
#include <stdbool.h>

#include "equishard.h"

/* The suite of the program that includes this. */
Suite *make_suite(void);

/*
 * Say where an assertion failed, and end the job: Check would go on with the next test, for which the other ranks
 * wait in vain. Stands in for what Check's macros call.
 */
_Noreturn void test_failed(const char *file, int line, const char *expression, const char *format, ...);
#define _ck_assert_failed test_failed

/* Rank and size of MPI_COMM_WORLD. */
int test_rank(void);
int test_size(void);

/* Whether memory that is allocated from now on counts as lost if nobody frees it, where a program is built to look. */
void test_leaks_count(bool count);

/* Add a test that needs so many ranks. On fewer it is left out, and the line of the suite says how many are. */
#define tcase_add_test_from(tcase, ranks, test)                                                                        \
  do {                                                                                                                 \
    if (test_size() >= (ranks))                                                                                        \
      tcase_add_test(tcase, test);                                                                                     \
    else                                                                                                               \
      test_leave_out();                                                                                                \
  } while (0)
void test_leave_out(void);

/* Assert that a call returns EQS_OK; shows the message if not. */
#define ck_assert_ok(call)                                                                                             \
  do {                                                                                                                 \
    eqs_status ck_status = (call);                                                                                     \
    ck_assert_msg(ck_status == EQS_OK, "%s: status %d: %s", #call, ck_status, eqs_error_message());                    \
  } while (0)

/* Assert |value| <= limit, for finite values. */
#define ck_assert_at_most(value, limit)                                                                                \
  do {                                                                                                                 \
    double ck_value = (value), ck_limit = (limit);                                                                     \
    ck_assert_msg(ck_value <= ck_limit, "%s = %g, more than %s = %g", #value, ck_value, #limit, ck_limit);             \
  } while (0)

/* Deterministic numbers: uniform in [-1, 1) from a seed and an index (splitmix64); standard normal. */
double test_uniform(uint64_t seed, uint64_t index);
double test_normal(uint64_t seed, uint64_t index);

#endif
