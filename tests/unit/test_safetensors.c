/* Safetensors headers: what is read, what is written, and every way in which a file can be wrong. */
#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "harness.h"
#include "weights/safetensors.h"

static const char path_form[] = "/tmp/equishard-test-XXXXXX";

/* Write a file: the length that is said, the header's bytes, zeros. Returns the descriptor; no name is left. */
static int make_file(uint64_t said, const char *header, size_t length, int64_t zeros, char path[sizeof path_form])
{
  strcpy(path, path_form);
  int file = mkstemp(path);
  ck_assert(file >= 0);
  unlink(path);
  unsigned char start[8];
  for (int i = 0; i < 8; i++) start[i] = (unsigned char)(said >> 8 * i);
  ck_assert(write(file, start, 8) == 8 && write(file, header, length) == (ssize_t)length);
  ck_assert(ftruncate(file, 8 + (int64_t)length + zeros) == 0);
  return file;
}

static eqs_status read_file(int file, const char *path, eqs_safetensors *content)
{
  int64_t size;
  ck_assert_ok(eqs_file_size(file, path, &size));
  eqs_status status = eqs_safetensors_read(file, path, size, content);
  close(file);
  return status;
}

static eqs_status read_text(const char *header, int64_t zeros, eqs_safetensors *content)
{
  char path[sizeof path_form];
  return read_file(make_file(strlen(header), header, strlen(header), zeros, path), path, content);
}

START_TEST(forms)
{
  eqs_safetensors content;
  ck_assert_ok(
      read_text("{\"__metadata__\": {\"format\": \"pt\"}, \"late\": {\"dtype\": \"BF16\", \"shape\": [2, 3], "
                "\"data_offsets\": [12, 24]}, \"scalar\": {\"dtype\": \"F64\", \"shape\": [], \"data_offsets\": "
                "[4, 12]}, \"empty\": {\"dtype\": \"F32\", \"shape\": [0, 7], \"data_offsets\": [4, 4]}, \"first\": "
                "{\"more\": 1, \"dtype\": \"F4\", \"shape\": [8], \"data_offsets\": [0, 4]}}  ",
                24, &content));
  static const char *const names[] = {"first", "empty", "scalar", "late"}; /* in the order of their bytes */
  static const int64_t elements[] = {8, 0, 1, 6};
  ck_assert_int_eq(content.tensors, 4);
  for (int i = 0; i < 4; i++) {
    ck_assert_str_eq(content.tensor[i].name, names[i]);
    ck_assert_int_eq(content.tensor[i].elements, elements[i]);
    ck_assert_int_eq(eqs_safetensors_floats(&content.tensor[i]), i != 0);
  }
  ck_assert_int_eq(content.tensor[3].offset, content.tensor[0].offset + 12);
  eqs_safetensors_free(&content);
  ck_assert_ok(read_text("{}", 0, &content));
  ck_assert_int_eq(content.tensors, 0);
  eqs_safetensors_free(&content);
}
END_TEST

/* One tensor "a" of 24 bytes, with one thing in it replaced. */
#define ENTRY(dtype, shape, offsets) "{\"dtype\": " dtype ", \"shape\": " shape ", \"data_offsets\": " offsets "}"
#define WITH_DTYPE(dtype) "{\"a\": " ENTRY(dtype, "[2, 3]", "[0, 24]") "}"
#define WITH_SHAPE(shape) "{\"a\": " ENTRY("\"F32\"", shape, "[0, 24]") "}"
#define WITH_OFFSETS(offsets) "{\"a\": " ENTRY("\"F32\"", "[2, 3]", offsets) "}"
#define WITH_NAME(name) "{\"" name "\": " ENTRY("\"F32\"", "[2, 3]", "[0, 24]") "}"
#define TWO(offsets)                                                                                                   \
  "{\"a\": " ENTRY("\"F32\"", "[2, 3]", "[0, 24]") ", \"b\": " ENTRY("\"F32\"", "[2, 3]", offsets) "}"

static const struct {
  const char *header;
  int64_t bytes; /* of data */
  const char *reason;
} wrong[] = {
    {"{\"a\": ", 24, "JSON of the header"},
    {WITH_SHAPE("[2, 3]") " x", 24, "JSON of the header"},
    {"{\"a\": " ENTRY("\"F32\"", "[2, 3]", "[0, 24]") ", \"a\": " ENTRY("\"F32\"", "[2, 3]", "[0, 24]") "}", 24,
     "duplicate"},
    {"{\"a\": {\"dtype\": \"F32\", \"dtype\": \"F32\", \"shape\": [2, 3], \"data_offsets\": [0, 24]}}", 24,
     "duplicate"},
    {WITH_NAME("\xe9"), 24, "JSON of the header"},
    {WITH_NAME("a\\u0000b"), 24, "JSON of the header"},
    {"{\"__metadata__\": [], \"a\": " ENTRY("\"F32\"", "[2, 3]", "[0, 24]") "}", 24, "__metadata__: not an object"},
    {"{\"__metadata__\": {\"step\": 3}}", 0, "step is not a text"},
    {"{\"a\": 3}", 24, "a: not an object"},
    {"{\"a\": {}}", 24, "dtype"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2, 3]}}", 24, "data_offsets"},
    {WITH_DTYPE("\"F33\""), 24, "dtype is not one of safetensors: F33"},
    {WITH_DTYPE("\"float32\""), 24, "dtype is not one of safetensors"},
    {WITH_DTYPE("32"), 24, "dtype is not one of safetensors: not a text"},
    {WITH_DTYPE("null"), 24, "dtype is not one of safetensors"},
    {WITH_DTYPE("\"F16\""), 24, "shape and dtype"},
    {WITH_DTYPE("\"F4\""), 24, "shape and dtype"},
    {WITH_SHAPE("6"), 24, "shape is not a list"},
    {WITH_SHAPE("{}"), 24, "shape is not a list"},
    {WITH_SHAPE("[-2, -3]"), 24, "whole numbers"},
    {WITH_SHAPE("[2.0, 3]"), 24, "whole numbers"},
    {WITH_SHAPE("[\"2\", 3]"), 24, "whole numbers"},
    {WITH_SHAPE("[true, 6]"), 24, "whole numbers"},
    {WITH_SHAPE("[1e1, 6]"), 24, "whole numbers"},
    {WITH_SHAPE("[9223372036854775808]"), 24, "JSON of the header"},
    {WITH_SHAPE("[2, 4]"), 24, "shape and dtype"},
    {WITH_SHAPE("[6, 0]"), 24, "shape and dtype"},
    {WITH_SHAPE("[]"), 24, "shape and dtype"},
    {WITH_SHAPE("[1, 1, 1, 1, 1, 1, 2, 3, 1]"), 24, "9 dimensions; at most 8"},
    {WITH_SHAPE("[4611686018427387904, 4611686018427387904]"), 24, "too large"},
    {WITH_SHAPE("[4611686018427387904, 4]"), 24, "too large"},
    {WITH_SHAPE("[4294967296, 4294967296, 1]"), 24, "too large"}, /* 2^64 elements */
    {WITH_SHAPE("[4611686018427387904, 4, 0]"), 24, "too large"},
    {"{\"a\": " ENTRY("\"F32\"", "[0, 4294967296]", "[0, 0]") "}", 0, "too large"}, /* a row is sent at once */
    {WITH_OFFSETS("[0, 28]"), 24, "lead out of the file"},
    {WITH_OFFSETS("[-24, 0]"), 24, "lead out of the file"},
    {WITH_OFFSETS("[24, 0]"), 24, "lead out of the file"},
    {WITH_OFFSETS("[9223372036854775800, 9223372036854775807]"), 24, "lead out of the file"},
    {WITH_OFFSETS("[0, 18446744073709551616]"), 24, "JSON of the header"},
    {WITH_OFFSETS("[0.0, 24]"), 24, "two whole numbers"},
    {WITH_OFFSETS("[0, \"24\"]"), 24, "two whole numbers"},
    {WITH_OFFSETS("[0]"), 24, "two whole numbers"},
    {WITH_OFFSETS("[0, 24, 24]"), 24, "two whole numbers"},
    {WITH_OFFSETS("24"), 24, "two whole numbers"},
    {WITH_OFFSETS("[0, 23]"), 24, "shape and dtype"},
    {WITH_OFFSETS("[4, 28]"), 28, "a: its bytes follow a gap"},
    {WITH_OFFSETS("[0, 24]"), 28, "4 bytes at the end belong to no tensor"},
    {WITH_OFFSETS("[0, 24]"), 23, "lead out of the file"}, /* cut off */
    {"{}", 1, "1 bytes at the end belong to no tensor"},
    {TWO("[20, 44]"), 44, "overlap"},
    {TWO("[0, 24]"), 24, "overlap"},
    {TWO("[28, 52]"), 52, "b: its bytes follow a gap"},
};

START_TEST(wrong_headers)
{
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    eqs_safetensors content;
    eqs_status status = read_text(wrong[i].header, wrong[i].bytes, &content);
    ck_assert_msg(status == EQS_DAMAGED, "status %d of %s", status, wrong[i].header);
    ck_assert_msg(strstr(eqs_error_message(), wrong[i].reason) != NULL, "\"%s\" of %s", eqs_error_message(),
                  wrong[i].header);
    ck_assert(strncmp(eqs_error_message(), "/tmp/equishard-test-", 20) == 0); /* the file's name */
    ck_assert(content.tensors == 0 && content.tensor == NULL);
  }
}
END_TEST

/* Lengths of the header that are not those of a header in this file; and what has none. */
START_TEST(wrong_lengths)
{
  static const char good[] = WITH_SHAPE("[2, 3]");
  static const uint64_t lengths[] = {
      0, 1, sizeof good - 2, sizeof good + 24, (uint64_t)1 << 40, UINT64_MAX, UINT64_MAX - 7, (uint64_t)INT64_MAX};
  eqs_safetensors content;
  char path[sizeof path_form];
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
    ck_assert_int_eq(read_file(make_file(lengths[i], good, sizeof good - 1, 24, path), path, &content), EQS_DAMAGED);
  /* more than any header may have, in a file that has it: nothing of it is read */
  int64_t large = EQS_SAFETENSORS_HEADER + 1;
  ck_assert_int_eq(read_file(make_file((uint64_t)large, "{", 1, large, path), path, &content), EQS_DAMAGED);
  ck_assert(strstr(eqs_error_message(), "at most 100000000") != NULL);
  ck_assert_int_eq(read_file(make_file(5, "", 0, 0, path), path, &content), EQS_DAMAGED);
  ck_assert_int_eq(read_file(make_file(3, "[1]", 3, 0, path), path, &content), EQS_DAMAGED);
  ck_assert_ok(read_file(make_file(sizeof good - 1, good, sizeof good - 1, 24, path), path, &content));
  eqs_safetensors_free(&content);
}
END_TEST

/* Nesting, a name and a list without end: refused, not followed. */
START_TEST(endless)
{
  enum { count = 1 << 20 };
  char *text;
  eqs_safetensors content;
  ck_assert_ok(eqs_allocate(&text, count + 100, 1));
  strcpy(text, "{\"a\": ");
  memset(text + strlen(text), '[', count);
  ck_assert_int_eq(read_text(text, 0, &content), EQS_DAMAGED);
  memset(text, 0, count + 100);
  memcpy(text, "{\"", 2);
  memset(text + 2, 'x', count);
  strcat(text, "\": " ENTRY("\"F32\"", "[2, 3]", "[0, 24]") "}");
  ck_assert_int_eq(read_text(text, 24, &content), EQS_DAMAGED);
  ck_assert(strstr(eqs_error_message(), "a name of more than") != NULL);
  free(text);
  ck_assert_ok(eqs_allocate(&text, 9 * count, 1));
  strcpy(text, "{\"a\": [");
  for (int64_t i = 0, length = (int64_t)strlen(text); i < 2 * count; i++) memcpy(text + length + 3 * i, "{},", 3);
  ck_assert_int_eq(read_text(text, 0, &content), EQS_DAMAGED);
  ck_assert(strstr(eqs_error_message(), "4194306 values in the header") != NULL);
  free(text);
}
END_TEST

START_TEST(files_of_torch)
{
  static const struct {
    const char *start;
    size_t length;
  } starts[] = {
      {"PK\003\004\0\0\0\0\010\010", 10}, {"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j", 11}, {"\x80\x04\x95\0\0\0\0\0\0", 9}};
  for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
    char path[sizeof path_form + 8] = "/tmp/equishard-test-XXXXXX.pt";
    int file = mkstemps(path, 3);
    eqs_safetensors content;
    ck_assert(file >= 0 && write(file, starts[i].start, starts[i].length) == (ssize_t)starts[i].length);
    unlink(path);
    ck_assert_int_eq(read_file(file, path, &content), EQS_USAGE);
    char command[128];
    snprintf(command, sizeof command, "python3 -m equishard.convert %s %.26s.safetensors", path, path);
    ck_assert_msg(strstr(eqs_error_message(), command) != NULL, "%s", eqs_error_message());
  }
}
END_TEST

/* What is written is read: places, names that JSON must escape, a header of a multiple of 8 bytes. */
START_TEST(written)
{
  eqs_safetensor tensor[] = {
      {.name = "\"quoted\" \\ \n größe", .dtype = "F32", .ndim = 2, .shape = {2, 3}},
      {.name = "empty", .dtype = "BF16", .ndim = 2, .shape = {5, 0}},
      {.name = "scalar", .dtype = "F16"},
  };
  eqs_safetensors given = {.tensors = 3, .tensor = tensor}, content;
  char *head, path[sizeof path_form];
  int64_t length;
  ck_assert_ok(eqs_safetensors_make_head(&given, 7, &head, &length));
  ck_assert(length % 8 == 0 && strstr(head + 8, "\"step\":\"7\"") != NULL);
  ck_assert_ok(read_file(make_file((uint64_t)length - 8, head + 8, (size_t)length - 8, 26, path), path, &content));
  ck_assert_int_eq(content.tensors, 3);
  for (int i = 0; i < 3; i++) {
    ck_assert_str_eq(content.tensor[i].name, tensor[i].name);
    ck_assert_str_eq(content.tensor[i].dtype, tensor[i].dtype);
    ck_assert(content.tensor[i].offset == tensor[i].offset && content.tensor[i].bytes == tensor[i].bytes);
  }
  eqs_safetensors_free(&content);
  free(head);
  tensor[1].name = "caf\xe9";
  ck_assert_int_eq(eqs_safetensors_make_head(&given, 7, &head, &length), EQS_USAGE);
  tensor[1].name = "__metadata__";
  ck_assert_int_eq(eqs_safetensors_make_head(&given, 7, &head, &length), EQS_USAGE);
}
END_TEST

/*
 * float64 rounds to the nearest float32, ties to even, at an odd place in the file; what is finite and would become
 * infinite is an error, or the largest number.
 */
START_TEST(doubles)
{
  static const double from[] = {1 + 0x1p-24, 1 + 0x1.8p-23, 0x1p-150, 0x1.8p-149, 0x1.ffffffp127,
                                1e300,       -1e300,        -0.0,     INFINITY,   0x1.fffffefp127};
  static const float to[] = {1, 1 + 0x1p-22f, 0, 0x1p-148f, FLT_MAX, FLT_MAX, -FLT_MAX, -0.0f, INFINITY, FLT_MAX};
  char path[sizeof path_form];
  int file = make_file(0, "odd", 3, 0, path);
  ck_assert(pwrite(file, from, sizeof from, 11) == sizeof from);
  eqs_safetensor tensor = {.dtype = "F64", .ndim = 1, .shape = {10}, .elements = 10, .bytes = 80, .offset = 11};
  float values[10];
  int64_t saturated = 0;
  tensor.name = "double";
  ck_assert_ok(eqs_safetensors_load(file, path, &tensor, &saturated, values));
  ck_assert(memcmp(values, to, sizeof to) == 0);
  ck_assert_int_eq(saturated, 3);
  ck_assert_int_eq(eqs_safetensors_load(file, path, &tensor, NULL, values), EQS_USAGE);
  ck_assert_msg(strstr(eqs_error_message(), "tensor double: element 4 is 3.40282e+38, and float32 ends at 3.4e38") !=
                    NULL,
                "%s", eqs_error_message());
  tensor.offset = 12;
  ck_assert_int_eq(eqs_safetensors_load(file, path, &tensor, &saturated, values),
                   EQS_DAMAGED); /* the file ends before */
  close(file);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("safetensors");
  TCase *tcase = tcase_create("safetensors");
  tcase_add_test(tcase, forms);
  tcase_add_test(tcase, wrong_headers);
  tcase_add_test(tcase, wrong_lengths);
  tcase_add_test(tcase, endless);
  tcase_add_test(tcase, files_of_torch);
  tcase_add_test(tcase, written);
  tcase_add_test(tcase, doubles);
  suite_add_tcase(suite, tcase);
  return suite;
}
