/* The block-cyclic distribution: the maps between global and local indices are inverse and lose nothing. */
#include "dist/block_cyclic.h"
#include "harness.h"

static void check_distribution(int64_t n, int64_t block, int procs)
{
  int64_t total = 0;
  for (int coord = 0; coord < procs; coord++) {
    int64_t count = eqs_local_count(n, block, coord, procs), before = -1;
    for (int64_t local = 0; local < count; local++) {
      int64_t global = eqs_global_index(local, block, coord, procs);
      ck_assert(global > before && global < n); /* ascending */
      ck_assert_int_eq(eqs_index_owner(global, block, procs), coord);
      ck_assert_int_eq(eqs_local_index(global, block, procs), local);
      before = global;
    }
    ck_assert(eqs_global_index(count, block, coord, procs) >= n);
    total += count;
  }
  ck_assert_int_eq(total, n);
}

START_TEST(every_index_has_one_place)
{
  for (int64_t n = 0; n <= 40; n++)
    for (int64_t block = 1; block <= 9; block++)
      for (int procs = 1; procs <= 7; procs++) check_distribution(n, block, procs);
}
END_TEST

/* ScaLAPACK's rule: the first block is on process 0, the next one on process 1, and so on in turn. */
START_TEST(blocks_are_dealt_in_turn)
{
  static const int owners[] = {0, 0, 1, 1, 2, 2, 0, 0, 1, 1};
  for (int64_t global = 0; global < 10; global++) ck_assert_int_eq(eqs_index_owner(global, 2, 3), owners[global]);
  ck_assert_int_eq(eqs_local_count(9, 2, 0, 3), 4);
  ck_assert_int_eq(eqs_local_count(9, 2, 1, 3), 3);
  ck_assert_int_eq(eqs_local_count(9, 2, 2, 3), 2);
}
END_TEST

START_TEST(more_than_32_bits)
{
  int64_t n = (INT64_C(1) << 40) + 5;
  ck_assert(eqs_local_count(n, 64, 0, 2) == (INT64_C(1) << 39) + 5);
  ck_assert(eqs_global_index(eqs_local_index(n - 1, 64, 2), 64, 0, 2) == n - 1);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("block_cyclic");
  TCase *tests = tcase_create("block_cyclic");
  tcase_add_test(tests, every_index_has_one_place);
  tcase_add_test(tests, blocks_are_dealt_in_turn);
  tcase_add_test(tests, more_than_32_bits);
  suite_add_tcase(suite, tests);
  return suite;
}
