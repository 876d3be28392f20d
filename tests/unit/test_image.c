/*
 * Checkpoints' files against HDF5: what the library finds in them is what their index says, with many parameters (links
 * in a B-tree of several levels, a heap of several blocks), with long texts (attributes outside of the header), and
 * with more different attributes than are shared. And an index whose checksum is right and whose contents are wrong.
 */
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/memory.h"
#include "checkpoint/hdf5_contents.h"
#include "checkpoint/image.h"
#include "checkpoint/serialize.h"
#include "checkpoint/write.h"
#include "harness.h"

static char path[300];

static void choose_path(void)
{
  const char *parent = getenv("TMPDIR");
  snprintf(path, sizeof path, "%s/equishard-image-XXXXXX", parent ? parent : "/tmp");
  int file = mkstemp(path);
  ck_assert_int_ge(file, 0);
  close(file);
  unlink(path);
}

static void remove_file(void)
{
  unlink(path);
}

enum { own_attributes = 4 };

/* Scalars on one rank, with attributes of which two parameters each have the same. */
typedef struct {
  int64_t count;
  eqs_checkpoint_parameter *parameter;
  eqs_attribute *attribute;
  char (*name)[120];
  float value;
  eqs_view view;
  eqs_tensor_matrix matrix;
} scalars;

static void make_scalars(scalars *made, int64_t count)
{
  *made = (scalars){.count = count, .value = 2.5F};
  ck_assert_ok(eqs_allocate(&made->parameter, count, sizeof *made->parameter));
  ck_assert_ok(eqs_allocate(&made->attribute, count * own_attributes, sizeof *made->attribute));
  ck_assert_ok(eqs_allocate(&made->name, count, sizeof *made->name));
  made->view = (eqs_view){.rows = 1, .cols = 1, .tensor_rows = 1, .tensor_cols = 1, .parts = 1};
  made->view.part[0] = (eqs_view_part){.row_stride = 1, .col_stride = 1, .cols = 1};
  made->matrix = (eqs_tensor_matrix){
      .view = &made->view,
      .distribution = {.rows = 1, .cols = 1, .row_block = 1, .col_block = 1, .grid_rows = 1, .grid_cols = 1},
      .shard = &made->value};
  for (int64_t p = 0; p < count; p++) {
    eqs_attribute *attribute = made->attribute + p * own_attributes;
    snprintf(made->name[p], sizeof made->name[p],
             "model.a_module_of_a_name_that_is_as_long_as_some_are.layers.%lld.weight", (long long)p);
    attribute[0] = (eqs_attribute){.name = "rule", .kind = EQS_ATTRIBUTE_TEXT, .text = "muon"};
    attribute[1] = (eqs_attribute){.name = "lr", .kind = EQS_ATTRIBUTE_NUMBER, .number = (double)(p / 2)};
    attribute[2] = (eqs_attribute){.name = "step", .kind = EQS_ATTRIBUTE_INTEGER, .integer = p / 2};
    attribute[3] = (eqs_attribute){.name = "eps", .kind = EQS_ATTRIBUTE_NUMBER, .number = (double)(p / 2)};
    made->parameter[p] = (eqs_checkpoint_parameter){.name = made->name[p],
                                                    .attributes = own_attributes,
                                                    .attribute = attribute,
                                                    .tensors = 1,
                                                    .tensor = {{.name = "weight", .matrices = 1}}};
    made->parameter[p].tensor[0].matrix = &made->matrix;
  }
}

static void free_scalars(scalars *made)
{
  free(made->parameter);
  free(made->attribute);
  free(made->name);
}

static void write_scalars(const scalars *made, const char *config)
{
  eqs_checkpoint_contents contents = {
      .step = 7, .config = config, .parameters = made->count, .parameter = made->parameter};
  ck_assert_ok(eqs_checkpoint_write(MPI_COMM_SELF, path, &contents));
}

/* What the index says, and what HDF5 finds by itself; both packed are the same bytes, offsets in the file too. */
static void assert_hdf5_agrees(eqs_checkpoint_contents *by_index)
{
  eqs_checkpoint_contents by_hdf5;
  char *left, *right;
  int64_t left_size, right_size;
  bool as_we_write;
  ck_assert_ok(eqs_image_contents(path, by_index, &as_we_write));
  ck_assert(as_we_write);
  ck_assert_ok(eqs_hdf5_contents(path, &by_hdf5));
  ck_assert_ok(eqs_contents_serialize(by_index, &left, &left_size));
  ck_assert_ok(eqs_contents_serialize(&by_hdf5, &right, &right_size));
  ck_assert_int_eq(left_size, right_size);
  ck_assert_int_eq(memcmp(left, right, (size_t)left_size), 0);
  eqs_contents_free(&by_hdf5);
  free(right);
  free(left);
}

/* Sizes around those where HDF5's structures change: links in a header, one block, several blocks; trees of more
 * levels. */
START_TEST(any_number_of_parameters)
{
  static const int64_t counts[] = {0, 1, 8, 9, 45, 46, 700, 1104, 6000};
  int64_t count = counts[_i];
  scalars made;
  eqs_checkpoint_contents contents;
  make_scalars(&made, count);
  write_scalars(&made, "");
  assert_hdf5_agrees(&contents);
  ck_assert_int_eq(contents.parameters, count);
  hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), group = H5Gopen2(file, "parameters", H5P_DEFAULT);
  for (int64_t p = 0; p < count; p++) { /* by name: the way through the tree */
    const eqs_checkpoint_parameter *parameter = eqs_contents_find(&contents, made.name[p]);
    ck_assert_ptr_nonnull(parameter);
    ck_assert_int_eq(eqs_parameter_step(parameter), p / 2);
    ck_assert_int_eq(H5Lexists(group, made.name[p], H5P_DEFAULT), 1);
  }
  ck_assert_int_eq(H5Lexists(group, "model.norm.weight", H5P_DEFAULT), 0);
  H5Gclose(group);
  H5Fclose(file);
  eqs_contents_free(&contents);
  free_scalars(&made);
}
END_TEST

/* A large model's file is less than 700 bytes for each parameter of one tensor with a name of 70 bytes and 4
 * attributes. */
START_TEST(file_is_small)
{
  scalars made;
  make_scalars(&made, 4000);
  for (int64_t i = 0; i < made.count * own_attributes; i++) made.attribute[i].integer = 0, made.attribute[i].number = 0;
  write_scalars(&made, "");
  int file = open(path, O_RDONLY);
  int64_t size = lseek(file, 0, SEEK_END);
  close(file);
  /* link 94, header 93 + 4 x 14, tensor's header 114 + 22, value and checksum 12, index 10, tree and heap 14: 415 */
  ck_assert_int_lt(size, 4000 * 430);
  free_scalars(&made);
}
END_TEST

/* Whatever checksum stands behind the time: the time is found. */
START_TEST(any_checksum)
{
  scalars made;
  make_scalars(&made, 1);
  for (int64_t step = 0; step < 1500; step++) {
    const eqs_checkpoint_contents given = {.step = step, .config = "", .parameters = 1, .parameter = made.parameter};
    eqs_checkpoint_contents contents;
    bool as_we_write;
    unlink(path);
    ck_assert_ok(eqs_contents_sort(&given, &contents));
    ck_assert_ok(eqs_image_create(path, &contents));
    eqs_contents_free(&contents);
    int file = open(path, O_WRONLY);
    ck_assert_int_eq(pwrite(file, "\211HDF\r\n\032\n", 8, 0), 8); /* without its way to the disk */
    close(file);
    ck_assert_ok(eqs_image_contents(path, &contents, &as_we_write));
    ck_assert_msg(as_we_write, "step %lld is not as we write it", (long long)step);
    eqs_contents_free(&contents);
  }
  free_scalars(&made);
}
END_TEST

/* Texts that no header can hold: the configuration, a parameter's attribute. */
START_TEST(long_texts)
{
  enum { config_size = 300000, text_size = 70000 };
  scalars made;
  eqs_checkpoint_contents contents;
  char *config = malloc(config_size + 1), *text = malloc(text_size + 1);
  memset(config, '0', config_size); /* as in the place of the time before it is known */
  memset(text, 'x', text_size);
  config[config_size] = text[text_size] = '\0';
  make_scalars(&made, 3);
  made.attribute[0].text = text;
  write_scalars(&made, config);
  assert_hdf5_agrees(&contents);
  ck_assert_str_eq(contents.config, config);
  ck_assert_str_eq(contents.parameter[0].attribute[2].text, text);
  ck_assert_int_eq(contents.created[10], 'T');
  eqs_contents_free(&contents);
  free_scalars(&made);
  free(text);
  free(config);
}
END_TEST

START_TEST(names_that_are_refused)
{
  scalars made;
  char *name = malloc(5002);
  memset(name, 'n', 5001);
  name[5001] = '\0';
  make_scalars(&made, 2);
  eqs_checkpoint_contents contents = {.config = "", .parameters = 2, .parameter = made.parameter};
  made.parameter[1].name = name;
  ck_assert_int_eq(eqs_checkpoint_write(MPI_COMM_SELF, path, &contents), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "names of more than 4000 bytes"));
  name[4000] = '\0';
  ck_assert_ok(eqs_checkpoint_write(MPI_COMM_SELF, path, &contents));
  made.attribute[1].name = "rule";
  ck_assert_int_eq(eqs_checkpoint_write(MPI_COMM_SELF, path, &contents), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "two attributes are named rule"));
  free_scalars(&made);
  free(name);
}
END_TEST

/* An index with any byte changed and its checksum made right: never as we write it, and no harm done. */
START_TEST(index_of_an_attacker)
{
  enum { index_begin = 48, head = 24, times = 20 };
  scalars made;
  eqs_checkpoint_contents contents;
  bool as_we_write;
  int64_t size;
  make_scalars(&made, 12);
  write_scalars(&made, "groups: []");
  int file = open(path, O_RDWR);
  ck_assert_int_eq(pread(file, &size, sizeof size, index_begin + 8), sizeof size);
  unsigned char *index = malloc((size_t)size);
  ck_assert_int_eq(pread(file, index, (size_t)size, index_begin + head), size);
  for (int64_t i = 0; i < size * times; i++) {
    static const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff};
    int64_t at = i / times;
    unsigned char before = index[at];
    double random = (test_uniform((uint64_t)i, 0) + 1) / 2;
    int bit = 1 << (int)(random * 8);
    index[at] = i % 2 ? before ^ (unsigned char)bit : values[(int)(random * 5)];
    if (index[at] == before) continue;
    uint64_t checksum = XXH3_64bits(index, (size_t)size);
    ck_assert_int_eq(pwrite(file, &checksum, sizeof checksum, index_begin + 16), sizeof checksum);
    ck_assert_int_eq(pwrite(file, index, (size_t)size, index_begin + head), size);
    ck_assert_ok(eqs_image_contents(path, &contents, &as_we_write));
    ck_assert(!as_we_write);
    index[at] = before;
  }
  close(file);
  free(index);
  free_scalars(&made);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("image");
  TCase *cases = tcase_create("image");
  tcase_add_checked_fixture(cases, choose_path, remove_file);
  tcase_add_loop_test(cases, any_number_of_parameters, 0, 9);
  tcase_add_test(cases, file_is_small);
  tcase_add_test(cases, any_checksum);
  tcase_add_test(cases, long_texts);
  tcase_add_test(cases, names_that_are_refused);
  tcase_add_test(cases, index_of_an_attacker);
  suite_add_tcase(suite, cases);
  return suite;
}
