/* Packed bytes: what is written is read again, and what is cut off or malformed is refused for good. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "harness.h"

static const int64_t counts[] = {0, 1, 127, 128, 300, INT64_C(1) << 40, INT64_MAX};
enum { count_of_counts = sizeof counts / sizeof counts[0] };

static eqs_bytes written(void)
{
  static const int64_t number = -5;
  eqs_bytes bytes = {0};
  eqs_bytes_add(&bytes, &number, sizeof number);
  for (int i = 0; i < count_of_counts; i++) eqs_bytes_add_count(&bytes, counts[i]);
  eqs_bytes_add_text(&bytes, "a text");
  eqs_bytes_add_block(&bytes, "a\0b", 3);
  ck_assert_ok(bytes.status);
  return bytes;
}

/* The status of reading what `written` wrote, from the first `size` of its bytes. */
static eqs_status read_written(const char *bytes, int64_t size)
{
  eqs_bytes_left from = eqs_bytes_reader(bytes, size);
  int64_t number, block_size;
  char *text = NULL, *block = NULL;
  eqs_bytes_take_number(&from, &number);
  for (int i = 0; i < count_of_counts; i++) {
    int64_t count;
    eqs_bytes_take_count(&from, 0, INT64_MAX, &count);
    ck_assert_int_eq(count, from.status == EQS_OK ? counts[i] : 0);
  }
  eqs_bytes_take_text(&from, &text);
  eqs_bytes_take_block(&from, &block, &block_size);
  eqs_status status = eqs_bytes_end(&from);
  if (status == EQS_OK) {
    ck_assert_int_eq(number, -5);
    ck_assert_str_eq(text, "a text");
    ck_assert_int_eq(block_size, 3);
    ck_assert(memcmp(block, "a\0b", 4) == 0);
  }
  free(text);
  free(block);
  return status;
}

START_TEST(test_round_trip)
{
  eqs_bytes bytes = written();
  ck_assert_ok(read_written(bytes.bytes, bytes.size));
  for (int64_t size = 0; size < bytes.size; size++) {
    char *exact = malloc(size > 0 ? (size_t)size : 1); /* what is read behind the end is seen */
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, bytes.bytes, (size_t)size);
    ck_assert_int_eq(read_written(exact, size), EQS_DAMAGED);
    free(exact);
  }
  eqs_bytes_add_zeros(&bytes, 1);
  ck_assert_int_eq(read_written(bytes.bytes, bytes.size), EQS_DAMAGED);
  eqs_bytes_free(&bytes);
}
END_TEST

START_TEST(test_first_failure_stays)
{
  static const char bytes[] = {1, 2, 3};
  char taken[3] = {0};
  eqs_bytes_left from = eqs_bytes_reader(bytes, sizeof bytes);
  ck_assert_int_eq(eqs_bytes_take(&from, taken, 4), EQS_DAMAGED);
  ck_assert_int_eq(eqs_bytes_take(&from, taken, 1), EQS_DAMAGED);
  ck_assert_int_eq(taken[0], 0);
  ck_assert_ptr_null(eqs_bytes_skip(&from, 0));
  from = eqs_bytes_reader(bytes, sizeof bytes);
  ck_assert_ptr_null(eqs_bytes_skip(&from, -1));
  ck_assert_int_eq(from.status, EQS_DAMAGED);
}
END_TEST

START_TEST(test_malformed)
{
  static const unsigned char endless[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80};
  static const char zero_inside[] = {2, 'a', 0}, many[] = {3, 0, 0};
  int64_t count;
  char *text = NULL;
  eqs_bytes_left from = eqs_bytes_reader(endless, sizeof endless);
  ck_assert_int_eq(eqs_bytes_take_count(&from, 0, INT64_MAX, &count), EQS_DAMAGED);
  from = eqs_bytes_reader(zero_inside, sizeof zero_inside);
  ck_assert_int_eq(eqs_bytes_take_text(&from, &text), EQS_DAMAGED);
  free(text);
  from = eqs_bytes_reader(many, sizeof many);
  ck_assert_int_eq(eqs_bytes_take_count(&from, 1, INT64_MAX, &count), EQS_DAMAGED);
  from = eqs_bytes_reader(many, sizeof many);
  ck_assert_int_eq(eqs_bytes_take_count(&from, 0, 2, &count), EQS_DAMAGED);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("bytes");
  TCase *tests = tcase_create("bytes");
  tcase_add_test(tests, test_round_trip);
  tcase_add_test(tests, test_first_failure_stays);
  tcase_add_test(tests, test_malformed);
  suite_add_tcase(suite, tests);
  return suite;
}
