/*
 * The calls of a trainer beside push, step and pull: weights that it puts, settings that it changes, its own clipping,
 * sessions after and beside one another, data of every trainer, wrong arguments. In every arrangement of ranks; beside
 * AdamW element by element in float64 (Loshchilov and Hutter 2019, bias-corrected, ε outside the root).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "folder.h"
#include "harness.h"

enum { rows = 7, cols = 5, elements = rows * cols };

/* Replicate and Shard(0) weights, of Partial and Replicate gradients. */
enum { whole, split, same, parameters };
static const eqs_parameter_info model[parameters] = {
    [whole] = {.struct_size = sizeof *model,
               .name = "whole",
               .ndim = 2,
               .shape = {rows, cols},
               .gradient_placement = EQS_PARTIAL},
    [split] = {.struct_size = sizeof *model,
               .name = "split",
               .ndim = 2,
               .shape = {rows, cols},
               .gradient_placement = EQS_PARTIAL,
               .weight_placement = EQS_SHARD},
    [same] = {.struct_size = sizeof *model, .name = "same", .ndim = 2, .shape = {rows, cols}},
};

static const char rules[] = "deadline: 60\ngroups:\n  - {match: {}, rule: adamw, lr: 0.01, weight_decay: 0.1}\n";

/* ----- the reference ----- */

typedef struct {
  double lr, decay, beta1, beta2, eps;
} adamw;

static const adamw configured = {0.01, 0.1, 0.9, 0.95, 1e-8};

typedef struct {
  double weight[elements], m[elements], v[elements];
  int steps;
} tensor;

static float initial(int p, int i)
{
  return (float)test_uniform(10 + (uint64_t)p, (uint64_t)i);
}

static float gradient(int p, int step, int trainer, int i)
{
  uint64_t part = model[p].gradient_placement == EQS_PARTIAL ? (uint64_t)trainer : 0;
  return (float)test_uniform(100 + (uint64_t)p * 64 + (uint64_t)step * 8 + part, (uint64_t)i);
}

static double mean_gradient(int p, int step, int trainers, int i)
{
  double sum = 0;
  for (int t = 0; t < trainers; t++) sum += gradient(p, step, t, i);
  return model[p].gradient_placement == EQS_PARTIAL ? sum / trainers : gradient(p, step, 0, i);
}

/* A step of a tensor, its gradient multiplied by a factor. */
static void advance(tensor *x, int p, int step, int trainers, const adamw *options, double factor)
{
  x->steps++;
  double correction1 = 1 - pow(options->beta1, x->steps), correction2 = 1 - pow(options->beta2, x->steps);
  for (int i = 0; i < elements; i++) {
    double g = factor * mean_gradient(p, step, trainers, i);
    x->m[i] = options->beta1 * x->m[i] + (1 - options->beta1) * g;
    x->v[i] = options->beta2 * x->v[i] + (1 - options->beta2) * g * g;
    x->weight[i] *= 1 - options->lr * options->decay;
    x->weight[i] -= options->lr * (x->m[i] / correction1) / (sqrt(x->v[i] / correction2) + options->eps);
  }
}

static void begin(tensor x[parameters])
{
  memset(x, 0, parameters * sizeof *x);
  for (int p = 0; p < parameters; p++)
    for (int i = 0; i < elements; i++) x[p].weight[i] = initial(p, i);
}

/* ----- a job ----- */

typedef struct {
  eqs_session *session;
  eqs_parameter *handle[parameters];
  int trainer, trainers;
  int first, end; /* elements of a Shard(0) tensor here */
} job;

static int first_of(const job *at, int p)
{
  return model[p].weight_placement == EQS_SHARD ? at->first : 0;
}

static int end_of(const job *at, int p)
{
  return model[p].weight_placement == EQS_SHARD ? at->end : elements;
}

static void open_job(job *at, const char *config, const char *directory, bool resume)
{
  MPI_Comm comm;
  float weight[parameters][elements];
  char text[512];
  *at = (job){0};
  snprintf(text, sizeof text, "%s%s%s%s%s", config, directory ? "checkpoint: {directory: \"" : "",
           directory ? directory : "", directory ? "\"}\n" : "", strstr(config, "groups:") ? "" : rules);
  ck_assert_ok(eqs_session_open_text(MPI_COMM_WORLD, text, NULL, &at->session));
  ck_assert_ok(eqs_session_trainers(at->session, &comm));
  MPI_Comm_rank(comm, &at->trainer);
  MPI_Comm_size(comm, &at->trainers);
  int chunk = (rows + at->trainers - 1) / at->trainers;
  at->first = chunk * at->trainer < rows ? chunk * at->trainer * cols : elements;
  at->end = chunk * (at->trainer + 1) < rows ? chunk * (at->trainer + 1) * cols : elements;
  for (int p = 0; p < parameters; p++) {
    for (int i = 0; i < elements; i++) weight[p][i] = initial(p, i);
    ck_assert_ok(eqs_parameter_add(at->session, &model[p], weight[p] + first_of(at, p), &at->handle[p]));
  }
  if (resume) ck_assert_ok(eqs_session_resume_if_any(at->session, NULL));
  ck_assert_ok(eqs_session_start(at->session));
}

/* Step `broken` has a gradient that is not finite. */
enum { broken = 3 };

static void push_all(job *at, int step, float buffer[parameters][elements])
{
  const void *gradients[parameters];
  for (int p = 0; p < parameters; p++) {
    for (int i = 0; i < elements; i++) buffer[p][i] = gradient(p, step, at->trainer, i);
    if (step == broken) buffer[p][3] = NAN;
    gradients[p] = buffer[p];
  }
  ck_assert_ok(eqs_push_many(parameters, at->handle, gradients));
}

/* What owners have, against the reference: float32 arithmetic over some steps of size lr. */
static void check(job *at, const tensor x[parameters])
{
  float weight[parameters][elements];
  void *memory[parameters];
  for (int p = 0; p < parameters; p++) memory[p] = weight[p];
  ck_assert_ok(eqs_pull_many(parameters, at->handle, memory));
  for (int p = 0; p < parameters; p++)
    for (int i = first_of(at, p); i < end_of(at, p); i++)
      ck_assert_msg(fabs(weight[p][i - first_of(at, p)] - x[p].weight[i]) <= 2e-6, "%s[%d] is %.8g, not %.8g",
                    model[p].name, i, (double)weight[p][i - first_of(at, p)], x[p].weight[i]);
}

static void step_and_check(job *at, tensor x[parameters], int step, const adamw *options)
{
  float buffer[parameters][elements];
  push_all(at, step, buffer);
  ck_assert_ok(eqs_step(at->session));
  for (int p = 0; p < parameters; p++) advance(&x[p], p, step, at->trainers, options, 1);
  check(at, x);
}

static void close_job(job *at)
{
  ck_assert_ok(eqs_session_close(&at->session));
  ck_assert_ptr_null(at->session);
}

/* Run `body` with `least` to `most` trainers; all ranks: embedded. `ends`: how each session ends on owners; NULL: well.
 */
static void in_arrangements(int least, int most, void (*body)(const char *mode), int sessions, const eqs_status *ends)
{
  for (int trainers = least; trainers <= most; trainers++) {
    if (test_rank() < trainers) body(trainers == test_size() ? "mode: embedded\n" : "mode: service\n");
    for (int s = 0; s < sessions && test_rank() >= trainers; s++)
      ck_assert_int_eq(eqs_serve(MPI_COMM_WORLD), ends != NULL ? ends[s] : EQS_OK);
    MPI_Barrier(MPI_COMM_WORLD);
  }
}

static void in_all_arrangements(void (*body)(const char *mode), int sessions)
{
  in_arrangements(1, test_size(), body, sessions, NULL);
}

/* ----- weights that are put ----- */

/* New values of the whole tensor; the trainer's part of them. */
static void put_values(job *at, int p, tensor *x, float values[elements])
{
  for (int i = 0; i < elements; i++) values[i] = (float)test_uniform(1000 + (uint64_t)p, (uint64_t)i);
  for (int i = 0; i < elements; i++) x->weight[i] = values[i];
  ck_assert_ok(eqs_put(at->handle[p], values + first_of(at, p)));
}

/* Before a step, in a step that is skipped, with momentum kept; of a split weight only the rows of one trainer. */
static void put_weights(const char *mode)
{
  job at;
  tensor x[parameters];
  char config[128];
  float values[parameters][elements], buffer[parameters][elements];
  snprintf(config, sizeof config, "%son_nonfinite: skip\n", mode);
  begin(x);
  open_job(&at, config, NULL, false);
  step_and_check(&at, x, 0, &configured);
  put_values(&at, whole, &x[whole], values[whole]);
  step_and_check(&at, x, 1, &configured);

  int last = at.trainers - 1, chunk = (rows + at.trainers - 1) / at.trainers;
  for (int i = last * chunk * cols; i < elements; i++) x[split].weight[i] = 3;
  for (int i = 0; i < elements; i++) values[split][i] = 3;
  if (at.trainer == last) ck_assert_ok(eqs_put(at.handle[split], values[split]));
  put_values(&at, same, &x[same], values[same]);
  step_and_check(&at, x, 2, &configured);

  put_values(&at, whole, &x[whole], values[whole]); /* stays, though the step is skipped */
  push_all(&at, broken, buffer);
  ck_assert_ok(eqs_step(at.session));
  eqs_step_info info = {.struct_size = sizeof info};
  ck_assert_ok(eqs_session_step_info(at.session, &info));
  ck_assert_int_eq(info.skipped_last, 1);
  step_and_check(&at, x, 4, &configured);
  close_job(&at);
}

START_TEST(test_put)
{
  in_all_arrangements(put_weights, 1);
}
END_TEST

/* A checkpoint between a put and the next step has what was put. */
static void put_and_save(const char *mode)
{
  job at;
  tensor x[parameters];
  float values[elements];
  begin(x);
  open_job(&at, mode, folder, false);
  step_and_check(&at, x, 0, &configured);
  put_values(&at, whole, &x[whole], values);
  ck_assert_ok(eqs_checkpoint(at.session, NULL, 0));
  close_job(&at);
  open_job(&at, mode, folder, true);
  ck_assert_int_eq(eqs_session_resumed(at.session), 1);
  check(&at, x);
  close_job(&at);
}

START_TEST(test_put_before_checkpoint)
{
  make_folder();
  in_all_arrangements(put_and_save, 2);
  remove_folder();
}
END_TEST

static void put_different(const char *mode, bool all)
{
  job at;
  float values[elements] = {0}, buffer[parameters][elements];
  open_job(&at, mode, NULL, false);
  bool odd = at.trainer == at.trainers - 1 && at.trainers > 1;
  values[elements - 1] = odd;
  if (all || odd) ck_assert_ok(eqs_put(at.handle[whole], values));
  push_all(&at, 0, buffer);
  if (at.trainers == 1) { /* nobody to differ from */
    ck_assert_ok(eqs_step(at.session));
    close_job(&at);
    return;
  }
  ck_assert_int_eq(eqs_step(at.session), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "'whole'"));
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), all ? "different values" : "only some trainers"));
  eqs_session_close(&at.session);
}

static void all_put_different(const char *mode)
{
  put_different(mode, true);
}

static void some_put(const char *mode)
{
  put_different(mode, false);
}

START_TEST(test_put_differently)
{
  static const eqs_status ends[] = {EQS_USAGE};
  in_arrangements(1, 1, all_put_different, 1, NULL);
  in_arrangements(2, test_size(), all_put_different, 1, ends);
  in_arrangements(2, test_size(), some_put, 1, ends);
}
END_TEST

static void put_at_wrong_times(const char *mode)
{
  job at;
  float values[elements] = {0}, buffer[parameters][elements];
  open_job(&at, mode, NULL, false);
  ck_assert_ok(eqs_put(at.handle[whole], values));
  ck_assert_int_eq(eqs_put(at.handle[whole], values), EQS_USAGE);
  push_all(&at, 0, buffer);
  ck_assert_int_eq(eqs_put(at.handle[same], values), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "'same'"));
  ck_assert_ok(eqs_step(at.session));
  close_job(&at);
}

START_TEST(test_put_at_wrong_times)
{
  in_all_arrangements(put_at_wrong_times, 1);
}
END_TEST

/* ----- settings ----- */

static double setting(const job *at, const char *name)
{
  double value = NAN;
  ck_assert_ok(eqs_group_get(at->session, 0, name, &value));
  return value;
}

/* Changed between steps, restored with the checkpoint; not where the configuration has changed. */
static void change_settings(const char *mode)
{
  job at;
  tensor x[parameters];
  adamw options = configured;
  char config[256];
  begin(x);
  open_job(&at, mode, folder, false);
  step_and_check(&at, x, 0, &options);
  options = (adamw){0.02, 0.3, 0.5, 0.7, 1e-3};
  ck_assert_ok(eqs_group_set_lr(at.session, 0, options.lr));
  ck_assert_ok(eqs_group_set(at.session, 0, "weight_decay", options.decay));
  ck_assert_ok(eqs_group_set(at.session, 0, "beta1", options.beta1));
  ck_assert_ok(eqs_group_set(at.session, 0, "beta2", options.beta2));
  ck_assert_ok(eqs_group_set(at.session, 0, "eps", options.eps));
  step_and_check(&at, x, 1, &options);
  ck_assert_ok(eqs_checkpoint(at.session, NULL, 0));
  close_job(&at);

  open_job(&at, mode, folder, true);
  ck_assert(setting(&at, "beta1") == 0.5 && setting(&at, "lr") == 0.02);
  check(&at, x);
  step_and_check(&at, x, 2, &options);
  close_job(&at);

  snprintf(config, sizeof config, "%sgroups: [{match: {}, rule: adamw, lr: 0.05, weight_decay: 0.1}]\n", mode);
  open_job(&at, config, folder, true);
  ck_assert(setting(&at, "lr") == 0.05);          /* configured anew */
  ck_assert(setting(&at, "weight_decay") == 0.3); /* as it was in force */
  close_job(&at);
}

START_TEST(test_settings)
{
  make_folder();
  in_all_arrangements(change_settings, 3);
  remove_folder();
}
END_TEST

/* Groups are known by their parameters: in another order, split, joined, new. */
static void move_groups(const char *mode)
{
  static const char before[] = "groups: [{match: {name: whole}, rule: adamw, lr: 0.01}, "
                               "{match: {}, rule: adamw, lr: 0.01}]\n";
  static const struct {
    const char *groups;
    int count, restored_from[3];
    double lr[3];
  } after[] = {
      {"{match: {name: same}, rule: adamw, lr: 0.01}, {match: {name: whole}, rule: adamw, lr: 0.01}, "
       "{match: {}, rule: adamw, lr: 0.01}",
       3,
       {1, 0, 1},
       {0.25, 0.5, 0.25}},
      {"{match: {}, rule: adamw, lr: 0.01}", 1, {-1}, {0.01}}, /* of both */
      {"{match: {name: whole}, rule: row_norm, lr: 0.01}, {match: {}, rule: adamw, lr: 0.01}",
       2,
       {-1, 1},
       {0.01, 0.25}},
  };
  job at;
  char config[512];
  snprintf(config, sizeof config, "%s%s", mode, before);
  open_job(&at, config, folder, false);
  ck_assert_ok(eqs_group_set(at.session, 0, "lr", 0.5));
  ck_assert_ok(eqs_group_set(at.session, 1, "lr", 0.25));
  ck_assert_ok(eqs_checkpoint(at.session, NULL, 0));
  close_job(&at);
  for (size_t i = 0; i < sizeof after / sizeof *after; i++) {
    snprintf(config, sizeof config, "%sgroups: [%s]\n", mode, after[i].groups);
    open_job(&at, config, folder, true);
    for (int g = 0; g < after[i].count; g++) {
      eqs_group_info info = {.struct_size = sizeof info};
      ck_assert_ok(eqs_group_describe(at.session, g, &info));
      ck_assert_int_eq(info.restored_from, after[i].restored_from[g]);
      ck_assert_msg(info.lr == after[i].lr[g], "case %zu: group %d has lr %g", i, g, info.lr);
    }
    close_job(&at);
  }
}

START_TEST(test_moved_groups)
{
  make_folder();
  in_all_arrangements(move_groups, 4);
  remove_folder();
}
END_TEST

static void refuse_settings(const char *mode)
{
  job at;
  float buffer[parameters][elements];
  double value;
  eqs_group_info info = {.struct_size = sizeof info};
  open_job(&at, mode, NULL, false);
  ck_assert_ok(eqs_group_describe(at.session, 0, &info));
  const char *const expected[] = {"lr", "weight_decay", "beta1", "beta2", "eps"};
  for (int i = 0; i < 5; i++) ck_assert_str_eq(info.settings[i], expected[i]);
  ck_assert_ptr_null(info.settings[5]);
  ck_assert_str_eq(info.schedule, "constant");
  ck_assert_int_eq(eqs_group_set(at.session, 0, "beta", 0.5), EQS_USAGE); /* of momentum, which adamw has not */
  ck_assert_int_eq(eqs_group_set(at.session, 0, "alpha", 1), EQS_USAGE);
  ck_assert_int_eq(eqs_group_set(at.session, 0, "nothing", 1), EQS_USAGE);
  ck_assert_int_eq(eqs_group_set(at.session, 0, NULL, 1), EQS_USAGE);
  ck_assert_int_eq(eqs_group_set(at.session, 1, "lr", 1), EQS_USAGE);
  ck_assert_int_eq(eqs_group_set(at.session, 0, "beta1", 1), EQS_USAGE);
  ck_assert_int_eq(eqs_group_set(at.session, 0, "eps", 0), EQS_USAGE);
  ck_assert_int_eq(eqs_group_set(at.session, 0, "lr", NAN), EQS_USAGE);
  ck_assert_int_eq(eqs_group_get(at.session, 0, "beta", &value), EQS_USAGE);
  push_all(&at, 0, buffer);
  ck_assert_int_eq(eqs_group_set(at.session, 0, "weight_decay", 0.2), EQS_USAGE);
  ck_assert_ok(eqs_group_set(at.session, 0, "weight_decay", 0.1)); /* as it is */
  ck_assert_int_eq(eqs_session_defer_updates(at.session, 1), EQS_USAGE);
  ck_assert_ok(eqs_step(at.session));
  close_job(&at);
}

START_TEST(test_settings_refused)
{
  in_all_arrangements(refuse_settings, 1);
}
END_TEST

/* ----- clipping by the program ----- */

static double whole_norm(int step, int trainers)
{
  double squares = 0;
  for (int p = 0; p < parameters; p++)
    for (int i = 0; i < elements; i++) squares += pow(mean_gradient(p, step, trainers, i), 2);
  return sqrt(squares);
}

/* Steps that are clipped, that are only measured, and that are not. */
static void clip(const char *mode)
{
  job at;
  tensor x[parameters];
  float buffer[parameters][elements];
  double norm;
  begin(x);
  open_job(&at, mode, NULL, false);
  ck_assert_ok(eqs_session_defer_updates(at.session, 1));
  const double limits[] = {0.25, INFINITY, 1000};
  for (int t = 0; t < 3; t++) {
    double expected = whole_norm(t, at.trainers), factor = fmin(1, limits[t] / (expected + 1e-6));
    push_all(&at, t, buffer);
    ck_assert_ok(eqs_clip_grad_norm(at.session, limits[t], &norm));
    ck_assert_at_most(fabs(norm / expected - 1), 1e-6);
    ck_assert_int_eq(eqs_push(at.handle[0], buffer[0]), EQS_USAGE);
    ck_assert_int_eq(eqs_clip_grad_norm(at.session, 1, &norm), EQS_USAGE);
    ck_assert_ok(eqs_step(at.session));
    for (int p = 0; p < parameters; p++) advance(&x[p], p, t, at.trainers, &configured, factor);
    check(&at, x);
  }
  ck_assert_int_eq(eqs_clip_grad_norm(at.session, 0, &norm), EQS_USAGE);
  step_and_check(&at, x, 4, &configured); /* the limit was of the last step only */
  close_job(&at);
}

START_TEST(test_clip)
{
  in_all_arrangements(clip, 1);
}
END_TEST

/* Not deferred, owners may have updated what was complete: right all the same where nothing has to be clipped. */
static void measure_late(const char *mode)
{
  job at;
  tensor x[parameters];
  float buffer[parameters][elements];
  double norm;
  begin(x);
  open_job(&at, mode, NULL, false);
  push_all(&at, 0, buffer);
  usleep(20000);
  ck_assert_ok(eqs_clip_grad_norm(at.session, 1000, &norm));
  ck_assert_at_most(fabs(norm / whole_norm(0, at.trainers) - 1), 1e-6);
  ck_assert_ok(eqs_step(at.session));
  for (int p = 0; p < parameters; p++) advance(&x[p], p, 0, at.trainers, &configured, 1);
  check(&at, x);
  close_job(&at);
}

START_TEST(test_measured_late)
{
  in_all_arrangements(measure_late, 1);
}
END_TEST

/* ----- sessions ----- */

/* One after another, with other owners' answers in between; a second beside it only where every rank is its own owner.
 */
static void several_sessions(const char *mode)
{
  job at, other;
  tensor x[parameters], y[parameters];
  for (int s = 0; s < 3; s++) {
    begin(x);
    open_job(&at, mode, NULL, false);
    step_and_check(&at, x, s, &configured);
    if (strstr(mode, "service")) {
      eqs_session *second;
      ck_assert_int_eq(eqs_session_open_text(MPI_COMM_WORLD, mode, NULL, &second), EQS_USAGE);
      ck_assert_ptr_null(second);
    } else {
      begin(y);
      open_job(&other, mode, NULL, false);
      for (int t = 0; t < 3; t++) {
        step_and_check(&other, y, t, &configured);
        step_and_check(&at, x, 5 + t, &configured);
      }
      close_job(&other);
    }
    step_and_check(&at, x, 4, &configured);
    close_job(&at);
  }
}

START_TEST(test_several_sessions)
{
  in_all_arrangements(several_sessions, 3);
}
END_TEST

/* A session that could not be opened, and one whose step failed, leave the ranks able to begin again. */
static void begin_again(const char *mode)
{
  job at;
  tensor x[parameters];
  float buffer[parameters][elements];
  char config[128], failure[1024];
  snprintf(config, sizeof config, "%sgroups: [{match: {}, rule: nothing, lr: 1}]\n", mode);
  ck_assert_int_eq(eqs_session_open_text(MPI_COMM_WORLD, config, "this", &at.session), EQS_USAGE);
  ck_assert_ptr_null(at.session);
  ck_assert_msg(strstr(eqs_error_message(), "this:2: ") != NULL, "%s", eqs_error_message());
  ck_assert_int_eq(eqs_session_open_text(MPI_COMM_WORLD, NULL, NULL, &at.session), EQS_USAGE);
  open_job(&at, mode, NULL, false);
  push_all(&at, 0, buffer);
  ck_assert_ok(eqs_step(at.session));
  ck_assert_int_eq(eqs_session_failed(at.session), 0);
  push_all(&at, broken, buffer);
  ck_assert_int_eq(eqs_step(at.session), EQS_FAILED);
  snprintf(failure, sizeof failure, "%s", eqs_error_message());
  ck_assert_int_eq(eqs_group_set(at.session, 0, "nothing", 1), EQS_USAGE); /* is not why the session has failed */
  ck_assert_int_eq(eqs_step(at.session), EQS_FAILED);
  ck_assert_msg(strstr(eqs_error_message(), failure) != NULL, "'%s' in '%s'", failure, eqs_error_message());
  ck_assert_int_eq(eqs_session_failed(at.session), 1);
  eqs_session_close(&at.session);
  ck_assert_ptr_null(at.session);
  begin(x);
  open_job(&at, mode, NULL, false);
  step_and_check(&at, x, 0, &configured);
  close_job(&at);
}

START_TEST(test_sessions_after_failures)
{
  static const eqs_status ends[] = {EQS_USAGE, EQS_USAGE, EQS_FAILED, EQS_OK};
  in_arrangements(1, test_size(), begin_again, 4, ends);
}
END_TEST

/* Two sessions of one process wait as long as their own deadlines say, and one that is lost leaves the other alone. */
START_TEST(test_two_deadlines)
{
  job hasty, patient;
  tensor x[parameters];
  float buffer[parameters][elements];
  begin(x);
  open_job(&hasty, "mode: embedded\ndeadline: 1\ngroups: [{match: {}, rule: adamw, lr: 0.01}]\n", NULL, false);
  open_job(&patient, "mode: embedded\n", NULL, false);
  if (test_rank() > 0) sleep(3);
  step_and_check(&patient, x, 0, &configured);

  push_all(&hasty, 0, buffer);
  if (test_rank() == 0) MPI_Barrier(MPI_COMM_WORLD); /* the others have given up by then */
  ck_assert_int_eq(eqs_step(hasty.session), EQS_PEER_LOST);
  ck_assert_msg(strstr(eqs_error_message(), "after 1 s") != NULL, "%s", eqs_error_message());
  if (test_rank() > 0) MPI_Barrier(MPI_COMM_WORLD);
  ck_assert_int_eq(eqs_session_failed(hasty.session), 1);
  step_and_check(&patient, x, 1, &configured);
  eqs_session_close(&hasty.session);
  step_and_check(&patient, x, 2, &configured);
  close_job(&patient);
}
END_TEST

/* Every call with NULL, before the start, and after close is an error. */
static void call_wrongly(eqs_session *session, const eqs_parameter *handle)
{
  eqs_parameter *parameter = (eqs_parameter *)handle;
  float values[elements] = {0};
  const void *pointer = values;
  void *target = values;
  int count;
  double number;
  size_t size;
  MPI_Comm comm;
  eqs_group_info group = {.struct_size = sizeof group};
  eqs_step_info info = {.struct_size = sizeof info};
  eqs_traffic traffic = {.struct_size = sizeof traffic};
  eqs_phase phase = {.struct_size = sizeof phase};
  eqs_parameter_description description = {.struct_size = sizeof description};
  eqs_parameter_info extra = model[0];
  extra.name = "extra";
  ck_assert_int_eq(eqs_parameter_add(session, &extra, values, &parameter), EQS_USAGE);
  parameter = (eqs_parameter *)handle;
  ck_assert_int_eq(eqs_session_start(session), EQS_USAGE);
  ck_assert_int_eq(eqs_session_resume(session, NULL), EQS_USAGE);
  ck_assert_int_eq(eqs_session_trainers(session, &comm), EQS_USAGE);
  ck_assert_int_eq(eqs_push(parameter, values), EQS_USAGE);
  ck_assert_int_eq(eqs_push_many(1, &parameter, &pointer), EQS_USAGE);
  ck_assert_int_eq(eqs_put(parameter, values), EQS_USAGE);
  ck_assert_int_eq(eqs_pull(parameter, values), EQS_USAGE);
  ck_assert_int_eq(eqs_pull_many(1, &parameter, &target), EQS_USAGE);
  ck_assert_int_eq(eqs_parameter_describe(parameter, &description), EQS_USAGE);
  ck_assert_int_eq(eqs_step(session), EQS_USAGE);
  ck_assert_int_eq(eqs_clip_grad_norm(session, 1, &number), EQS_USAGE);
  ck_assert_int_eq(eqs_group_count(session, &count), EQS_USAGE);
  ck_assert_int_eq(eqs_group_describe(session, 0, &group), EQS_USAGE);
  ck_assert_int_eq(eqs_group_set(session, 0, "lr", 1), EQS_USAGE);
  ck_assert_int_eq(eqs_group_get(session, 0, "lr", &number), EQS_USAGE);
  ck_assert_int_eq(eqs_session_set_gradient_scale(session, 2), EQS_USAGE);
  ck_assert_int_eq(eqs_session_defer_updates(session, 1), EQS_USAGE);
  ck_assert_int_eq(eqs_checkpoint(session, NULL, 0), EQS_USAGE);
  ck_assert_int_eq(eqs_trainer_data(session, "key", &pointer, &size), EQS_USAGE);
  ck_assert_int_eq(eqs_session_phases(session, &phase, 1, &count), EQS_USAGE);
  ck_assert_int_eq(eqs_session_traffic(session, &traffic), EQS_USAGE);
  ck_assert_int_eq(eqs_session_step_info(session, &info), EQS_USAGE);
  ck_assert_int_eq(eqs_checkpoint_due(session), 0);
  ck_assert_int_eq(eqs_stop_requested(session), 0);
  ck_assert_int_eq(eqs_session_resumed(session), 0);
}

static void call_after_close(const char *mode)
{
  job at;
  tensor x[parameters];
  begin(x);
  open_job(&at, mode, NULL, false);
  step_and_check(&at, x, 0, &configured);
  ck_assert_int_eq(eqs_push(at.handle[0], NULL), EQS_USAGE);
  ck_assert_int_eq(eqs_push(NULL, x), EQS_USAGE);
  step_and_check(&at, x, 1, &configured); /* no harm done */
  eqs_session *closed = at.session;
  close_job(&at);
  call_wrongly(closed, at.handle[0]);
  call_wrongly(NULL, NULL);
  ck_assert_ok(eqs_session_close(&at.session)); /* closed already */
  ck_assert_int_eq(eqs_session_close(&closed), EQS_USAGE);
}

START_TEST(test_calls_after_close)
{
  in_all_arrangements(call_after_close, 1);
}
END_TEST

/* ----- data of every trainer, layers, sizes of structs ----- */

static void save_data(const char *mode)
{
  job at;
  tensor x[parameters];
  char mine[32], key[32];
  const void *bytes;
  size_t size;
  begin(x);
  open_job(&at, mode, folder, false);
  ck_assert_int_eq(eqs_session_resumed(at.session), 0); /* there was nothing */
  step_and_check(&at, x, 0, &configured);
  snprintf(mine, sizeof mine, "of trainer %d", at.trainer);
  const eqs_trainer_item items[] = {
      {.struct_size = sizeof *items, .key = "shared", .bytes = mine, .size = strlen(mine)},
      {.struct_size = sizeof *items, .key = "own", .bytes = mine, .size = strlen(mine), .per_trainer = 1},
      {.struct_size = sizeof *items, .key = "empty", .per_trainer = 1}};
  const eqs_trainer_item wrong = {.struct_size = sizeof wrong, .key = "a@b"};
  ck_assert_int_eq(eqs_checkpoint(at.session, &wrong, 1), EQS_USAGE);
  ck_assert_ok(eqs_checkpoint(at.session, items, 3));
  int trainers = at.trainers;
  close_job(&at);

  open_job(&at, mode, folder, true);
  ck_assert_int_eq(eqs_session_resumed(at.session), 1);
  ck_assert_ok(eqs_trainer_data(at.session, "shared", &bytes, &size));
  ck_assert(size == strlen("of trainer 0") && memcmp(bytes, "of trainer 0", size) == 0);
  for (int t = 0; t <= trainers; t++) {
    snprintf(key, sizeof key, "own@%d", t);
    snprintf(mine, sizeof mine, "of trainer %d", t);
    ck_assert_ok(eqs_trainer_data(at.session, key, &bytes, &size));
    ck_assert(t == trainers ? bytes == NULL : size == strlen(mine) && memcmp(bytes, mine, size) == 0);
    snprintf(key, sizeof key, "empty@%d", t);
    ck_assert_ok(eqs_trainer_data(at.session, key, &bytes, &size));
    ck_assert((bytes != NULL) == (t < trainers) && size == 0);
  }
  close_job(&at);
  MPI_Comm_rank(MPI_COMM_WORLD, &trainers);
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s/*", folder);
  if (trainers == 0) ck_assert_int_eq(system(command), 0);
}

START_TEST(test_data_of_trainers)
{
  make_folder();
  in_all_arrangements(save_data, 2);
  remove_folder();
}
END_TEST

/* A stack of layers as that many parameters; the role is given. */
static void add_layers(const char *mode)
{
  enum { layers = 3 };
  eqs_session *session;
  eqs_parameter *handle[layers], *none[layers];
  float weight[layers * elements], gradients[layers * elements], pulled[elements];
  char config[256];
  eqs_parameter_info info = {.struct_size = sizeof info,
                             .name = "h.*.attn.c_attn.weight",
                             .ndim = 3,
                             .shape = {layers, rows, cols},
                             .gradient_placement = EQS_PARTIAL,
                             .role = "router"};
  eqs_parameter_description description = {.struct_size = sizeof description};
  for (int i = 0; i < layers * elements; i++) weight[i] = (float)i, gradients[i] = 1;
  snprintf(config, sizeof config,
           "%sgroups: [{match: {name: 'h.1.*'}, rule: adamw, lr: 1}, {match: {}, rule: adamw, lr: 2}]\n", mode);
  ck_assert_ok(eqs_session_open_text(MPI_COMM_WORLD, config, NULL, &session));
  info.name = "h.attn.c_attn.weight";
  ck_assert_int_eq(eqs_parameter_add_layers(session, &info, weight, none), EQS_USAGE);
  info.name = "h.*.attn.c_attn.weight";
  ck_assert_ok(eqs_parameter_add_layers(session, &info, weight, handle));
  info.role = "nothing", info.name = "g.*.weight";
  ck_assert_int_eq(eqs_parameter_add_layers(session, &info, weight, none), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "'g.0.weight'"));
  info.name = "a/b"; /* no checkpoint could have it */
  ck_assert_int_eq(eqs_parameter_add(session, &info, weight, none), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "a/b"));
  info.name = "b", info.role = NULL;
  ck_assert_int_eq(eqs_parameter_add(session, &info, NULL, none), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "'b'"));
  info.ndim = 2, info.shape[0] = rows, info.shape[1] = cols, info.frozen = 1; /* the memory of layer 0 */
  ck_assert_int_eq(eqs_parameter_add(session, &info, weight, none), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "'h.0.attn.c_attn.weight'"));
  info.struct_size = 0;
  ck_assert_int_eq(eqs_parameter_add(session, &info, weight, none), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "struct_size"));
  ck_assert_ok(eqs_session_start(session));
  for (int l = 0; l < layers; l++) ck_assert_ok(eqs_push(handle[l], gradients + l * elements));
  ck_assert_ok(eqs_step(session));
  for (int l = 0; l < layers; l++) {
    ck_assert_ok(eqs_parameter_describe(handle[l], &description));
    ck_assert_int_eq(description.group, l != 1);
    ck_assert_ok(eqs_pull(handle[l], pulled));
    for (int i = 0; i < elements; i++) /* a first step of AdamW is lr long */
      ck_assert_at_most(fabs(pulled[i] - (weight[l * elements + i] - (l == 1 ? 1 : 2))), 1e-4);
  }
  /* a program that knows only the first members */
  eqs_step_info old = {.struct_size = sizeof(size_t) + sizeof(int64_t), .skipped = -7};
  ck_assert_ok(eqs_session_step_info(session, &old));
  ck_assert_int_eq(old.step, 1);
  ck_assert_int_eq(old.skipped, -7);
  ck_assert_ok(eqs_session_close(&session));
}

START_TEST(test_layers)
{
  in_all_arrangements(add_layers, 1);
}
END_TEST

/* Any byte of a small block counts; of a large one a change of all of it, of its ends. */
START_TEST(test_fingerprints)
{
  enum { small = 1000, large = 1 << 20 };
  char *bytes = calloc(large, 1);
  const void *pointers[] = {bytes, bytes, NULL};
  const size_t sizes[] = {small, large, 5};
  uint64_t before[3], after[3];
  ck_assert_ok(eqs_fingerprints(3, pointers, sizes, before));
  ck_assert_uint_eq(before[2], 0);
  for (int i = 0; i < small; i += 37) {
    bytes[i] ^= 1;
    ck_assert_ok(eqs_fingerprints(3, pointers, sizes, after));
    ck_assert_uint_ne(before[0], after[0]);
    bytes[i] ^= 1;
  }
  bytes[large - 1] = 1;
  ck_assert_ok(eqs_fingerprints(3, pointers, sizes, after));
  ck_assert_uint_eq(before[0], after[0]);
  ck_assert_uint_ne(before[1], after[1]);
  bytes[large - 1] = 0;
  memset(bytes + large / 3, 1, large / 250); /* a part of 1/256 or so meets a sample */
  ck_assert_ok(eqs_fingerprints(3, pointers, sizes, after));
  ck_assert_uint_ne(before[1], after[1]);
  free(bytes);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("trainer calls");
  TCase *tests = tcase_create("trainer calls");
  tcase_add_test(tests, test_put);
  tcase_add_test(tests, test_put_before_checkpoint);
  tcase_add_test(tests, test_put_differently);
  tcase_add_test(tests, test_put_at_wrong_times);
  tcase_add_test(tests, test_settings);
  tcase_add_test(tests, test_moved_groups);
  tcase_add_test(tests, test_settings_refused);
  tcase_add_test(tests, test_clip);
  tcase_add_test(tests, test_measured_late);
  tcase_add_test(tests, test_several_sessions);
  tcase_add_test(tests, test_sessions_after_failures);
  tcase_add_test_from(tests, 2, test_two_deadlines);
  tcase_add_test(tests, test_calls_after_close);
  tcase_add_test(tests, test_data_of_trainers);
  tcase_add_test(tests, test_layers);
  tcase_add_test(tests, test_fingerprints);
  suite_add_tcase(suite, tests);
  return suite;
}
