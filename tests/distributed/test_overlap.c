/*
 * Overlap of communication, the owners' work and training: nothing of it changes a bit, nobody waits in a circle, and
 * what goes on at the same time does so. Observed by counters and conditions, never by times: an owner that does not do
 * what is waited for runs into the deadline.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "folder.h"
#include "harness.h"
#include "optimizer/optimizer.h"
#include "optimizer/step.h"
#include "service/dispatch.h"
#include "service/join.h"
#include "service/progress.h"

enum { model_size = 8, run_steps = 3 };

/* A parameter: name, module type, dtype, placements of gradients and weights, dimensions and their sizes. */
#define TENSOR(name_, type_, dtype_, gradient_, weight_, ndim_, ...)                                                   \
  {                                                                                                                    \
    .struct_size = sizeof(eqs_parameter_info), .name = name_, .module_type = type_, .dtype = dtype_, .ndim = ndim_,    \
    .shape = {__VA_ARGS__}, .gradient_placement = gradient_, .weight_placement = weight_,                              \
  }

/* Several messages per owner, of which the first parameter's is one by itself; matrices of one owner and of several, ν
 * of a stack, a gradient that is not Partial. */
static const eqs_parameter_info model[model_size] = {
    TENSOR("model.embed_tokens.weight", "Embedding", EQS_FLOAT32, EQS_PARTIAL, EQS_REPLICATE, 2, 512, 512),
    TENSOR("layers.0.self_attn.q_proj.weight", "Linear", EQS_FLOAT32, EQS_PARTIAL, EQS_REPLICATE, 2, 128, 96),
    TENSOR("layers.0.mlp.experts.down_proj", "Experts", EQS_FLOAT32, EQS_PARTIAL, EQS_REPLICATE, 3, 4, 48, 64),
    TENSOR("layers.0.mlp.gate_proj.weight", "Linear", EQS_FLOAT32, EQS_REPLICATE, EQS_REPLICATE, 2, 64, 80),
    TENSOR("layers.1.self_attn.q_proj.weight", "Linear", EQS_FLOAT32, EQS_PARTIAL, EQS_REPLICATE, 2, 96, 128),
    TENSOR("layers.1.mlp.up_proj.weight", "Linear", EQS_FLOAT32, EQS_PARTIAL, EQS_REPLICATE, 2, 300, 700),
    TENSOR("norm.weight", "Norm", EQS_FLOAT32, EQS_PARTIAL, EQS_REPLICATE, 1, 257),
    TENSOR("lm_head.weight", "Linear", EQS_FLOAT32, EQS_PARTIAL, EQS_REPLICATE, 2, 512, 512),
};

static const char configuration[] = "mode: %s\n"
                                    "deadline: 30\n"
                                    "%s\n"
                                    "groups:\n"
                                    "  - {match: {role: attention}, rule: muon, lr: 0.02, weight_decay: 0.1%s}\n"
                                    "  - {match: {name: '*experts*'}, rule: polar, lr: 0.01, layout: row}\n"
                                    "  - {match: {name: '*gate_proj*'}, rule: muon, lr: 0.02%s}\n"
                                    "  - {match: {}, rule: adamw, lr: 0.01}\n";

static char config_path[96];

/* The folder, and where the configuration will be. */
static void make_config_folder(void)
{
  make_folder();
  snprintf(config_path, sizeof config_path, "%s/config.yaml", folder);
}

static void write_config(int trainers, const char *head, const char *grid)
{
  MPI_Barrier(MPI_COMM_WORLD);
  if (test_rank() == 0) {
    FILE *file = fopen(config_path, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file, configuration, trainers == test_size() ? "embedded" : "service", head, grid, grid);
    fclose(file);
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

/* ----- the model's numbers ----- */

static int64_t element_count(int p)
{
  int64_t count = 1;
  for (int d = 0; d < model[p].ndim; d++) count *= model[p].shape[d];
  return count;
}

static int64_t model_count(void)
{
  int64_t count = 0;
  for (int p = 0; p < model_size; p++) count += element_count(p);
  return count;
}

/* step < 0: the initial value. Trainers differ where the gradient is Partial. */
static float *make_tensor(int p, int step, int trainer)
{
  float *tensor;
  uint64_t part = step >= 0 && model[p].gradient_placement == EQS_PARTIAL ? (uint64_t)trainer : 0;
  uint64_t seed = ((uint64_t)(p + 1) * 64 + (uint64_t)(step + 1)) * 64 + part;
  ck_assert_ok(eqs_allocate(&tensor, element_count(p), sizeof *tensor));
  for (int64_t i = 0; i < element_count(p); i++) tensor[i] = (float)(0.1 * test_uniform(seed, (uint64_t)i));
  return tensor;
}

/* Other settings in every step: of the last group, and for all. */
static double learning_rate(int step)
{
  return 0.01 / (1 + step);
}

static double gradient_scale(int step)
{
  return 1 + step;
}

/* ----- a training job ----- */

typedef struct {
  eqs_session *session;
  eqs_parameter *parameter[model_size];
  MPI_Comm comm;
  int trainer, trainers;
} training;

static void open_job(training *job)
{
  float *weights[model_size];
  ck_assert_ok(eqs_session_open(MPI_COMM_WORLD, config_path, &job->session));
  ck_assert_ok(eqs_session_trainers(job->session, &job->comm));
  MPI_Comm_rank(job->comm, &job->trainer);
  MPI_Comm_size(job->comm, &job->trainers);
  for (int p = 0; p < model_size; p++) {
    weights[p] = make_tensor(p, -1, 0);
    ck_assert_ok(eqs_parameter_add(job->session, &model[p], weights[p], &job->parameter[p]));
  }
  ck_assert_ok(eqs_session_start(job->session));
  for (int p = 0; p < model_size; p++) ck_assert_ok(eqs_pull(job->parameter[p], weights[p]));
  for (int p = 0; p < model_size; p++) free(weights[p]);
}

static void make_gradients(const training *job, int step, float *gradients[model_size])
{
  for (int p = 0; p < model_size; p++) gradients[p] = make_tensor(p, step, job->trainer);
}

static void release(float *tensors[model_size])
{
  for (int p = 0; p < model_size; p++) free(tensors[p]);
}

static void pull_all(training *job)
{
  for (int p = 0; p < model_size; p++) {
    float *weight;
    ck_assert_ok(eqs_allocate(&weight, element_count(p), sizeof *weight));
    ck_assert_ok(eqs_pull(job->parameter[p], weight));
    free(weight);
  }
}

/* All weights, one after the other. */
static float *pull_model(training *job)
{
  float *weights;
  int64_t offset = 0;
  ck_assert_ok(eqs_allocate(&weights, model_count(), sizeof *weights));
  for (int p = 0; p < model_size; offset += element_count(p++))
    ck_assert_ok(eqs_pull(job->parameter[p], weights + offset));
  return weights;
}

/* How the trainers push. */
typedef enum {
  IN_STEP, /* as late as possible, without a chance for the owners to look at anything before eqs_step */
  WATCHED, /* backward; eqs_step is called after the owners have updated all that they can by then */
  ODD,     /* every trainer in an order of its own, slowly */
  ORDERS
} push_order;

enum { tag_early = 41 };

/* Wait until every owner has done all that it can without eqs_step (serve_watching). */
static void hear_of_early_updates(const training *job)
{
  int updates, total = 0;
  for (int r = job->trainers; job->trainer == 0 && r < test_size(); r++, total += updates)
    MPI_Recv(&updates, 1, MPI_INT, r, tag_early, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  if (job->trainer == 0) ck_assert_int_ge(total, 6); /* all but the stack's factors and the one that is not Partial */
  MPI_Barrier(job->comm);
}

static void push_all(training *job, float *gradients[model_size], push_order order, int step)
{
  for (int k = 0; k < model_size; k++) {
    /* 3 and 8 have no common divisor: a permutation */
    int p = order == ODD ? (3 * k + job->trainer + step) % model_size : model_size - 1 - k;
    if (order == ODD) nanosleep(&(struct timespec){.tv_nsec = 1000000 * (1 + (k + job->trainer) % 3)}, NULL);
    ck_assert_ok(eqs_push(job->parameter[p], gradients[p]));
  }
}

static void take_step(training *job, push_order order, int step)
{
  float *gradients[model_size];
  make_gradients(job, step, gradients);
  ck_assert_ok(eqs_group_set_lr(job->session, 3, learning_rate(step)));
  ck_assert_ok(eqs_session_set_gradient_scale(job->session, gradient_scale(step)));
  push_all(job, gradients, order, step);
  if (order == WATCHED) hear_of_early_updates(job);
  ck_assert_ok(eqs_step(job->session));
  release(gradients);
}

/* ----- an owner whose insides are looked at ----- */

/* Matrices that this owner may update before all gradients are in. */
static int early_matrices(const eqs_session *session)
{
  int count = 0;
  for (int64_t p = 0; p < session->plan->parameters; p++)
    for (int64_t i = 0; session->step.parameter[p].early && i < session->plan->parameter[p].assignment.count; i++)
      count += session->optimizer->parameter[p].matrix[i].grid != NULL;
  return count;
}

static bool has_updated(eqs_session *session, void *target)
{
  return session->step.updates_before_step >= *(int64_t *)target;
}

/* eqs_serve, but that in every step it waits for early updates, and tells the first trainer, before it listens. */
static void serve_watching(void)
{
  eqs_session *session;
  eqs_wire payload = {0};
  eqs_command command = EQS_COMMAND_CLOSE;
  ck_assert_ok(eqs_session_join(MPI_COMM_WORLD, NULL, false, false, &session));
  int64_t target = 0;
  for (int heard = 0; heard == 0 || command != EQS_COMMAND_CLOSE; heard++) {
    if (heard >= 1 && heard <= run_steps) {
      int updates = early_matrices(session);
      target += updates;
      ck_assert_ok(eqs_session_wait_until(session, has_updated, &target, "early updates"));
      MPI_Send(&updates, 1, MPI_INT, 0, tag_early, MPI_COMM_WORLD);
    }
    ck_assert_ok(eqs_session_listen(session, &command, &payload));
    ck_assert_ok(eqs_session_run(session, command, &payload));
  }
  ck_assert_int_eq(session->step.updates_before_step, target);
  eqs_wire_free(&payload);
  eqs_session_leave(&session, EQS_OK);
}

/* ----- the same steps by eqs_optimizer_step ----- */

static void load(eqs_optimizer *optimizer, int p, const float *tensor, bool weight)
{
  const eqs_planned_parameter *planned = &optimizer->plan->parameter[p];
  for (int64_t i = 0; i < planned->assignment.count; i++) {
    eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
    if (matrix->grid == NULL) continue;
    const eqs_view *view = &planned->assignment.views[i];
    eqs_fragment fragment = {.view = view,
                             .distribution = &planned->matrix[i].distribution,
                             .row = matrix->grid->row,
                             .col = matrix->grid->col,
                             .end_row = view->tensor_rows};
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
    const eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
    if (matrix->grid == NULL) continue;
    const eqs_view *view = &planned->assignment.views[i];
    eqs_fragment fragment = {.view = view,
                             .distribution = &planned->matrix[i].distribution,
                             .row = matrix->grid->row,
                             .col = matrix->grid->col,
                             .end_row = view->tensor_rows};
    float *message;
    ck_assert_ok(eqs_allocate(&message, eqs_fragment_count(&fragment), sizeof *message));
    eqs_fragment_read_shard(&fragment, EQS_FLOAT32, eqs_floats(&matrix->weight), message);
    eqs_fragment_scatter(&fragment, sizeof *message, message, tensor);
    free(message);
  }
}

/* Gradients are added in the order of the trainers. */
static void load_sum(eqs_optimizer *optimizer, int p, int step, int trainers)
{
  float *sum = make_tensor(p, step, 0);
  for (int t = 1; t < trainers && model[p].gradient_placement == EQS_PARTIAL; t++) {
    float *part = make_tensor(p, step, t);
    for (int64_t i = 0; i < element_count(p); i++) sum[i] += part[i];
    free(part);
  }
  load(optimizer, p, sum, false);
  free(sum);
}

static void step_at_once(MPI_Comm owners, int trainers, float *weights)
{
  eqs_sources sources = {0};
  eqs_config *config;
  eqs_plan *plan;
  eqs_optimizer *optimizer;
  int size;
  MPI_Comm_size(owners, &size);
  ck_assert_ok(eqs_sources_read(config_path, &sources));
  ck_assert_ok(eqs_config_parse(&sources, &config));
  ck_assert_ok(eqs_plan_make(config, NULL, size, model_size, model, &plan));
  ck_assert_ok(eqs_optimizer_create(config, plan, owners, &optimizer));
  for (int p = 0; p < model_size; p++) {
    float *tensor = make_tensor(p, -1, 0);
    load(optimizer, p, tensor, true);
    free(tensor);
  }
  for (int t = 0; t < run_steps; t++) {
    for (int p = 0; p < model_size; p++) load_sum(optimizer, p, t, trainers);
    for (int p = 0; p < model_size; p++) optimizer->parameter[p].present = true;
    optimizer->settings->group[3].lr = learning_rate(t);
    optimizer->settings->gradient_scale = gradient_scale(t);
    ck_assert_ok(eqs_optimizer_step(optimizer, trainers));
  }
  int64_t offset = 0;
  for (int p = 0; p < model_size; offset += element_count(p++)) store(optimizer, p, weights + offset);
  eqs_optimizer_destroy(&optimizer);
  eqs_plan_free(&plan);
  eqs_config_free(&config);
  eqs_sources_free(&sources);
}

/* On all ranks. Owners add what each has: all others have zeros there. */
static float *reference_weights(int trainers)
{
  MPI_Comm owners;
  float *weights;
  bool owns = trainers == test_size() || test_rank() >= trainers;
  ck_assert_ok(eqs_allocate(&weights, model_count(), sizeof *weights));
  MPI_Comm_split(MPI_COMM_WORLD, owns ? 0 : MPI_UNDEFINED, test_rank(), &owners);
  if (owns) step_at_once(owners, trainers, weights);
  if (owns) MPI_Comm_free(&owners);
  MPI_Allreduce(MPI_IN_PLACE, weights, (int)model_count(), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  return weights;
}

/* What was done before eqs_step is counted as hidden, and is a part of the whole. */
static void check_hidden_work(training *job)
{
  enum { capacity = 32 };
  eqs_phase phases[capacity] = {{.struct_size = sizeof *phases}};
  int count;
  double work = 0, hidden = 0;
  ck_assert_ok(eqs_session_phases(job->session, phases, capacity, &count));
  for (int k = 0; k < count; k++) {
    const char *name = phases[k].name;
    bool counts = !strcmp(name, "owner receive") || !strcmp(name, "owner update") || !strcmp(name, "owner send");
    if (counts) work += phases[k].mean;
    if (strcmp(name, "owner hidden") == 0) hidden = phases[k].mean;
  }
  ck_assert(hidden > 0);
  ck_assert_at_most(hidden, work);
}

static void train(push_order order, const float *expected, void (*before)(training *job))
{
  training job;
  open_job(&job);
  if (before != NULL) before(&job);
  for (int t = 0; t + 1 < run_steps; t++) {
    take_step(&job, order, t);
    pull_all(&job);
  }
  take_step(&job, order, run_steps - 1);
  float *weights = pull_model(&job);
  int64_t i = 0;
  while (i < model_count() && weights[i] == expected[i]) i++; /* an assertion each would take its time */
  ck_assert_msg(i == model_count(), "order %d: element %lld differs", order, (long long)i);
  free(weights);
  if (order == WATCHED) check_hidden_work(&job);
  ck_assert_ok(eqs_session_close(&job.session));
}

/* Every order of pushes gives the bits of eqs_optimizer_step; nobody hangs. */
static void compare_orders(int trainers, const char *head, const char *grid, bool early)
{
  write_config(trainers, head, grid);
  float *expected = reference_weights(trainers);
  for (push_order order = IN_STEP; order < ORDERS; order++) {
    if (order == WATCHED && (trainers == test_size() || !early)) continue;
    MPI_Barrier(MPI_COMM_WORLD);
    if (test_rank() < trainers)
      train(order, expected, NULL);
    else if (order == WATCHED)
      serve_watching();
    else
      ck_assert_ok(eqs_serve(MPI_COMM_WORLD));
  }
  free(expected);
}

START_TEST(test_same_bits_in_any_order)
{
  make_config_folder();
  for (int trainers = 1; trainers <= test_size(); trainers += test_size() > 4 && trainers < 5 ? 2 : 1) {
    int owners = trainers == test_size() ? trainers : test_size() - trainers;
    compare_orders(trainers, "", "", true);
    if (owners >= 2) compare_orders(trainers, "", ", grid: 2x1, block: 16", true);
    if (owners == 3) compare_orders(trainers, "", ", grid: 1x3, block: 16", true);
  }
  remove_folder();
}
END_TEST

START_TEST(test_clipping_waits_for_all)
{
  make_config_folder();
  for (int trainers = 1; trainers <= test_size(); trainers += 2)
    compare_orders(trainers, "clip_grad_norm: 0.5", test_size() - trainers >= 2 ? ", grid: 2x1, block: 16" : "", false);
  remove_folder();
}
END_TEST

/* A step that is skipped for the gradient that comes last has changed nothing of those that came first. */
static void skip_a_step(training *job)
{
  float *gradients[model_size];
  eqs_step_info info = {.struct_size = sizeof info};
  make_gradients(job, 0, gradients);
  if (job->trainer == job->trainers - 1) gradients[0][5] = NAN;
  push_all(job, gradients, IN_STEP, 0);
  ck_assert_ok(eqs_step(job->session));
  ck_assert_ok(eqs_session_step_info(job->session, &info));
  ck_assert_int_eq(info.skipped, 1);
  ck_assert_int_eq(info.step, 0);
  release(gradients);
}

START_TEST(test_skipping_waits_for_all)
{
  make_config_folder();
  for (int trainers = 1; trainers <= test_size(); trainers += 2) {
    write_config(trainers, "on_nonfinite: skip", test_size() - trainers >= 2 ? ", grid: 2x1, block: 16" : "");
    float *expected = reference_weights(trainers);
    if (test_rank() < trainers)
      train(IN_STEP, expected, skip_a_step);
    else
      ck_assert_ok(eqs_serve(MPI_COMM_WORLD));
    free(expected);
  }
  remove_folder();
}
END_TEST

/* With clipping nothing is updated before all is in, and weights leave while later ones are still being updated. */
START_TEST(test_weights_leave_one_by_one)
{
  make_config_folder();
  int trainers = test_size() - 1;
  write_config(trainers, "clip_grad_norm: 0.5", "");
  if (test_rank() < trainers) {
    training job;
    open_job(&job);
    for (int t = 0; t < run_steps; t++) {
      take_step(&job, IN_STEP, t);
      pull_all(&job);
    }
    ck_assert_ok(eqs_session_close(&job.session));
  } else {
    eqs_session *session;
    eqs_wire payload = {0};
    eqs_command command = EQS_COMMAND_START;
    ck_assert_ok(eqs_session_join(MPI_COMM_WORLD, NULL, false, false, &session));
    while (command != EQS_COMMAND_CLOSE) {
      ck_assert_ok(eqs_session_listen(session, &command, &payload));
      ck_assert_ok(eqs_session_run(session, command, &payload));
    }
    ck_assert_int_eq(session->step.updates_before_step, 0);
    ck_assert_int_ge(session->pull_sender.ahead, run_steps);
    eqs_wire_free(&payload);
    eqs_session_leave(&session, EQS_OK);
  }
  remove_folder();
}
END_TEST

/* What nobody pushes stays; the others are updated. */
static void push_some(void)
{
  training job;
  float *gradients[model_size], *initial = make_tensor(1, -1, 0);
  open_job(&job);
  make_gradients(&job, 0, gradients);
  for (int p = model_size - 1; p >= 0; p--)
    if (p != 1 && (p != 5 || job.trainer == 0)) ck_assert_ok(eqs_push(job.parameter[p], gradients[p]));
  ck_assert_ok(eqs_step(job.session));
  float *weights = pull_model(&job), *pulled = weights + element_count(0);
  ck_assert_mem_eq(pulled, initial, (size_t)element_count(1) * sizeof *pulled);
  ck_assert_ok(eqs_session_close(&job.session));
  release(gradients);
  free(initial);
  free(weights);
}

/*
 * Owners of a gradient that is not Partial may hear of it from different trainers, here that it is there and that it is
 * not: they agree before they meet.
 */
static void push_replicated(void)
{
  enum { p = 3 };
  eqs_session *session;
  eqs_parameter *parameter;
  float *weight = make_tensor(p, -1, 0), *gradient = make_tensor(p, 0, 0), before = weight[0];
  ck_assert_ok(eqs_session_open(MPI_COMM_WORLD, config_path, &session));
  ck_assert_ok(eqs_parameter_add(session, &model[p], weight, &parameter));
  ck_assert_ok(eqs_session_start(session));
  if (test_rank() == 0) ck_assert_ok(eqs_push(parameter, gradient));
  ck_assert_ok(eqs_step(session));
  ck_assert_ok(eqs_pull(parameter, weight));
  ck_assert(weight[0] != before);
  ck_assert_ok(eqs_session_close(&session));
  free(weight);
  free(gradient);
}

START_TEST(test_absent_gradients)
{
  make_config_folder();
  for (int trainers = 1; trainers <= test_size(); trainers++) {
    int owners = trainers == test_size() ? trainers : test_size() - trainers;
    write_config(trainers, "", owners >= 2 ? ", grid: 2x1, block: 16" : "");
    if (test_rank() < trainers) {
      push_some();
      push_replicated();
    } else {
      ck_assert_ok(eqs_serve(MPI_COMM_WORLD));
      ck_assert_ok(eqs_serve(MPI_COMM_WORLD));
    }
  }
  remove_folder();
}
END_TEST

/* The settings of a step are those of its first push. */
static void change_settings(void)
{
  training job;
  float *gradients[model_size];
  open_job(&job);
  make_gradients(&job, 0, gradients);
  ck_assert_ok(eqs_group_set_lr(job.session, 0, 0.5));
  ck_assert_ok(eqs_push(job.parameter[7], gradients[7]));
  ck_assert_ok(eqs_group_set_lr(job.session, 0, 0.5));
  ck_assert_int_eq(eqs_group_set_lr(job.session, 0, 0.25), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "after the first push of the step"));
  ck_assert_int_eq(eqs_session_set_gradient_scale(job.session, 2), EQS_USAGE);
  eqs_group_info info = {.struct_size = sizeof info};
  ck_assert_ok(eqs_group_describe(job.session, 0, &info));
  ck_assert(info.lr == 0.5);
  ck_assert_ok(eqs_step(job.session));
  ck_assert_ok(eqs_group_set_lr(job.session, 0, 0.25));
  ck_assert_ok(eqs_session_set_gradient_scale(job.session, 2));
  ck_assert_ok(eqs_session_close(&job.session));
  release(gradients);
}

static void checkpoint_after_push(void)
{
  training job;
  float *gradients[model_size];
  open_job(&job);
  make_gradients(&job, 0, gradients);
  ck_assert_ok(eqs_push(job.parameter[1], gradients[1])); /* not the first to leave: nothing is under way at the end */
  ck_assert_int_eq(eqs_checkpoint(job.session, NULL, 0), EQS_USAGE);
  eqs_session_close(&job.session);
  release(gradients);
}

START_TEST(test_settings_are_fixed_by_the_first_push)
{
  char head[128];
  make_config_folder();
  snprintf(head, sizeof head, "checkpoint: {directory: %s/kept}", folder);
  for (int trainers = 1; trainers <= test_size(); trainers++) {
    write_config(trainers, head, "");
    if (test_rank() < trainers) {
      change_settings();
      checkpoint_after_push();
    } else {
      ck_assert_ok(eqs_serve(MPI_COMM_WORLD));
      ck_assert_int_eq(eqs_serve(MPI_COMM_WORLD), EQS_USAGE);
    }
  }
  remove_folder();
}
END_TEST

/* The collective call that comes after a step whose updates failed after eqs_step. */
static eqs_status next_call(training *job, int which)
{
  eqs_phase phases[16] = {{.struct_size = sizeof *phases}};
  int count;
  switch (which) {
  case 0: return eqs_step(job->session);
  case 1: return eqs_checkpoint(job->session, NULL, 0);
  case 2: return eqs_session_phases(job->session, phases, 16, &count);
  default: return EQS_OK; /* the close itself */
  }
}

/* The diagnostics' file cannot be written: known when all is updated, long after eqs_step of a service has returned. */
static void fail_deferred(int which, bool embedded)
{
  training job;
  float *gradients[model_size];
  open_job(&job);
  make_gradients(&job, 0, gradients);
  push_all(&job, gradients, IN_STEP, 0);
  if (embedded) {
    ck_assert_int_eq(eqs_step(job.session), EQS_IO);
    eqs_session_close(&job.session);
  } else {
    ck_assert_ok(eqs_step(job.session));
    pull_all(&job);
    if (which < 3) ck_assert_int_eq(next_call(&job, which), EQS_IO);
    eqs_status closed = eqs_session_close(&job.session);
    if (which == 3) ck_assert_int_eq(closed, EQS_IO);
    ck_assert_ptr_nonnull(strstr(eqs_error_message(), "/nowhere/metrics"));
  }
  release(gradients);
}

/* As eqs_serve; after every call something else fails, which is nobody's business. */
static eqs_status serve_with_other_failures(void)
{
  eqs_session *session;
  eqs_wire payload = {0};
  eqs_command command = EQS_COMMAND_START;
  ck_assert_ok(eqs_session_join(MPI_COMM_WORLD, NULL, false, false, &session));
  eqs_status status = EQS_OK;
  while (status == EQS_OK && command != EQS_COMMAND_CLOSE) {
    eqs_fail(EQS_FAILED, "something else, for this test");
    status = eqs_session_listen(session, &command, &payload);
    if (status == EQS_OK) status = eqs_session_run(session, command, &payload);
  }
  eqs_wire_free(&payload);
  eqs_session_leave(&session, status);
  return status;
}

START_TEST(test_deferred_failure)
{
  char head[256];
  make_config_folder();
  snprintf(head, sizeof head, "metrics: {path: %s/nowhere/metrics, every: 1}\ncheckpoint: {directory: %s/kept}", folder,
           folder);
  for (int which = 0; which < 4; which++) {
    int trainers = 1 + which % test_size();
    write_config(trainers, head, "");
    if (test_rank() < trainers)
      fail_deferred(which, trainers == test_size());
    else
      ck_assert_int_eq(serve_with_other_failures(), EQS_IO);
  }
  remove_folder();
}
END_TEST

/* An owner that fails in the middle: those who share matrices with it do not wait for it. */
static bool has_begun(eqs_session *session, void *context)
{
  (void)context;
  return session->step.state != EQS_STEP_IDLE;
}

static void serve_failing(bool fails)
{
  eqs_session *session;
  eqs_wire payload = {0};
  eqs_command command;
  ck_assert_ok(eqs_session_join(MPI_COMM_WORLD, NULL, false, false, &session));
  ck_assert_ok(eqs_session_listen(session, &command, &payload));
  ck_assert_ok(eqs_session_run(session, command, &payload));
  if (fails) {
    ck_assert_ok(eqs_session_wait_until(session, has_begun, NULL, "the first gradient"));
    session->step.status = eqs_fail(EQS_FAILED, "an update failed, for this test");
  }
  ck_assert_ok(eqs_session_listen(session, &command, &payload));
  eqs_status status = eqs_session_run(session, command, &payload);
  ck_assert_int_eq(status, EQS_FAILED);
  eqs_wire_free(&payload);
  eqs_session_leave(&session, status);
}

/* The last rank is the owner, which does nothing until the trainers have waited as long as the deadline says. */
START_TEST(test_lost_owner_is_named)
{
  static const char config[] = "mode: service\ndeadline: 2\ngroups: [{match: {}, rule: adamw, lr: 0.01}]\n";
  eqs_session *session;
  eqs_wire payload = {0};
  eqs_command command = EQS_COMMAND_START;
  float *weight = make_tensor(0, -1, 0);
  char host[64] = "", expected[128];
  gethostname(host, sizeof host - 1);
  snprintf(expected, sizeof expected, "after 2 s waiting for weights from owner 0 (host %s)", host);
  if (test_rank() < test_size() - 1) {
    eqs_parameter *parameter;
    ck_assert_ok(eqs_session_open_text(MPI_COMM_WORLD, config, NULL, &session));
    ck_assert_ok(eqs_parameter_add(session, &model[0], weight, &parameter));
    ck_assert_ok(eqs_session_start(session));
    ck_assert_int_eq(eqs_pull(parameter, weight), EQS_PEER_LOST);
    ck_assert_msg(strstr(eqs_error_message(), expected) != NULL, "%s", eqs_error_message());
    MPI_Barrier(MPI_COMM_WORLD);
    ck_assert_ok(eqs_pull(parameter, weight));
    ck_assert_ok(eqs_session_close(&session));
  } else {
    ck_assert_ok(eqs_session_join(MPI_COMM_WORLD, NULL, false, false, &session));
    for (int calls = 0; calls < 2; calls++) {
      ck_assert_ok(eqs_session_listen(session, &command, &payload));
      ck_assert_ok(eqs_session_run(session, command, &payload));
      if (calls == 0) MPI_Barrier(MPI_COMM_WORLD);
    }
    eqs_session_leave(&session, EQS_OK);
  }
  eqs_wire_free(&payload);
  free(weight);
}
END_TEST

START_TEST(test_one_owner_fails)
{
  make_config_folder();
  for (int trainers = 1; trainers <= test_size() - 2; trainers++) {
    write_config(trainers, "", ", grid: 2x1, block: 16");
    if (test_rank() < trainers) {
      training job;
      float *gradients[model_size];
      open_job(&job);
      make_gradients(&job, 0, gradients);
      push_all(&job, gradients, IN_STEP, 0);
      ck_assert_int_eq(eqs_step(job.session), EQS_FAILED);
      ck_assert_str_eq(eqs_error_message(), "an update failed, for this test");
      eqs_session_close(&job.session);
      release(gradients);
    } else {
      serve_failing(test_rank() == trainers + 1);
    }
  }
  remove_folder();
}
END_TEST

/*
 * A step moves one gradient in and one weight out per trainer, and nothing else that grows with the model: within 5 %.
 * What all trainers have alike goes once.
 */
static void count_bytes(int trainers)
{
  training job;
  eqs_traffic before = {.struct_size = sizeof before}, after = {.struct_size = sizeof after};
  int64_t partial = 0, replicated = 0;
  open_job(&job);
  ck_assert_ok(eqs_session_traffic(job.session, &before));
  for (int t = 0; t < run_steps; t++) {
    take_step(&job, IN_STEP, t);
    pull_all(&job);
  }
  ck_assert_ok(eqs_session_traffic(job.session, &after));
  int64_t moved[2] = {after.gradient_sent - before.gradient_sent, after.weight_received - before.weight_received};
  MPI_Allreduce(MPI_IN_PLACE, moved, 2, MPI_INT64_T, MPI_SUM, job.comm);
  for (int p = 0; p < model_size; p++)
    *(model[p].gradient_placement == EQS_PARTIAL ? &partial : &replicated) += element_count(p) * (int64_t)sizeof(float);
  ck_assert_int_gt(partial, 3000000);
  int64_t gradients = run_steps * (trainers * partial + replicated);
  int64_t weights = run_steps * trainers * (partial + replicated);
  ck_assert_int_ge(moved[0], gradients);
  ck_assert_at_most((double)moved[0], 1.05 * (double)gradients);
  ck_assert_int_ge(moved[1], weights);
  ck_assert_at_most((double)moved[1], 1.05 * (double)weights);
  ck_assert_ok(eqs_session_close(&job.session));
}

START_TEST(test_bytes_of_a_step)
{
  make_config_folder();
  for (int trainers = 1; trainers <= test_size(); trainers++) {
    write_config(trainers, "", "");
    if (test_rank() < trainers)
      count_bytes(trainers);
    else
      ck_assert_ok(eqs_serve(MPI_COMM_WORLD));
  }
  remove_folder();
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("overlap");
  TCase *tests = tcase_create("overlap");
  tcase_set_timeout(tests, 0);
  tcase_add_test(tests, test_same_bits_in_any_order);
  tcase_add_test(tests, test_clipping_waits_for_all);
  tcase_add_test(tests, test_skipping_waits_for_all);
  tcase_add_test_from(tests, 2, test_weights_leave_one_by_one);
  tcase_add_test(tests, test_absent_gradients);
  tcase_add_test(tests, test_settings_are_fixed_by_the_first_push);
  tcase_add_test(tests, test_deferred_failure);
  tcase_add_test_from(tests, 3, test_one_owner_fails);
  tcase_add_test_from(tests, 2, test_lost_owner_is_named);
  tcase_add_test(tests, test_bytes_of_a_step);
  suite_add_tcase(suite, tests);
  return suite;
}
