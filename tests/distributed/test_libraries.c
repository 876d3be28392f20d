/* BLIS answers ScaLAPACK's calls of BLAS. */
#include <string.h>

#include "dist/kernels.h"
#include "dist/libraries.h"
#include "harness.h"

START_TEST(blis_answers_scalapack)
{
  static const char *const symbols[] = {"sgemm_", "dgemm_"};
  for (int i = 0; i < 2; i++) {
    const char *answer = eqs_library_answering("libscalapack", symbols[i]);
    ck_assert_ptr_nonnull(answer);
    const char *slash = strrchr(answer, '/');
    ck_assert_msg(strstr(slash ? slash : answer, "blis") != NULL, "%s answers %s", answer, symbols[i]);
  }
}
END_TEST

/* LAPACK calls through other slots than ScaLAPACK: its procedure linkage table's. Asking changes nothing. */
START_TEST(slots_of_direct_calls)
{
  const char *answer = eqs_library_answering("liblapack", "sgemm_");
  ck_assert_ptr_nonnull(answer);
  ck_assert_ptr_null(strstr(answer, "liblapack"));
  ck_assert_str_eq(answer, eqs_library_answering("liblapack", "sgemm_"));
}
END_TEST

START_TEST(what_is_not_there_has_no_answer)
{
  ck_assert_ptr_null(eqs_library_answering("libnothing", "sgemm_"));
  ck_assert_ptr_null(eqs_library_answering("libscalapack", "no_such_call_"));
  ck_assert_ptr_null(eqs_library_answering("libblis", "sgemm_")); /* its own, not a call */
}
END_TEST

/* The plain C kernels are for processors without vector units: where there are some, BLIS must use them. */
START_TEST(blis_uses_the_vector_units)
{
#if defined(__AVX2__)
  ck_assert_str_ne(eqs_blis_kernels(), "generic");
#endif
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("libraries");
  TCase *tests = tcase_create("libraries");
  tcase_add_test(tests, blis_answers_scalapack);
  tcase_add_test(tests, slots_of_direct_calls);
  tcase_add_test(tests, what_is_not_there_has_no_answer);
  tcase_add_test(tests, blis_uses_the_vector_units);
  suite_add_tcase(suite, tests);
  return suite;
}
