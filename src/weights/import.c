#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "checkpoint/write.h"
#include "dist/communicator.h"
#include "model/layout.h"
#include "model/parameter_name.h"
#include "model/wrappers.h"
#include "weights/import.h"
#include "weights/safetensors.h"

/* A safetensors file that is open. */
typedef struct {
  const char *path;
  int file;
  eqs_safetensors content;
} source_file;

/* One tensor of a source on its way to be a parameter, all of it on one rank. */
typedef struct {
  const source_file *source;
  const eqs_safetensor *tensor;
  char *name;     /* the parameter's: the tensor's without the segments of wrappers */
  eqs_view *view; /* NULL if there are no elements */
  eqs_tensor_matrix matrix;
} source_tensor;

typedef struct {
  int sources;
  source_file *source;
  int64_t tensors;
  source_tensor *tensor; /* in alphabetical order of name */
  eqs_checkpoint_parameter *parameter;
} import_job;

static void forget(import_job *job)
{
  for (int64_t i = 0; i < job->tensors; i++) {
    free(job->tensor[i].matrix.shard);
    free(job->tensor[i].view);
    free(job->tensor[i].name);
  }
  for (int s = 0; s < job->sources; s++) {
    eqs_safetensors_free(&job->source[s].content);
    eqs_file_close(job->source[s].file);
  }
  free(job->parameter);
  free(job->tensor);
  free(job->source);
}

static eqs_status open_source(const char *path, source_file *source)
{
  eqs_status status = EQS_OK;
  int64_t size;
  *source = (source_file){.path = path, .file = -1};
  EQS_TRY(eqs_file_open_input(path, &source->file, &size));
  EQS_TRY(eqs_safetensors_read(source->file, path, size, &source->content));
cleanup:
  return status;
}

static eqs_status open_sources(int files, char *const *file, const char *output, import_job *job)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_allocate(&job->source, files, sizeof *job->source));
  for (int s = 0; s < files; s++) {
    if (eqs_file_same(file[s], output)) return eqs_fail(EQS_USAGE, "%s: the output would replace the input", output);
    EQS_TRY(open_source(file[s], &job->source[job->sources++]));
  }
cleanup:
  return status;
}

/* Names of what is left out: as many as fit in a line, and how many. */
typedef struct {
  int64_t count;
  char text[2048];
} skipped_names;

static void skip(skipped_names *skipped, const eqs_safetensor *tensor)
{
  size_t length = strlen(skipped->text), room = sizeof skipped->text - length;
  skipped->count++;
  if (strlen(tensor->name) + 32 < room)
    snprintf(skipped->text + length, room, "%s%s (%s)", length > 0 ? ", " : "", tensor->name, tensor->dtype);
  else if (room > 6 && strcmp(skipped->text + length - 3, "...") != 0)
    snprintf(skipped->text + length, room, ", ...");
}

static int by_name(const void *a, const void *b)
{
  const source_tensor *left = a, *right = b;
  return strcmp(left->name, right->name);
}

static eqs_status check_name(const char *path, const char *name)
{
  if (eqs_check_parameter_name(name) == EQS_OK) return EQS_OK;
  return eqs_fail(EQS_USAGE, "%s: %s; change it in the file, or leave it out with --exclude", path,
                  eqs_error_message());
}

static eqs_status add_tensor(import_job *job, const source_file *source, const eqs_safetensor *tensor,
                             const eqs_name_choice *choice, skipped_names *skipped)
{
  eqs_status status = EQS_OK;
  char *name = NULL;
  EQS_TRY(eqs_copy_canonical_name(&name, tensor->name));
  if (!eqs_name_chosen(choice, name)) goto cleanup;
  if (eqs_safetensors_floats(tensor)) {
    EQS_TRY(check_name(source->path, name));
    job->tensor[job->tensors++] = (source_tensor){.source = source, .tensor = tensor, .name = name};
    name = NULL;
  } else {
    skip(skipped, tensor);
  }
cleanup:
  free(name);
  return status;
}

/* The chosen tensors of all files; `skipped` are those of other dtypes. */
static eqs_status choose_tensors(import_job *job, const eqs_name_choice *choice, skipped_names *skipped)
{
  eqs_status status = EQS_OK;
  int64_t all = 0;
  for (int s = 0; s < job->sources; s++) all += job->source[s].content.tensors;
  EQS_TRY(eqs_allocate(&job->tensor, all, sizeof *job->tensor));
  for (int s = 0; s < job->sources; s++)
    for (int64_t i = 0; i < job->source[s].content.tensors; i++)
      EQS_TRY(add_tensor(job, &job->source[s], &job->source[s].content.tensor[i], choice, skipped));
  if (job->tensors == 0) return eqs_fail(EQS_USAGE, "%s: no tensor to import is chosen", job->source[0].path);
  qsort(job->tensor, (size_t)job->tensors, sizeof *job->tensor, by_name);
  for (int64_t i = 1; i < job->tensors; i++) {
    const source_tensor *a = &job->tensor[i - 1], *b = &job->tensor[i];
    if (by_name(a, b) == 0)
      return strcmp(a->tensor->name, b->tensor->name) != 0
                 ? eqs_fail_same_name(a->tensor->name, b->tensor->name)
                 : eqs_fail(EQS_USAGE, "tensor %s is in two files: %s and %s", a->tensor->name, a->source->path,
                            b->source->path);
  }
cleanup:
  return status;
}

/* The rank that has the least so far. */
static int idlest(int ranks, const int64_t *elements)
{
  int idle = 0;
  for (int r = 1; r < ranks; r++)
    if (elements[r] < elements[idle]) idle = r;
  return idle;
}

/* Every tensor is one matrix on one rank; all ranks come to the same. */
static eqs_status deal_tensors(int ranks, import_job *job)
{
  eqs_status status = EQS_OK;
  int64_t *elements = NULL;
  EQS_TRY(eqs_allocate(&elements, ranks, sizeof *elements));
  for (int64_t i = 0; i < job->tensors; i++) {
    source_tensor *next = &job->tensor[i];
    int64_t count;
    EQS_TRY(eqs_layout_whole(next->tensor->ndim, next->tensor->shape, &count, &next->view));
    if (next->view == NULL) continue;
    int64_t rows = next->view->rows, cols = next->view->cols;
    next->matrix = (eqs_tensor_matrix){
        .view = next->view,
        .distribution =
            {.rows = rows, .cols = cols, .row_block = rows, .col_block = cols, .grid_rows = 1, .grid_cols = 1},
        .first_owner = idlest(ranks, elements)};
    elements[next->matrix.first_owner] += next->tensor->elements;
  }
cleanup:
  free(elements);
  return status;
}

static eqs_status load_tensors(int rank, import_job *job, int64_t *saturated)
{
  eqs_status status = EQS_OK;
  for (int64_t i = 0; i < job->tensors; i++) {
    source_tensor *next = &job->tensor[i];
    if (next->view == NULL || next->matrix.first_owner != rank) continue;
    EQS_TRY(eqs_allocate_raw(&next->matrix.shard, next->tensor->elements, sizeof *next->matrix.shard));
    EQS_TRY(eqs_safetensors_load(next->source->file, next->source->path, next->tensor, saturated, next->matrix.shard));
  }
cleanup:
  return status;
}

static eqs_status describe(import_job *job)
{
  static const eqs_attribute no_steps = {.name = "step", .kind = EQS_ATTRIBUTE_INTEGER, .integer = 0};
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_allocate(&job->parameter, job->tensors, sizeof *job->parameter));
  for (int64_t i = 0; i < job->tensors; i++) {
    const source_tensor *from = &job->tensor[i];
    eqs_checkpoint_parameter *parameter = &job->parameter[i];
    *parameter = (eqs_checkpoint_parameter){.name = from->name,
                                            .trainer_dtype = eqs_safetensors_trainer_dtype(from->tensor),
                                            .ndim = from->tensor->ndim,
                                            .attributes = 1,
                                            .attribute = &no_steps,
                                            .tensors = 1};
    memcpy(parameter->shape, from->tensor->shape, sizeof parameter->shape);
    parameter->tensor[0] =
        (eqs_checkpoint_tensor){.name = "weight", .matrices = from->view != NULL, .matrix = &from->matrix};
  }
cleanup:
  return status;
}

static eqs_status prepare(MPI_Comm comm, int files, char *const *file, const char *output,
                          const eqs_name_choice *choice, import_job *job, skipped_names *skipped)
{
  eqs_status status = EQS_OK;
  int ranks;
  MPI_Comm_size(comm, &ranks);
  EQS_TRY(open_sources(files, file, output, job));
  EQS_TRY(choose_tensors(job, choice, skipped));
  EQS_TRY(deal_tensors(ranks, job));
  EQS_TRY(describe(job));
cleanup:
  return status;
}

eqs_status eqs_weights_import(MPI_Comm comm, int files, char *const *file, const char *output,
                              const eqs_name_choice *choice, bool saturate, eqs_weights_moved *moved)
{
  eqs_status status = EQS_OK;
  import_job job = {0};
  skipped_names skipped = {0};
  int64_t saturated = 0;
  int rank;
  MPI_Comm_rank(comm, &rank);
  EQS_TRY(eqs_agree(comm, prepare(comm, files, file, output, choice, &job, &skipped)));
  if (skipped.count > 0 && rank == 0)
    eqs_log(EQS_LOG_WARNING, "%lld tensors of other dtypes are left out: %s", (long long)skipped.count, skipped.text);
  EQS_TRY(eqs_agree(comm, load_tensors(rank, &job, saturate ? &saturated : NULL)));
  double sum = (double)saturated;
  EQS_TRY(eqs_sum(comm, &sum, 1, "the other ranks' counts of saturated elements"));
  eqs_checkpoint_contents contents = {.parameters = job.tensors, .parameter = job.parameter};
  EQS_TRY(eqs_checkpoint_write(comm, output, &contents));
  *moved = (eqs_weights_moved){.tensors = job.tensors, .saturated = (int64_t)sum};
  for (int64_t i = 0; i < job.tensors; i++) {
    moved->elements += job.tensor[i].tensor->elements;
    moved->bytes += job.tensor[i].tensor->bytes;
  }
cleanup:
  forget(&job);
  return status;
}
