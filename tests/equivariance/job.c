#include "equivariance/job.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "distributed/matrices.h"
#include "model/sources.h"
#include "optimizer/shards.h"
#include "optimizer/step.h"

bool test_everything(void)
{
  return getenv("EQUISHARD_TEST_ALL") != NULL;
}

void test_job_open(test_job *job, const char *configuration, int64_t parameters, const eqs_parameter_info *info)
{
  char path[] = "job.yaml";
  eqs_source source = {.path = path, .text = (char *)(uintptr_t)configuration}; /* only read */
  eqs_sources sources = {1, &source};
  ck_assert_ok(eqs_config_parse(&sources, &job->config));
  ck_assert_ok(eqs_plan_make(job->config, NULL, test_size(), parameters, info, &job->plan));
  ck_assert_ok(eqs_optimizer_create(job->config, job->plan, MPI_COMM_WORLD, &job->optimizer));
}

void test_job_close(test_job *job)
{
  eqs_optimizer_destroy(&job->optimizer);
  eqs_plan_free(&job->plan);
  eqs_config_free(&job->config);
}

const eqs_rule_options *test_job_options(const test_job *job, int64_t p)
{
  return &job->plan->parameter[p].assignment.options;
}

/* This rank's fragment of matrix i of parameter p, and the matrix; false if it has none. */
static bool fragment_of(const test_job *job, int64_t p, int64_t i, eqs_fragment *fragment, eqs_owned_matrix **matrix)
{
  const eqs_planned_parameter *planned = &job->plan->parameter[p];
  const eqs_view *view = &planned->assignment.views[i];
  *matrix = &job->optimizer->parameter[p].matrix[i];
  if ((*matrix)->grid == NULL) return false;
  *fragment = (eqs_fragment){.view = view,
                             .distribution = &planned->matrix[i].distribution,
                             .row = (*matrix)->grid->row,
                             .col = (*matrix)->grid->col,
                             .end_row = view->tensor_rows};
  return true;
}

static int64_t tensor_size(const test_job *job, int64_t p)
{
  const eqs_view *view = &job->plan->parameter[p].assignment.views[0];
  return view->tensor_rows * view->tensor_cols;
}

static void load(test_job *job, int64_t p, const double *tensor, bool weight)
{
  float *rounded;
  int64_t count = tensor_size(job, p);
  ck_assert_ok(eqs_allocate(&rounded, count, sizeof *rounded));
  for (int64_t i = 0; i < count; i++) rounded[i] = (float)tensor[i];
  ck_assert_ok(eqs_shards_take(job->optimizer, p, weight ? EQS_SHARDS_WEIGHT : EQS_SHARDS_GRADIENT, rounded));
  free(rounded);
}

void test_job_set_weight(test_job *job, int64_t p, const double *tensor)
{
  load(job, p, tensor, true);
}

void test_job_set_gradient(test_job *job, int64_t p, const double *tensor)
{
  load(job, p, tensor, false);
  job->optimizer->parameter[p].present = true;
}

void test_job_step(test_job *job)
{
  ck_assert_ok(eqs_optimizer_step(job->optimizer, 1));
  for (int64_t p = 0; p < job->plan->parameters; p++) job->optimizer->parameter[p].present = false;
}

double *test_job_weight(const test_job *job, int64_t p)
{
  int64_t count = tensor_size(job, p);
  float *tensor, *message;
  double *numbers = test_numbers(count, 1);
  ck_assert_ok(eqs_allocate(&tensor, count, sizeof *tensor));
  ck_assert_ok(eqs_allocate(&message, count, sizeof *message));
  for (int64_t i = 0; i < job->plan->parameter[p].assignment.count; i++) {
    eqs_fragment fragment;
    eqs_owned_matrix *matrix;
    if (!fragment_of(job, p, i, &fragment, &matrix)) continue;
    eqs_fragment_read_shard(&fragment, EQS_FLOAT32, eqs_floats(&matrix->weight), message);
    eqs_fragment_scatter(&fragment, sizeof *message, message, tensor);
  }
  for (int64_t i = 0; i < count; i++) numbers[i] = tensor[i]; /* zero where others have the element */
  MPI_Allreduce(MPI_IN_PLACE, numbers, (int)count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  free(tensor);
  free(message);
  return numbers;
}

eqs_parameter_info test_info(const char *name, const test_tensor *tensor)
{
  eqs_parameter_info info = {.name = name, .ndim = 2, .shape = {tensor->rows, tensor->cols}};
  if (tensor->stack == 0) return info;
  info.ndim = 3;
  info.shape[0] = tensor->stack, info.shape[1] = tensor->rows, info.shape[2] = tensor->cols;
  return info;
}

int test_forced_grids(char grids[test_max_forced][16])
{
  int size = test_size(), count = 0;
  snprintf(grids[count++], 16, "1x%d", size);
  if (size > 1) snprintf(grids[count++], 16, "%dx1", size);
  if (size > 2) snprintf(grids[count++], 16, "%dx1", size - 1);
  if (size >= 4) snprintf(grids[count++], 16, "2x%d", size / 2);
  if (size > 4) snprintf(grids[count++], 16, "%dx2", size / 2);
  return count;
}

void test_append(test_text *text, const char *format, ...)
{
  char piece[512];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(piece, sizeof piece, format, arguments);
  va_end(arguments);
  ck_assert(length >= 0 && (size_t)length < sizeof piece);
  text->text = realloc(text->text, text->length + (size_t)length + 1);
  ck_assert_ptr_nonnull(text->text);
  memcpy(text->text + text->length, piece, (size_t)length + 1);
  text->length += (size_t)length;
}

void test_text_free(test_text *text)
{
  free(text->text);
  *text = (test_text){0};
}

void test_append_layout(test_text *text, const test_tensor *tensor)
{
  test_append(text, ", layout: %s", eqs_layout_names[tensor->layout]);
  if (tensor->head_dim > 0) test_append(text, ", head_dim: %lld", (long long)tensor->head_dim);
}
