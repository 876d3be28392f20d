/*
 * Trainers and owners: what trainers pull is what one process computes alone, in every arrangement of ranks.
 * Service mode needs two ranks; on one rank only embedded mode is tested.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "folder.h"
#include "harness.h"
#include "optimizer/optimizer.h"
#include "optimizer/step.h"

enum { model_size = 10, run_steps = 3 };

/* A parameter: name, module type, dtype, placements of gradients and weights, dimensions and their sizes. */
#define TENSOR(name_, type_, dtype_, gradient_, weight_, ndim_, ...)                                                   \
  {                                                                                                                    \
    .struct_size = sizeof(eqs_parameter_info), .name = name_, .module_type = type_, .dtype = dtype_, .ndim = ndim_,    \
    .shape = {__VA_ARGS__}, .gradient_placement = gradient_, .weight_placement = weight_,                              \
  }

static const eqs_parameter_info model[model_size] = {
    TENSOR("model.embed_tokens.weight", "Embedding", EQS_FLOAT32, EQS_PARTIAL, EQS_REPLICATE, 2, 50, 8),
    TENSOR("layers.0.self_attn.q_proj.weight", "Linear", EQS_FLOAT32, EQS_PARTIAL, EQS_REPLICATE, 2, 40, 24),
    TENSOR("layers.0.mlp.experts.down_proj", "Experts", EQS_FLOAT32, EQS_PARTIAL, EQS_REPLICATE, 3, 3, 12, 16),
    TENSOR("layers.0.mlp.up_proj.weight", "Linear", EQS_FLOAT32, EQS_REPLICATE, EQS_REPLICATE, 2, 24, 16),
    TENSOR("layers.0.mlp.gate_proj.weight", "Linear", EQS_FLOAT32, EQS_SHARD, EQS_SHARD, 2, 23, 16),
    TENSOR("layers.0.norm.weight", "Norm", EQS_FLOAT32, EQS_PARTIAL, EQS_SHARD, 1, 17),
    TENSOR("layers.0.scale", "Scale", EQS_FLOAT32, EQS_PARTIAL, EQS_REPLICATE, 0, 0),
    TENSOR("half.weight", "Linear", EQS_BFLOAT16, EQS_PARTIAL, EQS_REPLICATE, 2, 9, 5),
    TENSOR("large.weight", "Linear", EQS_FLOAT32, EQS_PARTIAL, EQS_REPLICATE, 2, 700, 500), /* several messages */
    TENSOR("empty.weight", "Linear", EQS_FLOAT32, EQS_PARTIAL, EQS_REPLICATE, 2, 0, 5),
};

static const char configuration[] = "deadline: 30\n"
                                    "groups:\n"
                                    "  - {match: {role: embedding}, rule: row_norm, lr: 0.1}\n"
                                    "  - {match: {role: attention}, rule: muon, lr: 0.02, weight_decay: 0.1%s}\n"
                                    "  - {match: {name: '*experts*'}, rule: polar, lr: 0.01, layout: row}\n"
                                    "  - {match: {name: '*up_proj*'}, rule: right_spectral, lr: 0.01%s}\n"
                                    "  - {match: {name: '*gate_proj*'}, rule: muon, lr: 0.02, layout: row%s}\n"
                                    "  - {match: {}, rule: adamw, lr: 0.01}\n";

/* ----- files that all ranks know ----- */

/* Write a configuration: `head` before the groups, `grid` for the matrices' groups. */
static const char *write_config(const char *head, const char *grid)
{
  static char path[96];
  snprintf(path, sizeof path, "%s/config.yaml", folder);
  MPI_Barrier(MPI_COMM_WORLD);
  if (test_rank() == 0) {
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file, "%s\n", head);
    fprintf(file, configuration, grid, grid, grid);
    fclose(file);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  return path;
}

/* ----- the model's numbers ----- */

static int64_t element_count(const eqs_parameter_info *info)
{
  int64_t count = 1;
  for (int d = 0; d < info->ndim; d++) count *= info->shape[d];
  return count;
}

static float initial(int p, int64_t index)
{
  return (float)(0.1 * test_uniform(1000 + (uint64_t)p, (uint64_t)index));
}

/* Trainers differ where the gradient is Partial. */
static float gradient(int p, int step, int trainer, int64_t index)
{
  uint64_t part = model[p].gradient_placement == EQS_PARTIAL ? (uint64_t)trainer : 0;
  return (float)test_uniform(((uint64_t)p * 64 + (uint64_t)step) * 64 + part, (uint64_t)index);
}

/* Elements of the flat tensor that a trainer holds. */
static void held(const eqs_parameter_info *info, eqs_placement placement, int trainers, int trainer, int64_t *first,
                 int64_t *end)
{
  *first = 0, *end = element_count(info);
  if (placement != EQS_SHARD) return;
  int64_t slice = info->shape[0] > 0 ? *end / info->shape[0] : 0, chunk = (info->shape[0] + trainers - 1) / trainers;
  *first = (chunk * trainer < info->shape[0] ? chunk * trainer : info->shape[0]);
  *end = (*first + chunk < info->shape[0] ? *first + chunk : info->shape[0]) * slice;
  *first *= slice;
}

/* A trainer's tensor, in its own type. */
static void *make_tensor(int p, int step, int trainers, int trainer)
{
  const eqs_parameter_info *info = &model[p];
  int64_t first, end;
  void *tensor;
  float *values;
  held(info, step < 0 ? info->weight_placement : info->gradient_placement, trainers, trainer, &first, &end);
  ck_assert_ok(eqs_allocate(&values, end - first + 1, sizeof *values));
  ck_assert_ok(eqs_allocate(&tensor, end - first + 1, sizeof *values));
  for (int64_t i = first; i < end; i++) values[i - first] = step < 0 ? initial(p, i) : gradient(p, step, trainer, i);
  eqs_from_float(info->dtype, values, tensor, end - first);
  free(values);
  return tensor;
}

/* ----- the reference: one owner, in this process, with the sum of the trainers' gradients ----- */

static void load(eqs_optimizer *optimizer, int p, const float *tensor, bool weight)
{
  const eqs_planned_parameter *planned = &optimizer->plan->parameter[p];
  for (int64_t i = 0; i < planned->assignment.count; i++) {
    eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
    const eqs_view *view = &planned->assignment.views[i];
    eqs_fragment fragment = {
        .view = view, .distribution = &planned->matrix[i].distribution, .end_row = view->tensor_rows};
    float *message;
    ck_assert_ok(eqs_allocate(&message, eqs_fragment_count(&fragment), sizeof *message));
    eqs_fragment_gather(&fragment, sizeof *message, tensor, message);
    eqs_fragment_write_shard(&fragment, EQS_FLOAT32, message, eqs_floats(weight ? &matrix->weight : &matrix->gradient));
    free(message);
  }
}

static void store(const eqs_optimizer *optimizer, int p, float *tensor)
{
  const eqs_planned_parameter *planned = &optimizer->plan->parameter[p];
  for (int64_t i = 0; i < planned->assignment.count; i++) {
    const eqs_view *view = &planned->assignment.views[i];
    eqs_fragment fragment = {
        .view = view, .distribution = &planned->matrix[i].distribution, .end_row = view->tensor_rows};
    float *message;
    ck_assert_ok(eqs_allocate(&message, eqs_fragment_count(&fragment), sizeof *message));
    eqs_fragment_read_shard(&fragment, EQS_FLOAT32, eqs_floats(&optimizer->parameter[p].matrix[i].weight), message);
    eqs_fragment_scatter(&fragment, sizeof *message, message, tensor);
    free(message);
  }
}

static void load_sum(eqs_optimizer *optimizer, int p, int step, int trainers)
{
  int64_t count = element_count(&model[p]);
  float *sum, *part;
  ck_assert_ok(eqs_allocate(&sum, count, sizeof *sum));
  ck_assert_ok(eqs_allocate(&part, count, sizeof *part));
  bool adds = step >= 0 && model[p].gradient_placement == EQS_PARTIAL;
  for (int t = 0; t < (adds ? trainers : 1); t++) {
    void *typed;
    ck_assert_ok(eqs_allocate(&typed, count, sizeof *part));
    for (int64_t i = 0; i < count; i++) part[i] = step < 0 ? initial(p, i) : gradient(p, step, t, i);
    eqs_from_float(model[p].dtype, part, typed, count);
    eqs_to_float(model[p].dtype, typed, part, count);
    for (int64_t i = 0; i < count; i++) sum[i] += part[i];
    free(typed);
  }
  load(optimizer, p, sum, step < 0);
  free(sum);
  free(part);
}

/* Weights after `steps` steps, as one array per parameter. */
static void compute_reference(const char *config_path, int trainers, int steps, float *weights[model_size])
{
  eqs_sources sources = {0};
  eqs_config *config;
  eqs_plan *plan;
  eqs_optimizer *optimizer;
  ck_assert_ok(eqs_sources_read(config_path, &sources));
  ck_assert_ok(eqs_config_parse(&sources, &config));
  for (int g = 0; g < config->groups; g++) config->group[g].grid_rows = config->group[g].grid_cols = 0;
  ck_assert_ok(eqs_plan_make(config, NULL, 1, model_size, model, &plan));
  ck_assert_ok(eqs_optimizer_create(config, plan, MPI_COMM_SELF, &optimizer));
  for (int p = 0; p < model_size; p++) load_sum(optimizer, p, -1, trainers);
  for (int t = 0; t < steps; t++) {
    for (int p = 0; p < model_size; p++) load_sum(optimizer, p, t, trainers);
    for (int p = 0; p < model_size; p++) optimizer->parameter[p].present = true;
    ck_assert_ok(eqs_optimizer_step(optimizer, trainers));
  }
  for (int p = 0; p < model_size; p++) {
    ck_assert_ok(eqs_allocate(&weights[p], element_count(&model[p]), sizeof **weights));
    store(optimizer, p, weights[p]);
  }
  eqs_optimizer_destroy(&optimizer);
  eqs_plan_free(&plan);
  eqs_config_free(&config);
  eqs_sources_free(&sources);
}

/* ----- a training job ----- */

typedef struct {
  eqs_session *session;
  eqs_parameter *parameter[model_size];
  int trainer, trainers;
} training;

static void open_job(training *job, const char *config_path, bool resume)
{
  MPI_Comm trainers;
  void *weights[model_size];
  ck_assert_ok(eqs_session_open(MPI_COMM_WORLD, config_path, &job->session));
  ck_assert_ok(eqs_session_trainers(job->session, &trainers));
  MPI_Comm_rank(trainers, &job->trainer);
  MPI_Comm_size(trainers, &job->trainers);
  for (int p = 0; p < model_size; p++) {
    weights[p] = make_tensor(p, -1, job->trainers, job->trainer);
    ck_assert_ok(eqs_parameter_add(job->session, &model[p], weights[p], &job->parameter[p]));
  }
  if (resume) ck_assert_ok(eqs_session_resume(job->session, NULL));
  ck_assert_ok(eqs_session_start(job->session));
  for (int p = 0; p < model_size; p++) free(weights[p]);
}

static void take_step(training *job, int step)
{
  void *gradients[model_size];
  for (int p = 0; p < model_size; p++) gradients[p] = make_tensor(p, step, job->trainers, job->trainer);
  for (int p = model_size - 1; p >= 0; p--) ck_assert_ok(eqs_push(job->parameter[p], gradients[p]));
  ck_assert_ok(eqs_step(job->session));
  for (int p = 0; p < model_size; p++) free(gradients[p]);
}

/* The trainer's part of a weight, pulled, as float32. */
static float *pull(training *job, int p, int64_t *count)
{
  int64_t first, end;
  void *typed;
  float *values;
  held(&model[p], model[p].weight_placement, job->trainers, job->trainer, &first, &end);
  ck_assert_ok(eqs_allocate(&typed, end - first + 1, sizeof *values));
  ck_assert_ok(eqs_allocate(&values, end - first + 1, sizeof *values));
  ck_assert_ok(eqs_pull(job->parameter[p], typed));
  eqs_to_float(model[p].dtype, typed, values, end - first);
  free(typed);
  *count = end - first;
  return values;
}

/*
 * Distance of the pulled weights from the reference's: both round, in another order of summation over another
 * grid; the limit is that of the float64 reference trajectories, 2e-6 + 2e-5 of the largest change, and for a
 * 16-bit tensor its own spacing (2^-8 relative).
 */
static void check_weights(training *job, float *reference[model_size], bool backward)
{
  for (int k = 0; k < model_size; k++) {
    int p = backward ? model_size - 1 - k : k;
    int64_t count, first, end;
    double change = 0, error = 0, spacing = model[p].dtype == EQS_FLOAT32 ? 0 : 0x1p-8;
    held(&model[p], model[p].weight_placement, job->trainers, job->trainer, &first, &end);
    float *values = pull(job, p, &count);
    for (int64_t i = first; i < end; i++) {
      change = fmax(change, fabs((double)reference[p][i] - initial(p, i)));
      error = fmax(error, fabs((double)values[i - first] - reference[p][i]) - spacing * fabs(reference[p][i]));
    }
    ck_assert_msg(error <= 2e-6 + 2e-5 * change, "%s differs by %g where it changed by %g", model[p].name, error,
                  change);
    free(values);
  }
}

static void release(float *weights[model_size])
{
  for (int p = 0; p < model_size; p++) free(weights[p]);
}

/* Run `body` on the trainers; owners serve. Both modes, by the number of trainers. */
static void with_trainers(int trainers, void (*body)(const char *config_path, int trainers), const char *head,
                          const char *grid)
{
  char text[256];
  bool embedded = trainers == test_size();
  snprintf(text, sizeof text, "mode: %s\n%s", embedded ? "embedded" : "service", head);
  const char *path = write_config(text, grid);
  if (test_rank() < trainers)
    body(path, trainers);
  else
    ck_assert_ok(eqs_serve(MPI_COMM_WORLD));
}

/* All numbers of trainers: the last is embedded. */
static void in_all_arrangements(void (*body)(const char *config_path, int trainers), const char *head)
{
  for (int trainers = 1; trainers <= test_size(); trainers++) with_trainers(trainers, body, head, "");
}

static void train(const char *config_path, int trainers)
{
  training job;
  float *reference[model_size];
  compute_reference(config_path, trainers, run_steps, reference);
  open_job(&job, config_path, false);
  for (int t = 0; t < run_steps; t++) take_step(&job, t);
  check_weights(&job, reference, false);
  ck_assert_ok(eqs_session_close(&job.session));
  release(reference);
}

START_TEST(test_training_equals_one_process)
{
  make_folder();
  in_all_arrangements(train, "");
  remove_folder();
}
END_TEST

START_TEST(test_forced_grids)
{
  static const char *const grids[] = {"1x1", "1x2", "2x1", "1x3", "3x1", "2x2", "1x4", "4x1", "2x3", "3x2"};
  make_folder();
  for (size_t g = 0; g < sizeof grids / sizeof grids[0]; g++) {
    char grid[32];
    int ranks = (grids[g][0] - '0') * (grids[g][2] - '0');
    snprintf(grid, sizeof grid, ", grid: %s, block: 5", grids[g]);
    if (ranks <= test_size()) with_trainers(test_size(), train, "", grid);
    if (ranks < test_size()) with_trainers(test_size() - ranks, train, "", grid);
  }
  remove_folder();
}
END_TEST

/* Weights taken in another order, or not at all in a step. */
static void train_pulling_late(const char *config_path, int trainers)
{
  training job;
  float *reference[model_size];
  int64_t count;
  compute_reference(config_path, trainers, run_steps, reference);
  open_job(&job, config_path, false);
  free(pull(&job, 3, &count)); /* the initial value */
  for (int t = 0; t < run_steps; t++) take_step(&job, t);
  check_weights(&job, reference, true);
  float nothing[1];
  ck_assert_int_eq(eqs_pull(job.parameter[6], nothing), EQS_USAGE);
  ck_assert_ok(eqs_session_close(&job.session));
  release(reference);
}

START_TEST(test_pull_in_any_order)
{
  make_folder();
  in_all_arrangements(train_pulling_late, "");
  remove_folder();
}
END_TEST

/* A step moves one gradient in and one weight out per trainer; headers are one byte per piece, padded to 16. */
static void count_bytes(const char *config_path, int trainers)
{
  training job;
  eqs_traffic before = {.struct_size = sizeof before}, after = {.struct_size = sizeof after};
  float *ignored;
  int64_t count, weights = 0, gradients = 0;
  open_job(&job, config_path, false);
  for (int p = 0; p < model_size; p++) {
    int64_t first, end, size = (int64_t)eqs_dtype_size(model[p].dtype);
    held(&model[p], model[p].weight_placement, trainers, job.trainer, &first, &end);
    weights += (end - first) * size;
    held(&model[p], model[p].gradient_placement, trainers, job.trainer, &first, &end);
    if (model[p].gradient_placement != EQS_REPLICATE) gradients += (end - first) * size;
    ignored = pull(&job, p, &count);
    free(ignored);
  }
  ck_assert_ok(eqs_session_traffic(job.session, &before));
  ck_assert_int_eq(before.weight_received, weights);
  for (int t = 0; t < 2; t++) {
    take_step(&job, t);
    for (int p = 0; p < model_size; p++) free(pull(&job, p, &count));
  }
  ck_assert_ok(eqs_session_traffic(job.session, &after));
  ck_assert_int_eq(after.weight_received, 3 * weights);

  /* What all trainers have alike is sent once, by one of them for each owner. */
  int64_t replicated = 0, headers = (16 + 8 * (1 + 6)) * (after.messages_sent + 2 * 32);
  for (int p = 0; p < model_size; p++)
    if (model[p].gradient_placement == EQS_REPLICATE) replicated += element_count(&model[p]) * 4;
  ck_assert_int_ge(after.gradient_sent, 2 * gradients);
  ck_assert_int_le(after.gradient_sent, 2 * (gradients + replicated) + headers);
  ck_assert_ok(eqs_session_close(&job.session));
}

START_TEST(test_bytes_of_a_step)
{
  make_folder();
  in_all_arrangements(count_bytes, "");
  remove_folder();
}
END_TEST

/* The same ranks give the same bits. */
static float *last_bits;

static void keep_bits(const char *config_path, int trainers)
{
  (void)trainers;
  training job;
  int64_t count, total = 0;
  float *bits;
  ck_assert_ok(eqs_allocate(&bits, 400000, sizeof *bits));
  open_job(&job, config_path, false);
  for (int t = 0; t < run_steps; t++) take_step(&job, t);
  for (int p = 0; p < model_size; p++) {
    float *values = pull(&job, p, &count);
    memcpy(bits + total, values, (size_t)count * sizeof *bits);
    total += count;
    free(values);
  }
  ck_assert_ok(eqs_session_close(&job.session));
  if (last_bits != NULL) ck_assert_mem_eq(bits, last_bits, (size_t)total * sizeof *bits);
  free(last_bits);
  last_bits = bits;
}

START_TEST(test_same_bits)
{
  make_folder();
  for (int trainers = (test_size() + 1) / 2; trainers <= test_size(); trainers += test_size() / 2 + 1) {
    for (int k = 0; k < 3; k++) with_trainers(trainers, keep_bits, "", test_size() >= 4 ? ", grid: 2x1" : "");
    free(last_bits);
    last_bits = NULL;
  }
  remove_folder();
}
END_TEST

/* A parameter that nobody pushes keeps weight and state; one that some push counts as zero for the others. */
static void push_some(const char *config_path, int trainers)
{
  training job;
  int64_t count;
  open_job(&job, config_path, false);
  float values[50 * 8];
  for (int i = 0; i < 50 * 8; i++) values[i] = 1;
  if (job.trainer == 0) ck_assert_ok(eqs_push(job.parameter[0], values));
  ck_assert_ok(eqs_step(job.session));
  eqs_step_info info = {.struct_size = sizeof info};
  ck_assert_ok(eqs_session_step_info(job.session, &info));
  /* the norm of 400 ones over the number of trainers */
  ck_assert_double_eq_tol(info.gradient_norm, 20.0 / trainers, 1e-6);
  float *weight = pull(&job, 0, &count);
  /* momentum 0.05 of the gradient; each row is normed: 8 equal elements of 1/√8, lr 0.1 */
  for (int64_t i = 0; i < count; i++) ck_assert_at_most(fabs((double)weight[i] - initial(0, i) + 0.1 / sqrt(8)), 2e-6);
  free(weight);
  weight = pull(&job, 1, &count);
  for (int64_t i = 0; i < count; i++) ck_assert_float_eq(weight[i], initial(1, i));
  free(weight);
  ck_assert_ok(eqs_session_close(&job.session));
}

START_TEST(test_absent_gradients)
{
  make_folder();
  in_all_arrangements(push_some, "");
  remove_folder();
}
END_TEST

/* A loss multiplied by 1024 takes the same step, but for the rounding that scaling by a power of two has not. */
static void scale_gradients(const char *config_path, int trainers)
{
  (void)trainers;
  training job;
  int64_t count;
  float values[50 * 8];
  open_job(&job, config_path, false);
  ck_assert_int_eq(eqs_session_set_gradient_scale(job.session, 0), EQS_USAGE);
  ck_assert_ok(eqs_session_set_gradient_scale(job.session, 1024));
  for (int i = 0; i < 50 * 8; i++) values[i] = 1024;
  ck_assert_ok(eqs_push(job.parameter[0], values));
  ck_assert_ok(eqs_step(job.session));
  eqs_step_info info = {.struct_size = sizeof info};
  ck_assert_ok(eqs_session_step_info(job.session, &info));
  ck_assert_double_eq_tol(info.gradient_norm, 20, 1e-6);
  float *weight = pull(&job, 0, &count);
  for (int64_t i = 0; i < count; i++) ck_assert_at_most(fabs((double)weight[i] - initial(0, i) + 0.1 / sqrt(8)), 2e-6);
  free(weight);
  ck_assert_ok(eqs_session_close(&job.session));
}

START_TEST(test_gradient_scale)
{
  make_folder();
  in_all_arrangements(scale_gradients, "");
  remove_folder();
}
END_TEST

/* Two lines a parameter for four steps measured every second; what they say of the first parameter is known. */
static void write_diagnostics(const char *config_path, int trainers)
{
  (void)trainers;
  training job;
  open_job(&job, config_path, false);
  for (int t = 0; t < 4; t++) take_step(&job, t);
  ck_assert_ok(eqs_session_close(&job.session));
}

START_TEST(test_diagnostics)
{
  char head[160], path[96], line[1024];
  make_folder();
  snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
  snprintf(head, sizeof head, "metrics: {path: %s, every: 2}", path);
  with_trainers(test_size() > 3 ? test_size() - 2 : 1, write_diagnostics, head, test_size() > 2 ? ", grid: 1x2" : "");
  MPI_Barrier(MPI_COMM_WORLD);
  FILE *file = test_rank() == 0 ? fopen(path, "r") : NULL;
  int lines = 0, per_step = model_size - 1; /* none of the empty one, which is last */
  for (; file != NULL && fgets(line, sizeof line, file) != NULL; lines++) {
    json_t *object = json_loads(line, 0, NULL);
    ck_assert_ptr_nonnull(object);
    const char *name = json_string_value(json_object_get(object, "parameter"));
    double rms = json_number_value(json_object_get(object, "update_rms"));
    ck_assert_str_eq(name, model[lines % per_step].name);
    ck_assert_int_eq(json_integer_value(json_object_get(object, "step")), 2 + 2 * (lines / per_step));
    if (lines % per_step == 0) { /* rows of 8 elements and norm 1 */
      ck_assert_double_eq_tol(rms, 1 / sqrt(8), 1e-6);
      ck_assert_at_most(json_number_value(json_object_get(object, "row_norm_spread")), 1e-3);
    }
    if (lines % per_step == 1) { /* muon: singular values of five steps of polar_express_5 lie near 1 */
      ck_assert_at_most(json_number_value(json_object_get(object, "orthogonality")), 0.3);
      ck_assert_double_eq_tol(rms, sqrt(40.0 / 24) / sqrt(40), 0.1 * sqrt(40.0 / 24) / sqrt(40));
    }
    json_decref(object);
  }
  if (file != NULL) {
    ck_assert_int_eq(lines, 2 * per_step);
    fclose(file);
  }
  remove_folder();
}
END_TEST

static void push_nan(training *job, float *values, bool poisoned)
{
  for (int i = 0; i < 50 * 8; i++) values[i] = 1;
  if (poisoned && job->trainer == job->trainers - 1) values[7] = NAN;
  ck_assert_ok(eqs_push(job->parameter[0], values));
}

static void skip_nonfinite(const char *config_path, int trainers)
{
  (void)trainers;
  training job;
  eqs_step_info info = {.struct_size = sizeof info};
  int64_t count;
  float values[50 * 8];
  open_job(&job, config_path, false);
  push_nan(&job, values, true);
  ck_assert_ok(eqs_step(job.session));
  ck_assert_ok(eqs_session_step_info(job.session, &info));
  ck_assert_int_eq(info.step, 0);
  ck_assert_int_eq(info.skipped, 1);
  ck_assert_int_eq(eqs_pull(job.parameter[0], values), EQS_USAGE); /* nothing new */
  push_nan(&job, values, false);
  ck_assert_ok(eqs_step(job.session));
  float *weight = pull(&job, 0, &count); /* as if the skipped step had not been */
  for (int64_t i = 0; i < count; i++) ck_assert_at_most(fabs((double)weight[i] - initial(0, i) + 0.1 / sqrt(8)), 2e-6);
  free(weight);
  ck_assert_ok(eqs_session_close(&job.session));
}

static void fail_nonfinite(const char *config_path, int trainers)
{
  (void)trainers;
  training job;
  float values[50 * 8];
  open_job(&job, config_path, false);
  push_nan(&job, values, true);
  ck_assert_int_eq(eqs_step(job.session), EQS_FAILED);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "model.embed_tokens.weight"));
  eqs_session_close(&job.session);
}

/* As with_trainers, where the session is to fail with a status on all ranks. */
static void expect_failure(int trainers, void (*body)(const char *, int), const char *head, eqs_status expected)
{
  char text[256];
  snprintf(text, sizeof text, "mode: %s\n%s", trainers == test_size() ? "embedded" : "service", head);
  const char *path = write_config(text, "");
  if (test_rank() < trainers)
    body(path, trainers);
  else
    ck_assert_int_eq(eqs_serve(MPI_COMM_WORLD), expected);
}

START_TEST(test_nonfinite)
{
  make_folder();
  in_all_arrangements(skip_nonfinite, "on_nonfinite: skip");
  for (int trainers = 1; trainers <= test_size(); trainers++) expect_failure(trainers, fail_nonfinite, "", EQS_FAILED);
  remove_folder();
}
END_TEST

/* A tie, declared or by the same memory, is one parameter: its second name changes nothing. */
static void tie(const char *config_path, int trainers)
{
  (void)trainers;
  eqs_session *session;
  eqs_parameter *embedding, *head;
  eqs_parameter_info info = model[0];
  float weight[50 * 8] = {0};
  ck_assert_ok(eqs_session_open(MPI_COMM_WORLD, config_path, &session));
  ck_assert_ok(eqs_parameter_add(session, &info, weight, &embedding));
  info.name = "lm_head.weight";
  ck_assert_ok(eqs_parameter_add(session, &info, weight, &head));
  ck_assert_ptr_eq(head, embedding);
  info.name = "another.weight";
  info.tied_to = model[0].name;
  ck_assert_ok(eqs_parameter_add(session, &info, NULL, &head));
  ck_assert_ptr_eq(head, embedding);
  info.shape[0]--;
  ck_assert_int_eq(eqs_parameter_add(session, &info, NULL, &head), EQS_USAGE);
  info.tied_to = "nothing";
  ck_assert_int_eq(eqs_parameter_add(session, &info, NULL, &head), EQS_USAGE);
  ck_assert_ok(eqs_session_start(session));
  eqs_group_info group = {.struct_size = sizeof group};
  ck_assert_ok(eqs_group_describe(session, 0, &group));
  ck_assert_int_eq(group.parameters, 1);
  ck_assert_ok(eqs_session_close(&session));
}

START_TEST(test_ties)
{
  make_folder();
  in_all_arrangements(tie, "");
  remove_folder();
}
END_TEST

static void disagree(const char *config_path, int trainers)
{
  eqs_session *session;
  eqs_parameter *parameter;
  eqs_parameter_info info = model[1];
  float weight[41 * 24] = {0};
  ck_assert_ok(eqs_session_open(MPI_COMM_WORLD, config_path, &session));
  if (test_rank() == trainers - 1) info.shape[0]++;
  ck_assert_ok(eqs_parameter_add(session, &info, weight, &parameter));
  ck_assert_int_eq(eqs_session_start(session), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "disagree on parameter 'layers.0.self_attn.q_proj.weight'"));
  eqs_session_close(&session);
}

START_TEST(test_trainers_disagree)
{
  make_folder();
  for (int trainers = 2; trainers <= test_size(); trainers++) expect_failure(trainers, disagree, "", EQS_USAGE);
  remove_folder();
}
END_TEST

START_TEST(test_wrong_mode)
{
  eqs_session *session;
  make_folder();
  const char *path = write_config("mode: service", "");
  ck_assert_int_eq(eqs_session_open(MPI_COMM_WORLD, path, &session), EQS_USAGE); /* no owner */
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "no owner"));
  if (test_size() > 1) {
    path = write_config("mode: embedded", "");
    if (test_rank() > 0)
      ck_assert_int_eq(eqs_session_open(MPI_COMM_WORLD, path, &session), EQS_USAGE);
    else
      ck_assert_int_eq(eqs_serve(MPI_COMM_WORLD), EQS_USAGE);
  }
  ck_assert_int_eq(eqs_serve(MPI_COMM_WORLD), EQS_USAGE); /* no trainer */
  remove_folder();
}
END_TEST

/* Steps 0 and 1, a checkpoint, and in another session steps 2 and 3: the same bits as without interruption. */
static void interrupt_and_resume(const char *config_path, int trainers)
{
  (void)trainers;
  enum { steps = 4 };
  training straight, resumed;
  int64_t count;
  const void *bytes;
  size_t size;
  const eqs_trainer_item items[] = {{sizeof *items, "position", "sample 128", 10, 0},
                                    {sizeof *items, "empty", "", 0, 0}};
  float *expected[model_size];

  open_job(&straight, config_path, false);
  for (int t = 0; t < steps; t++) {
    take_step(&straight, t);
    ck_assert_int_eq(eqs_checkpoint_due(straight.session), t == 1 || t == 3);
    if (t == 1) ck_assert_ok(eqs_checkpoint(straight.session, items, 2));
  }
  for (int p = 0; p < model_size; p++) expected[p] = pull(&straight, p, &count);
  ck_assert_ok(eqs_session_close(&straight.session));

  open_job(&resumed, config_path, true);
  ck_assert_ok(eqs_trainer_data(resumed.session, "position", &bytes, &size));
  ck_assert_int_eq(size, 10);
  ck_assert_mem_eq(bytes, "sample 128", 10);
  ck_assert_ok(eqs_trainer_data(resumed.session, "nothing", &bytes, &size));
  ck_assert_ptr_null(bytes);
  for (int t = 2; t < steps; t++) take_step(&resumed, t);
  for (int p = 0; p < model_size; p++) {
    float *values = pull(&resumed, p, &count);
    ck_assert_mem_eq(values, expected[p], (size_t)count * sizeof *values);
    free(values);
    free(expected[p]);
  }
  ck_assert_ok(eqs_session_close(&resumed.session));
}

START_TEST(test_resume)
{
  make_folder();
  char head[160];
  for (int trainers = 1; trainers <= test_size(); trainers++) {
    snprintf(head, sizeof head, "checkpoint: {directory: %s/run-%d, every: 2}", folder, trainers);
    with_trainers(trainers, interrupt_and_resume, head, "");
    if (test_rank() >= trainers) ck_assert_ok(eqs_serve(MPI_COMM_WORLD)); /* the second session */
  }
  remove_folder();
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("service");
  TCase *tests = tcase_create("service");
  tcase_set_timeout(tests, 0);
  tcase_add_test(tests, test_training_equals_one_process);
  tcase_add_test(tests, test_forced_grids);
  tcase_add_test(tests, test_pull_in_any_order);
  tcase_add_test(tests, test_bytes_of_a_step);
  tcase_add_test(tests, test_same_bits);
  tcase_add_test(tests, test_absent_gradients);
  tcase_add_test(tests, test_gradient_scale);
  tcase_add_test(tests, test_diagnostics);
  tcase_add_test(tests, test_nonfinite);
  tcase_add_test(tests, test_ties);
  tcase_add_test_from(tests, 2, test_trainers_disagree);
  tcase_add_test(tests, test_wrong_mode);
  tcase_add_test(tests, test_resume);
  suite_add_tcase(suite, tests);
  return suite;
}
