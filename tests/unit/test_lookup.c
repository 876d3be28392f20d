/* Tables of names and sets of indices, beside what they stand for: plain arrays. */
#include <stdio.h>
#include <stdlib.h>

#include "base/index_set.h"
#include "base/lookup.h"
#include "harness.h"

START_TEST(test_names)
{
  enum { count = 5000 };
  eqs_lookup *lookup = NULL;
  char name[64];
  int64_t number = -1;
  ck_assert(!eqs_lookup_find_text(lookup, "a", &number));
  for (int i = 0; i < count; i++) {
    snprintf(name, sizeof name, "model.layers.%d.weight", i);
    ck_assert_ok(eqs_lookup_add_text(&lookup, name, i));
  }
  for (int i = 0; i < count; i++) {
    snprintf(name, sizeof name, "model.layers.%d.weight", i);
    ck_assert(eqs_lookup_find_text(lookup, name, &number));
    ck_assert_int_eq(number, i);
  }
  ck_assert(!eqs_lookup_find_text(lookup, "model.layers.5000.weight", &number));
  ck_assert(!eqs_lookup_find_text(lookup, "model.layers.1.weigh", &number));
  ck_assert(!eqs_lookup_find_text(lookup, "", &number));
  ck_assert_ok(eqs_lookup_add_text(&lookup, "model.layers.1.weight", 77)); /* keeps its number */
  ck_assert(eqs_lookup_find_text(lookup, "model.layers.1.weight", &number));
  ck_assert_int_eq(number, 1);
  ck_assert_ok(eqs_lookup_set(&lookup, "model.layers.1.weight", 21, 77));
  ck_assert(eqs_lookup_find_text(lookup, "model.layers.1.weight", &number));
  ck_assert_int_eq(number, 77);
  eqs_lookup_free(&lookup);
  ck_assert_ptr_null(lookup);
  eqs_lookup_free(&lookup);
}
END_TEST

/* Random additions and removals; sizes around the word's and the summary's. */
START_TEST(test_indices)
{
  static const int64_t sizes[] = {1, 63, 64, 65, 4096, 4097, 9000};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    eqs_index_set set;
    char *in = calloc((size_t)sizes[s], 1);
    ck_assert_ok(eqs_index_set_create(sizes[s], &set));
    for (uint64_t k = 0; k < 400; k++) {
      int64_t i = (int64_t)((test_uniform(s, k) + 1) / 2 * (double)sizes[s]), least = -1, greatest = -1;
      in[i] = !in[i];
      if (in[i])
        eqs_index_set_add(&set, i);
      else
        eqs_index_set_remove(&set, i);
      for (int64_t j = 0; j < sizes[s]; j++) {
        if (!in[j]) continue;
        if (least < 0) least = j;
        greatest = j;
      }
      ck_assert_int_eq(eqs_index_set_least(&set), least);
      ck_assert_int_eq(eqs_index_set_greatest(&set), greatest);
    }
    eqs_index_set_clear(&set);
    ck_assert_int_eq(eqs_index_set_least(&set), -1);
    eqs_index_set_destroy(&set);
    free(in);
  }
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("lookup");
  TCase *tests = tcase_create("lookup");
  tcase_add_test(tests, test_names);
  tcase_add_test(tests, test_indices);
  suite_add_tcase(suite, tests);
  return suite;
}
