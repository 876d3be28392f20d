/*
 * Checkpoints: written on some ranks and grids and read on others, bit for bit; the same bytes from any ranks; every
 * damage is noticed; a failed write leaves what was there.
 */
#include <dirent.h>
#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "checkpoint/directory.h"
#include "checkpoint/match_model.h"
#include "checkpoint/read.h"
#include "checkpoint/read_contents.h"
#include "checkpoint/verify.h"
#include "checkpoint/write.h"
#include "dist/block_cyclic.h"
#include "harness.h"

enum { parameters = 10, max_matrices = 8 };

/* How the elements of a tensor form matrices, and on which grid those live. */
typedef enum { WHOLE, TRANSPOSED, HEADS_ROWS, HEADS_COLS, PAIR } view_kind;

typedef struct {
  const char *name;
  int ndim;
  int64_t shape[EQS_MAX_DIMS];
  view_kind kind;
  int matrices, tensors;
} parameter_form;

/* lm_head has two tiles (of 582 rows and 18); every other tensor has one, `empty` none. */
static const parameter_form forms[parameters] = {
    {"zeta.out", 2, {96, 64}, TRANSPOSED, 1, 2},
    {"model.layers.0.self_attn.q_proj.weight", 2, {128, 48}, HEADS_ROWS, 8, 2},
    {"model.layers.0.self_attn.o_proj.weight", 2, {48, 128}, HEADS_COLS, 8, 2},
    {"model.layers.0.mlp.gate_up_proj.weight", 2, {66, 40}, PAIR, 1, 2},
    {"model.layers.0.mlp.experts.down_proj", 3, {5, 24, 40}, HEADS_ROWS, 5, 2},
    {"model.norm.weight", 1, {37}, WHOLE, 1, 3},
    {"scale", 0, {0}, WHOLE, 1, 3},
    {"empty", 2, {0, 5}, WHOLE, 0, 2},
    {"eight", 8, {1, 2, 1, 3, 2, 1, 2, 3}, WHOLE, 1, 1},
    {"lm_head.weight", 2, {600, 1800}, WHOLE, 1, 1},
};

/* A model whose tensors are spread over the ranks of comm. */
typedef struct {
  MPI_Comm comm;
  int rank, ranks;
  int first; /* the parameters from this one on are visited */
  eqs_checkpoint_parameter parameter[parameters];
  eqs_view view[parameters][max_matrices];
  eqs_tensor_matrix matrix[parameters][EQS_MAX_TENSORS][max_matrices];
} model;

static char *directory; /* of this test program, the same on all ranks */

static const eqs_attribute attributes[] = {
    {.name = "rule", .kind = EQS_ATTRIBUTE_TEXT, .text = "muon"},
    {.name = "lr", .kind = EQS_ATTRIBUTE_NUMBER, .number = 0.02},
    {.name = "step", .kind = EQS_ATTRIBUTE_INTEGER, .integer = 100},
    {.name = "role", .kind = EQS_ATTRIBUTE_TEXT, .text = "lm_head"},
    {.name = "note", .kind = EQS_ATTRIBUTE_TEXT, .text = ""},
};
enum { attribute_count = sizeof attributes / sizeof *attributes };

static const eqs_checkpoint_item items[] = {{"state", "step 7\0\xff", 8}, {"nothing", "", 0}};

static int64_t elements_of(const parameter_form *form)
{
  int64_t elements = 1;
  for (int d = 0; d < form->ndim; d++) elements *= form->shape[d];
  return elements;
}

static eqs_view make_view(const parameter_form *form, int64_t rows, int64_t cols, int m)
{
  eqs_view view = {.rows = rows, .cols = cols, .tensor_rows = rows, .tensor_cols = cols, .parts = 1};
  view.part[0] = (eqs_view_part){.row_stride = cols, .col_stride = 1, .cols = cols};
  switch (form->kind) {
  case WHOLE: break;
  case TRANSPOSED:
    view.rows = cols;
    view.cols = rows;
    view.part[0] = (eqs_view_part){.row_stride = 1, .col_stride = cols, .cols = rows};
    break;
  case HEADS_ROWS:
    view.rows = rows / form->matrices;
    view.part[0].offset = m * view.rows * cols;
    break;
  case HEADS_COLS:
    view.cols = cols / form->matrices;
    view.part[0].offset = m * view.cols;
    view.part[0].cols = view.cols;
    break;
  case PAIR: /* the lower half of the rows beside the upper half */
    view.rows = rows / 2;
    view.cols = 2 * cols;
    view.parts = 2;
    view.part[1] = view.part[0];
    view.part[1].offset = view.rows * cols;
    view.part[1].first_col = cols;
    break;
  }
  return view;
}

/* Grids and blocks that differ between parameters, numbers of ranks and variants: 1x1, Px1, 1xP, PxQ, idle ranks. */
static void choose_grid(int p, int m, int ranks, int variant, eqs_tensor_matrix *matrix)
{
  static const int64_t blocks[] = {1, 3, 64};
  int rows = 1, cols = 1;
  switch ((p + variant) % 4) {
  case 0: rows = ranks; break;
  case 1: cols = ranks; break;
  case 2: rows = ranks >= 4 ? 2 : 1, cols = ranks / rows; break;
  case 3: break;
  }
  int spare = ranks - rows * cols + 1;
  matrix->first_owner = (p + m + variant) % spare;
  matrix->distribution = (eqs_distribution){.rows = matrix->view->rows,
                                            .cols = matrix->view->cols,
                                            .row_block = blocks[(p + variant) % 3],
                                            .col_block = blocks[(m + variant + 1) % 3],
                                            .grid_rows = rows,
                                            .grid_cols = cols};
}

static int64_t local_size(const eqs_tensor_matrix *matrix, int rank, int64_t *rows, int64_t *cols)
{
  const eqs_distribution *distribution = &matrix->distribution;
  int position = rank - matrix->first_owner;
  if (position < 0 || position >= distribution->grid_rows * distribution->grid_cols) return -1;
  *rows = eqs_local_count(distribution->rows, distribution->row_block, position / distribution->grid_cols,
                          distribution->grid_rows);
  *cols = eqs_local_count(distribution->cols, distribution->col_block, position % distribution->grid_cols,
                          distribution->grid_cols);
  return *rows * *cols;
}

static void make_model(model *made, MPI_Comm comm, int variant)
{
  *made = (model){.comm = comm};
  MPI_Comm_rank(comm, &made->rank);
  MPI_Comm_size(comm, &made->ranks);
  for (int p = 0; p < parameters; p++) {
    const parameter_form *form = &forms[p];
    eqs_checkpoint_parameter *parameter = &made->parameter[p];
    static const char *const two[] = {"weight", "momentum"}, *const three[] = {"weight", "exp_avg_sq", "exp_avg"};
    *parameter = (eqs_checkpoint_parameter){.name = form->name,
                                            .trainer_dtype = p % 2 ? EQS_BFLOAT16 : EQS_FLOAT32,
                                            .ndim = form->ndim,
                                            .attributes = attribute_count,
                                            .attribute = attributes,
                                            .tensors = form->tensors};
    memcpy(parameter->shape, form->shape, sizeof form->shape);
    int64_t cols = form->ndim > 1 ? form->shape[form->ndim - 1] : 1;
    int64_t rows = cols > 0 ? elements_of(form) / cols : 0;
    for (int m = 0; m < form->matrices; m++) made->view[p][m] = make_view(form, rows, cols, m);
    for (int t = 0; t < form->tensors; t++) {
      parameter->tensor[t] = (eqs_checkpoint_tensor){
          .name = form->tensors == 3 ? three[t] : two[t], .matrices = form->matrices, .matrix = made->matrix[p][t]};
      for (int m = 0; m < form->matrices; m++) {
        eqs_tensor_matrix *matrix = &made->matrix[p][t][m];
        int64_t local_rows, local_cols;
        matrix->view = &made->view[p][m];
        choose_grid(p, m, made->ranks, variant, matrix);
        int64_t local = local_size(matrix, made->rank, &local_rows, &local_cols);
        if (local > 0) ck_assert_ok(eqs_allocate(&matrix->shard, local, sizeof(float)));
      }
    }
  }
}

static void free_model(model *made)
{
  for (int p = 0; p < parameters; p++)
    for (int t = 0; t < EQS_MAX_TENSORS; t++)
      for (int m = 0; m < max_matrices; m++) free(made->matrix[p][t][m].shard);
}

static float value_at(int p, int t, int64_t element)
{
  return (float)test_uniform((uint64_t)(16 * p + t), (uint64_t)element);
}

/* Visit every element of this rank's shards: set it, or count those that differ from what they should be. */
static int64_t visit(model *made, int set, int only_tensor)
{
  int64_t wrong = 0;
  for (int p = made->first; p < parameters; p++)
    for (int t = 0; t < forms[p].tensors; t++)
      for (int m = 0; m < forms[p].matrices; m++) {
        const eqs_tensor_matrix *matrix = &made->matrix[p][t][m];
        const eqs_distribution *distribution = &matrix->distribution;
        int64_t rows, cols;
        if (local_size(matrix, made->rank, &rows, &cols) <= 0 || (only_tensor >= 0 && t != only_tensor)) continue;
        int position = made->rank - matrix->first_owner;
        for (int64_t i = 0; i < rows; i++)
          for (int64_t j = 0; j < cols; j++) {
            int64_t row = eqs_global_index(i, distribution->row_block, position / distribution->grid_cols,
                                           distribution->grid_rows);
            int64_t col = eqs_global_index(j, distribution->col_block, position % distribution->grid_cols,
                                           distribution->grid_cols);
            const eqs_view_part *part = matrix->view->part;
            if (matrix->view->parts == 2 && col >= part[1].first_col) part++;
            float value =
                value_at(p, t, part->offset + row * part->row_stride + (col - part->first_col) * part->col_stride);
            float *element = &matrix->shard[i * cols + j];
            if (set) *element = value;
            wrong += memcmp(element, &value, sizeof value) != 0;
          }
      }
  return wrong;
}

static eqs_checkpoint_contents contents_of(model *made, int64_t step)
{
  return (eqs_checkpoint_contents){.step = step,
                                   .skipped = 3,
                                   .config = "groups:\n  - match: {}\n    rule: muon\n",
                                   .parameters = parameters,
                                   .parameter = made->parameter,
                                   .items = 2,
                                   .item = items};
}

static const char *in_directory(const char *name)
{
  static char path[16][512]; /* the last 16 stay valid */
  static int next;
  next = (next + 1) % 16;
  snprintf(path[next], sizeof path[next], "%s/%s", directory, name);
  return path[next];
}

/* Communicator of the first `ranks` ranks; MPI_COMM_NULL on others. */
static MPI_Comm first_ranks(int ranks)
{
  MPI_Comm comm;
  MPI_Comm_split(MPI_COMM_WORLD, test_rank() < ranks ? 0 : MPI_UNDEFINED, test_rank(), &comm);
  return comm;
}

/* Parameters from `first` on. */
static void write_part_on(int ranks, int variant, int first, const char *path)
{
  MPI_Comm comm = first_ranks(ranks);
  if (comm != MPI_COMM_NULL) {
    model made;
    make_model(&made, comm, variant);
    visit(&made, 1, -1);
    eqs_checkpoint_contents contents = contents_of(&made, 100);
    contents.parameters -= first;
    contents.parameter += first;
    ck_assert_ok(eqs_checkpoint_write(comm, path, &contents));
    free_model(&made);
    MPI_Comm_free(&comm);
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

static void write_on(int ranks, int variant, const char *path)
{
  write_part_on(ranks, variant, 0, path);
}

/* As every rank sees the file. Collective. */
static eqs_status read_model(MPI_Comm comm, const char *path, model *into, int first)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_contents stored = {0};
  const eqs_checkpoint_contents wanted = {.parameters = parameters - first, .parameter = into->parameter + first};
  EQS_TRY(eqs_contents_read(path, &stored));
  EQS_TRY(eqs_checkpoint_read(comm, path, &stored, &wanted));
cleanup:
  eqs_contents_free(&stored);
  return status;
}

/* Read parameters from `first` on, on some ranks; the status, which must be the same on all of them. */
static eqs_status read_part_on(int ranks, int variant, int first, const char *path)
{
  MPI_Comm comm = first_ranks(ranks);
  eqs_status status = EQS_OK;
  if (comm != MPI_COMM_NULL) {
    model made;
    make_model(&made, comm, variant);
    made.first = first;
    status = read_model(comm, path, &made, first);
    if (status == EQS_OK) ck_assert_int_eq(visit(&made, 0, -1), 0);
    free_model(&made);
    MPI_Comm_free(&comm);
  }
  int lowest = (int)status, highest = (int)status;
  MPI_Allreduce(MPI_IN_PLACE, &highest, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  if (test_rank() < ranks) ck_assert_int_eq(lowest, highest);
  return (eqs_status)highest;
}

static eqs_status read_on(int ranks, int variant, const char *path)
{
  return read_part_on(ranks, variant, 0, path);
}

static char *read_bytes(const char *path, int64_t *size)
{
  struct stat about;
  char *bytes;
  FILE *file = fopen(path, "rb");
  ck_assert_ptr_nonnull(file);
  ck_assert_int_eq(fstat(fileno(file), &about), 0);
  *size = about.st_size;
  ck_assert_ok(eqs_allocate(&bytes, *size, 1));
  ck_assert_int_eq(fread(bytes, 1, (size_t)*size, file), *size);
  fclose(file);
  return bytes;
}

static void write_bytes(const char *path, const char *bytes, int64_t size)
{
  FILE *file = fopen(path, "wb");
  ck_assert_ptr_nonnull(file);
  ck_assert_int_eq(fwrite(bytes, 1, (size_t)size, file), size);
  ck_assert_int_eq(fclose(file), 0);
}

/* Set an attribute of the root with HDF5, which keeps its own checksums right. */
static void set_attribute(const char *path, const char *name, hid_t type, const void *value)
{
  hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), attribute = H5Aopen(file, name, H5P_DEFAULT);
  hid_t stored = type < 0 ? H5Aget_type(attribute) : H5Tcopy(type);
  ck_assert_int_ge(H5Awrite(attribute, stored, value), 0);
  H5Tclose(stored);
  H5Aclose(attribute);
  ck_assert_int_ge(H5Fclose(file), 0);
}

static void stay_as_first(void)
{
  MPI_Barrier(MPI_COMM_WORLD);
}

/* Identity: `created` aside, which is overwritten here, a file's bytes are those of the first one. */
static void assert_same_bytes(const char *path, char **first, int64_t *first_size)
{
  if (test_rank() == 0) {
    int64_t size;
    set_attribute(path, "created", -1, "2000-01-01T00:00:00Z");
    char *bytes = read_bytes(path, &size);
    if (*first == NULL) {
      *first = bytes;
      *first_size = size;
    } else {
      ck_assert_int_eq(size, *first_size);
      ck_assert_int_eq(memcmp(bytes, *first, (size_t)size), 0);
      free(bytes);
    }
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

/*
 * Written on any ranks and read on any others, on other grids and in other blocks: the same bits, and the same bytes in
 * the file. With more parameters than ranks, with one (of two tiles), and with none.
 */
START_TEST(any_ranks_to_any_ranks)
{
  static const int counts[] = {1, 2, 3, 4, 6}, firsts[] = {0, parameters - 1, parameters};
  const char *path = in_directory("any.h5");
  for (int f = 0; f < 3; f++) {
    char *bytes = NULL;
    int64_t size = 0;
    for (int w = 0; w < 5 && counts[w] <= test_size(); w++) {
      write_part_on(counts[w], w, firsts[f], path);
      assert_same_bytes(path, &bytes, &size);
      for (int r = 0; r < 5 && counts[r] <= test_size(); r++)
        ck_assert_int_eq(read_part_on(counts[r], w + 1 + r % 3, firsts[f], path), EQS_OK);
    }
    free(bytes);
  }
}
END_TEST

START_TEST(summary_has_everything)
{
  const char *path = in_directory("contents.h5");
  eqs_checkpoint_contents contents;
  write_on(test_size(), 0, path);
  ck_assert_ok(eqs_contents_read(path, &contents));
  ck_assert_int_eq(contents.step, 100);
  ck_assert_int_eq(contents.skipped, 3);
  ck_assert_int_eq(contents.version, EQS_CHECKPOINT_VERSION);
  ck_assert_str_eq(contents.equishard_version, EQS_VERSION);
  ck_assert_str_eq(contents.config, "groups:\n  - match: {}\n    rule: muon\n");
  ck_assert_int_eq(strlen(contents.created), strlen("2000-01-01T00:00:00Z"));
  ck_assert_int_eq(contents.parameters, parameters);
  ck_assert_int_eq(contents.items, 2);
  ck_assert_str_eq(contents.item[0].key, "nothing");
  ck_assert_int_eq(contents.item[0].size, 0);
  ck_assert_str_eq(contents.item[1].key, "state");
  ck_assert_int_eq(contents.item[1].size, 8);
  ck_assert_int_eq(memcmp(contents.item[1].bytes, items[0].bytes, 8), 0);
  for (int p = 0; p < parameters; p++) {
    const eqs_checkpoint_parameter *parameter = eqs_contents_find(&contents, forms[p].name);
    ck_assert_ptr_nonnull(parameter);
    ck_assert_int_eq(parameter->ndim, forms[p].ndim);
    ck_assert_int_eq(memcmp(parameter->shape, forms[p].shape, sizeof parameter->shape), 0);
    ck_assert_int_eq(parameter->tensors, forms[p].tensors);
    ck_assert_int_eq(parameter->trainer_dtype, p % 2 ? EQS_BFLOAT16 : EQS_FLOAT32);
    ck_assert_int_eq(eqs_parameter_step(parameter), 100);
    ck_assert_int_eq(parameter->attributes, attribute_count);
    ck_assert_str_eq(parameter->attribute[0].name, "lr");
    ck_assert(parameter->attribute[0].number == 0.02);
    ck_assert_str_eq(parameter->attribute[1].text, "");
    ck_assert_str_eq(parameter->attribute[2].text, "lm_head");
  }
  ck_assert_ptr_null(eqs_contents_find(&contents, "absent"));
  eqs_contents_free(&contents);
  stay_as_first();
}
END_TEST

static char reported[256];

static void report(const char *parameter, const char *tensor, int64_t first_row, int64_t end_row)
{
  size_t length = strlen(reported);
  snprintf(reported + length, sizeof reported - length, "%s/%s %lld %lld;", parameter, tensor, (long long)first_row,
           (long long)end_row);
}

/* Position in the file of element 0 of a tensor. */
static int64_t place_of(const char *path, const char *dataset)
{
  hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), opened = H5Dopen2(file, dataset, H5P_DEFAULT);
  int64_t place = (int64_t)H5Dget_offset(opened);
  H5Dclose(opened);
  H5Fclose(file);
  return place;
}

/* Position of a tensor's first checksum. */
static int64_t place_of_checksum(const char *path, const char *parameter, const char *tensor)
{
  eqs_checkpoint_contents contents;
  ck_assert_ok(eqs_contents_read(path, &contents));
  int64_t place = eqs_parameter_find_tensor(eqs_contents_find(&contents, parameter), tensor)->checksums;
  eqs_contents_free(&contents);
  return place;
}

static void flip_bit(const char *path, int64_t place)
{
  int file = open(path, O_RDWR);
  char byte;
  ck_assert_int_eq(pread(file, &byte, 1, place), 1);
  byte ^= 0x10;
  ck_assert_int_eq(pwrite(file, &byte, 1, place), 1);
  close(file);
}

START_TEST(damaged_data_is_named)
{
  const char *path = in_directory("data.h5");
  int64_t tiles, bytes;
  write_on(test_size(), 1, path);
  ck_assert_ok(eqs_checkpoint_verify(MPI_COMM_WORLD, path, report, &tiles, &bytes));
  ck_assert_int_eq(tiles, 19); /* two of lm_head, 17 others; none of `empty` */
  ck_assert_str_eq(reported, "");

  if (test_rank() == 0) {
    flip_bit(path, place_of(path, "parameters/lm_head.weight/weight") + 590 * 1800 * 4 + 5);
    flip_bit(path, place_of_checksum(path, "scale", "exp_avg"));
  }
  MPI_Barrier(MPI_COMM_WORLD);
  ck_assert_int_eq(eqs_checkpoint_verify(MPI_COMM_WORLD, path, report, &tiles, &bytes), EQS_DAMAGED);
  if (test_rank() == 0) ck_assert_str_eq(reported, "lm_head.weight/weight 582 600;scale/exp_avg 0 1;");
  reported[0] = '\0';
  ck_assert_int_eq(read_on(test_size(), 0, path), EQS_DAMAGED);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "damaged: "));
}
END_TEST

/* Status and message of a contents, the same for all readers. */
static void assert_refused(const char *path, eqs_status expected, const char *words)
{
  eqs_checkpoint_contents contents;
  MPI_Barrier(MPI_COMM_WORLD);
  ck_assert_int_eq(eqs_contents_read(path, &contents), expected);
  ck_assert_msg(strstr(eqs_error_message(), words) != NULL, "\"%s\" does not say \"%s\"", eqs_error_message(), words);
  ck_assert_int_eq(read_on(test_size(), 0, path), expected);
  ck_assert_msg(strstr(eqs_error_message(), words) != NULL, "\"%s\" does not say \"%s\"", eqs_error_message(), words);
}

/* All ranks fail alike; what else is refused is tests/unit/test_damage.c's. */
START_TEST(other_files_are_refused)
{
  const int64_t seven = 7;
  const char *path = in_directory("other.h5");
  assert_refused(in_directory("missing.h5"), EQS_IO, "No such file");

  if (test_rank() == 0) write_bytes(path, "not an HDF5 file at all", 23);
  assert_refused(path, EQS_DAMAGED, "not an HDF5 file");

  write_on(test_size(), 0, path);
  if (test_rank() == 0) set_attribute(path, "step", H5T_NATIVE_INT64, &seven); /* HDF5's own checksum is right */
  assert_refused(path, EQS_DAMAGED, "checksum");
}
END_TEST

START_TEST(another_model_is_named)
{
  const char *path = in_directory("model.h5");
  eqs_checkpoint_contents contents, other;
  model made;
  write_on(test_size(), 0, path);
  ck_assert_ok(eqs_contents_read(path, &contents));
  make_model(&made, MPI_COMM_WORLD, 0);
  other = contents_of(&made, 1);
  ck_assert_ok(eqs_match_check(&contents, false, false, &other));
  made.parameter[0].name = "renamed";
  made.parameter[9].shape[0] = 300, made.parameter[9].shape[1] = 3600;
  ck_assert_int_eq(eqs_match_check(&contents, false, false, &other), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "'lm_head.weight'"));
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "600x1800, must be 300x3600"));
  made.view[9][0].tensor_rows = 300, made.view[9][0].tensor_cols = 3600;
  ck_assert_int_eq(eqs_match_check(&contents, false, false, &other), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "1 parameter not in it (renamed)"));
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "`checkpoint: {partial: true}`"));
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "1 parameter not in the model (zeta.out)"));
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "lm_head.weight: 600x1800, in the model 300x3600"));
  ck_assert_int_eq(read_model(MPI_COMM_WORLD, path, &made, 0), EQS_USAGE);
  eqs_contents_free(&contents);
  free_model(&made);
}
END_TEST

/* Tensors that the file does not have keep their values. */
START_TEST(absent_tensors_are_left_alone)
{
  const char *path = in_directory("absent.h5");
  model made;
  make_model(&made, MPI_COMM_WORLD, 1);
  visit(&made, 1, -1);
  eqs_checkpoint_contents contents = contents_of(&made, 1);
  for (int p = 0; p < parameters; p++) made.parameter[p].tensors = 1;
  ck_assert_ok(eqs_checkpoint_write(MPI_COMM_WORLD, path, &contents));
  free_model(&made);

  make_model(&made, MPI_COMM_WORLD, 2);
  ck_assert_ok(read_model(MPI_COMM_WORLD, path, &made, 0));
  ck_assert_int_eq(visit(&made, 0, 0), 0);
  for (int p = 0; p < parameters; p++)
    for (int m = 0; m < forms[p].matrices; m++)
      if (forms[p].tensors > 1 && made.matrix[p][1][m].shard) ck_assert(made.matrix[p][1][m].shard[0] == 0);
  free_model(&made);
}
END_TEST

START_TEST(impossible_names_are_refused)
{
  model made;
  make_model(&made, MPI_COMM_WORLD, 0);
  eqs_checkpoint_contents contents = contents_of(&made, 1);
  const char *const names[] = {"a/b", "", ".", "scale"};
  for (int i = 0; i < 4; i++) {
    made.parameter[0].name = names[i];
    ck_assert_int_eq(eqs_checkpoint_write(MPI_COMM_WORLD, in_directory("names.h5"), &contents), EQS_USAGE);
  }
  ck_assert_int_eq(access(in_directory("names.h5"), F_OK), -1);
  free_model(&made);
}
END_TEST

static int count_files(const char *path)
{
  int count = 0;
  DIR *opened = opendir(path);
  if (opened == NULL) return 0;
  for (struct dirent *entry = readdir(opened); entry; entry = readdir(opened)) count += entry->d_name[0] != '.';
  closedir(opened);
  return count;
}

START_TEST(saves_keep_the_newest)
{
  const char *kept = in_directory("runs/kept");
  char path[512], target[64] = "", *file;
  model made;
  make_model(&made, MPI_COMM_WORLD, 0);
  for (int64_t step = 1; step <= 4; step++) {
    eqs_checkpoint_contents contents = contents_of(&made, step);
    if (step == 3 && test_rank() == 0) { /* what a write that was cut off leaves */
      snprintf(path, sizeof path, "%s/step-00000009.h5.partial", kept);
      write_bytes(path, "x", 1);
    }
    ck_assert_ok(eqs_checkpoint_save(MPI_COMM_WORLD, &(eqs_checkpoint_directory){.path = kept, .keep = 2}, &contents));
  }
  ck_assert_int_eq(count_files(kept), 3);
  snprintf(path, sizeof path, "%s/latest", kept);
  ck_assert_int_gt(readlink(path, target, sizeof target - 1), 0);
  ck_assert_str_eq(target, "step-00000004.h5");

  ck_assert_ok(eqs_checkpoint_find(kept, &file));
  ck_assert_str_eq(strrchr(file, '/'), "/step-00000004.h5");
  free(file);
  ck_assert_int_eq(eqs_checkpoint_find(directory, &file), EQS_IO);

  /* a `latest` that leads out of the directory is not followed, wherever to */
  MPI_Barrier(MPI_COMM_WORLD);
  if (test_rank() == 0) {
    char outside[512], last[512], lasts_name[512];
    snprintf(lasts_name, sizeof lasts_name, "%s/step-00000004.h5", kept);
    snprintf(outside, sizeof outside, "%s/step-00000003.h5", kept);
    snprintf(last, sizeof last, "%s/../step-00000003.h5", kept);
    ck_assert_int_eq(link(outside, last), 0);
    snprintf(outside, sizeof outside, "%s/latest", kept);
    const char *const targets[] = {"../step-00000003.h5", last, "../kept/step-00000003.h5", "./step-00000003.h5", ".."};
    for (int i = 0; i < 5; i++) {
      ck_assert(unlink(outside) == 0 && symlink(targets[i], outside) == 0);
      ck_assert_ok(eqs_checkpoint_find(kept, &file));
      ck_assert_str_eq(file, lasts_name);
      free(file);
    }
    ck_assert(unlink(last) == 0 && unlink(outside) == 0 && symlink("step-00000004.h5", outside) == 0);
  }

  /* without a usable `latest`: the newest that is whole */
  MPI_Barrier(MPI_COMM_WORLD);
  if (test_rank() == 0) {
    snprintf(path, sizeof path, "%s/step-00000004.h5", kept);
    ck_assert_int_eq(truncate(path, 1000), 0);
    ck_assert_ok(eqs_checkpoint_find(kept, &file));
    ck_assert_str_eq(strrchr(file, '/'), "/step-00000003.h5");
    free(file);
  }

  /* the newest, and those of every third step */
  for (int64_t step = 5; step <= 8; step++) {
    eqs_checkpoint_contents contents = contents_of(&made, step);
    ck_assert_ok(eqs_checkpoint_save(MPI_COMM_WORLD,
                                     &(eqs_checkpoint_directory){.path = kept, .keep = 2, .keep_every = 3}, &contents));
  }
  ck_assert_int_eq(count_files(kept), 5); /* 3, 6, 7, 8, latest */
  snprintf(path, sizeof path, "%s/step-00000006.h5", kept);
  ck_assert_int_eq(access(path, F_OK), 0);

  /* resumed from an earlier step: the one just written is the newest */
  MPI_Barrier(MPI_COMM_WORLD);
  eqs_checkpoint_contents contents = contents_of(&made, 2);
  ck_assert_ok(eqs_checkpoint_save(MPI_COMM_WORLD, &(eqs_checkpoint_directory){.path = kept, .keep = 1}, &contents));
  ck_assert_int_eq(count_files(kept), 2);
  ck_assert_ok(eqs_checkpoint_find(kept, &file));
  ck_assert_str_eq(strrchr(file, '/'), "/step-00000002.h5");
  free(file);
  free_model(&made);
  stay_as_first();
}
END_TEST

/*
 * A write that fails changes nothing: a limit on the size of files makes the first owner, or the owners that
 * write tiles, fail as a full disk would.
 */
START_TEST(failed_writes_change_nothing)
{
  const char *path = in_directory("limited.h5");
  struct rlimit whole, limited;
  model made;
  write_on(test_size(), 0, path);
  make_model(&made, MPI_COMM_WORLD, 1);
  eqs_checkpoint_contents contents = contents_of(&made, 2);
  const char *partial = in_directory("limited.h5.partial");
  signal(SIGXFSZ, SIG_IGN);
  getrlimit(RLIMIT_FSIZE, &whole);
  const rlim_t limits[] = {0, 4096, 1 << 20};
  for (int limited_rank = 0; limited_rank<test_size(); limited_rank += test_size()> 1 ? test_size() - 1 : 1)
    for (int i = 0; i < 3; i++) {
      limited = (struct rlimit){.rlim_cur = limits[i], .rlim_max = whole.rlim_max};
      if (test_rank() == limited_rank) setrlimit(RLIMIT_FSIZE, &limited);
      eqs_status status = eqs_checkpoint_write(MPI_COMM_WORLD, path, &contents);
      setrlimit(RLIMIT_FSIZE, &whole);
      ck_assert_int_eq(status, EQS_IO);
      ck_assert_ptr_nonnull(strstr(eqs_error_message(), "limited.h5.partial"));
      MPI_Barrier(MPI_COMM_WORLD);
      ck_assert_int_eq(access(partial, F_OK), -1);
    }
  ck_assert_int_eq(read_on(test_size(), 2, path), EQS_OK); /* step 100's values, as before */

  /* a directory that is a file, and one that cannot be made */
  ck_assert_int_eq(eqs_checkpoint_save(MPI_COMM_WORLD, &(eqs_checkpoint_directory){.path = path}, &contents), EQS_IO);
  ck_assert_int_eq(
      eqs_checkpoint_save(MPI_COMM_WORLD, &(eqs_checkpoint_directory){.path = "/proc/checkpoints"}, &contents), EQS_IO);
  ck_assert_int_eq(eqs_checkpoint_write(MPI_COMM_WORLD, in_directory("no/such/a.h5"), &contents), EQS_IO);

  visit(&made, 1, -1);
  ck_assert_ok(eqs_checkpoint_write(MPI_COMM_WORLD, path, &contents));
  free_model(&made);
}
END_TEST

static void make_directory(void)
{
  static char name[256];
  const char *parent = getenv("TMPDIR");
  snprintf(name, sizeof name, "%s/equishard-XXXXXX", parent ? parent : "/tmp");
  if (test_rank() == 0) ck_assert_ptr_nonnull(mkdtemp(name));
  MPI_Bcast(name, sizeof name, MPI_BYTE, 0, MPI_COMM_WORLD);
  directory = name;
}

static void remove_tree(const char *path)
{
  DIR *opened = opendir(path);
  if (opened == NULL) return;
  for (struct dirent *entry = readdir(opened); entry; entry = readdir(opened)) {
    char below[768];
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
    if (unlink(below) != 0) remove_tree(below);
  }
  closedir(opened);
  rmdir(path);
}

static void remove_directory(void)
{
  MPI_Barrier(MPI_COMM_WORLD);
  if (test_rank() == 0) remove_tree(directory);
}

Suite *make_suite(void)
{
  Suite *suite = suite_create("checkpoint");
  TCase *cases = tcase_create("checkpoint");
  tcase_add_unchecked_fixture(cases, make_directory, remove_directory);
  tcase_add_test(cases, any_ranks_to_any_ranks);
  tcase_add_test(cases, summary_has_everything);
  tcase_add_test(cases, damaged_data_is_named);
  tcase_add_test(cases, other_files_are_refused);
  tcase_add_test(cases, another_model_is_named);
  tcase_add_test(cases, absent_tensors_are_left_alone);
  tcase_add_test(cases, impossible_names_are_refused);
  tcase_add_test(cases, saves_keep_the_newest);
  tcase_add_test(cases, failed_writes_change_nothing);
  suite_add_tcase(suite, cases);
  return suite;
}
