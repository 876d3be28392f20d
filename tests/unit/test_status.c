/* The trace of an error: every call through which it came, and nothing where nobody asks. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "harness.h"

static int inner_line, outer_line;

static eqs_status inner(void)
{
  eqs_status status = EQS_OK;
  inner_line = __LINE__ + 1;
  EQS_TRY(eqs_fail(EQS_USAGE, "number %d", 42));
cleanup:
  return status;
}

static eqs_status outer(void)
{
  eqs_status status = EQS_OK;
  outer_line = __LINE__ + 1;
  EQS_TRY(inner());
cleanup:
  return status;
}

/* What outer() prints on standard error. */
static void print_of_outer(char *text, size_t size)
{
  FILE *file = tmpfile();
  int before = dup(STDERR_FILENO);
  ck_assert(file != NULL && before >= 0);
  dup2(fileno(file), STDERR_FILENO);
  eqs_status status = outer();
  dup2(before, STDERR_FILENO);
  close(before);
  ck_assert_int_eq(status, EQS_USAGE);
  rewind(file);
  text[fread(text, 1, size - 1, file)] = '\0';
  fclose(file);
}

START_TEST(test_trace)
{
  char text[4096], place[256];
  unsetenv("EQUISHARD_LOG");
  print_of_outer(text, sizeof text);
  ck_assert_str_eq(text, "");
  setenv("EQUISHARD_LOG", "debug", 1);
  print_of_outer(text, sizeof text);
  unsetenv("EQUISHARD_LOG");
  snprintf(place, sizeof place, "test_status.c:%d: inner: status %d: number 42\n", inner_line, EQS_USAGE);
  const char *first = strstr(text, place);
  ck_assert_msg(first != NULL, "%s", text);
  snprintf(place, sizeof place, "test_status.c:%d: outer: status %d: number 42\n", outer_line, EQS_USAGE);
  ck_assert_msg(strstr(first, place) != NULL, "%s", text);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("status");
  TCase *tests = tcase_create("status");
  tcase_add_test(tests, test_trace);
  suite_add_tcase(suite, tests);
  return suite;
}
