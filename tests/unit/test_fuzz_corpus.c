/* The saved inputs of the fuzzers (tests/fuzz), each read once: none may crash, and with sanitizers none may leak. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "harness.h"

/* What the fuzzers call LLVMFuzzerTestOneInput. */
int fuzz_config(const uint8_t *data, size_t size);
int fuzz_manifest(const uint8_t *data, size_t size);
int fuzz_calibration(const uint8_t *data, size_t size);
int fuzz_safetensors(const uint8_t *data, size_t size);
int fuzz_index(const uint8_t *data, size_t size);
int fuzz_bytes(const uint8_t *data, size_t size);

static void read_file(const char *folder, const char *name, int (*reader)(const uint8_t *, size_t))
{
  enum { largest = 4096 };
  char path[512];
  uint8_t *bytes = malloc(largest + 1);
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  ck_assert(file != NULL && bytes != NULL);
  size_t size = fread(bytes, 1, largest + 1, file);
  fclose(file);
  ck_assert_msg(size <= largest, "%s is larger than %d bytes", path, largest);
  uint8_t *exact = realloc(bytes, size > 0 ? size : 1); /* what is read behind the end is seen */
  ck_assert_int_eq(reader(exact, size), 0);
  free(exact);
}

static void read_corpus(const char *folder, int (*reader)(const uint8_t *, size_t))
{
  int files = 0;
  DIR *opened = opendir(folder);
  ck_assert_msg(opened != NULL, "%s is missing", folder);
  for (struct dirent *entry = readdir(opened); entry != NULL; entry = readdir(opened)) {
    if (entry->d_name[0] == '.') continue;
    read_file(folder, entry->d_name, reader);
    files++;
  }
  closedir(opened);
  ck_assert_int_ge(files, 20);
}

START_TEST(saved_inputs)
{
  read_corpus("tests/fuzz/corpus/config", fuzz_config);
  read_corpus("tests/fuzz/corpus/manifest", fuzz_manifest);
  read_corpus("tests/fuzz/corpus/calibration", fuzz_calibration);
  read_corpus("tests/fuzz/corpus/safetensors", fuzz_safetensors);
  read_corpus("tests/fuzz/corpus/index", fuzz_index);
  read_corpus("tests/fuzz/corpus/bytes", fuzz_bytes);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("fuzz corpus");
  TCase *tests = tcase_create("fuzz corpus");
  tcase_add_test(tests, saved_inputs);
  suite_add_tcase(suite, tests);
  return suite;
}
