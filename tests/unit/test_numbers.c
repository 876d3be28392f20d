/* The trainers' 16-bit types: all 65536 patterns, and rounding to nearest, ties to even. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/numbers.h"
#include "harness.h"

static float decode(eqs_dtype dtype, uint16_t pattern)
{
  float value;
  eqs_to_float(dtype, &pattern, &value, 1);
  return value;
}

static uint16_t encode(eqs_dtype dtype, float value)
{
  uint16_t pattern;
  eqs_from_float(dtype, &value, &pattern, 1);
  return pattern;
}

typedef struct {
  eqs_dtype dtype;
  int exponent_bits, fraction_bits;
} format;

static const format formats[] = {{EQS_BFLOAT16, 8, 7}, {EQS_FLOAT16, 5, 10}};

/* IEEE 754: (-1)^sign (1 + fraction) 2^(exponent - bias), subnormal numbers below. */
static double defined_value(const format *f, uint16_t pattern)
{
  int bias = (1 << (f->exponent_bits - 1)) - 1, fraction = pattern & ((1 << f->fraction_bits) - 1);
  int exponent = pattern >> f->fraction_bits & ((1 << f->exponent_bits) - 1);
  double magnitude;
  if (exponent == (1 << f->exponent_bits) - 1)
    magnitude = fraction ? NAN : INFINITY;
  else if (exponent == 0)
    magnitude = ldexp(fraction, 1 - bias - f->fraction_bits);
  else
    magnitude = ldexp(fraction + (1 << f->fraction_bits), exponent - bias - f->fraction_bits);
  return pattern & 0x8000 ? -magnitude : magnitude;
}

START_TEST(every_pattern_has_its_value_and_survives)
{
  const format *f = &formats[_i];
  for (int pattern = 0; pattern < 65536; pattern++) {
    float value = decode(f->dtype, (uint16_t)pattern);
    double expected = defined_value(f, (uint16_t)pattern);
    if (isnan(expected)) {
      ck_assert(isnan(value));
      ck_assert(isnan(decode(f->dtype, encode(f->dtype, value))));
    } else {
      ck_assert((double)value == expected && !signbit(value) == !signbit(expected));
      ck_assert_int_eq(encode(f->dtype, value), pattern);
    }
  }
}
END_TEST

/* Between two neighbours: below the middle down, above it up, in the middle to the even pattern. */
START_TEST(rounding_to_nearest_ties_to_even)
{
  const format *f = &formats[_i];
  int infinity = ((1 << f->exponent_bits) - 1) << f->fraction_bits;
  for (int pattern = 0; pattern < infinity; pattern++) {
    double low = defined_value(f, (uint16_t)pattern);
    double high = pattern + 1 < infinity ? defined_value(f, (uint16_t)(pattern + 1))
                                         : low + (low - defined_value(f, (uint16_t)(pattern - 1)));
    float middle = (float)(low + (high - low) / 2); /* exact in float32 */
    int even = pattern % 2 == 0 ? pattern : pattern + 1;
    ck_assert_int_eq(encode(f->dtype, middle), even);
    ck_assert_int_eq(encode(f->dtype, -middle), even | 0x8000);
    ck_assert_int_eq(encode(f->dtype, nextafterf(middle, 0)), pattern);
    ck_assert_int_eq(encode(f->dtype, nextafterf(middle, INFINITY)), pattern + 1);
  }
}
END_TEST

START_TEST(sizes_and_names)
{
  ck_assert_uint_eq(eqs_dtype_size(EQS_FLOAT32), 4);
  ck_assert_uint_eq(eqs_dtype_size(EQS_BFLOAT16), 2);
  ck_assert_uint_eq(eqs_dtype_size(EQS_FLOAT16), 2);
  ck_assert_str_eq(eqs_dtype_name(EQS_FLOAT32), "float32");
  ck_assert_str_eq(eqs_dtype_name(EQS_BFLOAT16), "bfloat16");
  ck_assert_str_eq(eqs_dtype_name(EQS_FLOAT16), "float16");
}
END_TEST

/* The largest number of a type, and what is rounded to infinity: from half a unit above it on. */
START_TEST(numbers_beyond_a_type)
{
  static const struct {
    eqs_dtype dtype;
    float largest, inside, beyond;
  } types[] = {{EQS_FLOAT16, 65504, 65519.996f, 65520},
               {EQS_BFLOAT16, 0x1.fep127f, 0x1.fefffep127f, 0x1.ffp127f},
               {EQS_FLOAT32, FLT_MAX, FLT_MAX, FLT_MAX}};
  for (int t = 0; t < 3; t++) {
    float values[] = {1, -types[t].inside, INFINITY, NAN, types[t].beyond, -types[t].beyond};
    int64_t beyond = types[t].dtype == EQS_FLOAT32 ? 0 : 2;
    ck_assert(eqs_dtype_largest(types[t].dtype) == types[t].largest);
    ck_assert_int_eq(eqs_find_beyond(types[t].dtype, values, 6), 6 - beyond);
    ck_assert_int_eq(eqs_saturate(types[t].dtype, values, 6), beyond);
    ck_assert(values[4] == types[t].largest && values[5] == -types[t].largest && values[1] == -types[t].inside);
    ck_assert(isinf(values[2]) && isnan(values[3]) && eqs_find_beyond(types[t].dtype, values, 6) == 6);
    uint16_t half[6];
    if (beyond == 0) continue;
    eqs_from_float(types[t].dtype, (float[]){types[t].inside, types[t].beyond}, half, 2);
    ck_assert_int_eq(half[1], half[0] + 1); /* the largest number, and infinity */
  }
}
END_TEST

START_TEST(float32_is_copied)
{
  float from[] = {1.5f, -0.0f, NAN, INFINITY, 1e-45f}, to[5];
  char message[sizeof from];
  eqs_from_float(EQS_FLOAT32, from, message, 5);
  eqs_to_float(EQS_FLOAT32, message, to, 5);
  ck_assert_int_eq(memcmp(from, to, sizeof from), 0);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("numbers");
  TCase *tests = tcase_create("numbers");
  tcase_add_loop_test(tests, every_pattern_has_its_value_and_survives, 0, 2);
  tcase_add_loop_test(tests, rounding_to_nearest_ties_to_even, 0, 2);
  tcase_add_test(tests, sizes_and_names);
  tcase_add_test(tests, numbers_beyond_a_type);
  tcase_add_test(tests, float32_is_copied);
  suite_add_tcase(suite, tests);
  return suite;
}
