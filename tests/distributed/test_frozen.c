/*
 * Frozen parameters: at rest in steps, in every checkpoint with the state that a restored one has of them, trained
 * again by a later restart as if nothing had been. In every arrangement of ranks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "checkpoint/read_contents.h"
#include "folder.h"
#include "harness.h"

enum { EMBED, QUERY, NORM, WIDE, EXTRA, tensors };

#define TENSOR(name_, type_, dtype_, weight_, ndim_, ...)                                                              \
  {                                                                                                                    \
    .struct_size = sizeof(eqs_parameter_info), .name = name_, .module_type = type_, .dtype = dtype_, .ndim = ndim_,    \
    .shape = {__VA_ARGS__}, .gradient_placement = EQS_PARTIAL, .weight_placement = weight_,                            \
  }

static const eqs_parameter_info model[tensors] = {
    [EMBED] = TENSOR("embed.weight", "Embedding", EQS_FLOAT32, EQS_REPLICATE, 2, 30, 8),
    [QUERY] = TENSOR("attn.q_proj.weight", "Linear", EQS_FLOAT32, EQS_REPLICATE, 2, 24, 16), /* muon */
    [NORM] = TENSOR("norm.weight", "Norm", EQS_FLOAT32, EQS_SHARD, 1, 17),                   /* adamw */
    [WIDE] = TENSOR("wide.weight", "Linear", EQS_BFLOAT16, EQS_REPLICATE, 2, 700, 900),      /* several messages */
    [EXTRA] = TENSOR("extra.weight", "Linear", EQS_FLOAT32, EQS_REPLICATE, 2, 5, 3),
};

static int64_t element_count(int p)
{
  int64_t count = 1;
  for (int d = 0; d < model[p].ndim; d++) count *= model[p].shape[d];
  return count;
}

/* ----- a training session ----- */

typedef struct {
  eqs_session *session;
  eqs_parameter *parameter[tensors];
  int count; /* of the model's parameters */
  unsigned frozen;
  int trainer, trainers;
} training;

/* The rows of the flat tensor that this trainer holds of a weight. */
static void held(const training *job, int p, int64_t *first, int64_t *end)
{
  int64_t count = element_count(p), chunk = (count + job->trainers - 1) / job->trainers; /* NORM has one dimension */
  *first = 0, *end = count;
  if (model[p].weight_placement != EQS_SHARD) return;
  *first = chunk * job->trainer < count ? chunk * job->trainer : count;
  *end = *first + chunk < count ? *first + chunk : count;
}

/* Values of the whole tensor from a seed, in its dtype; a weight's are those of the rows that the trainer holds. */
static void *make_tensor(const training *job, int p, uint64_t seed, bool weight)
{
  int64_t first = 0, end = element_count(p);
  float *values;
  void *tensor;
  if (weight) held(job, p, &first, &end);
  ck_assert_ok(eqs_allocate(&values, end - first + 1, sizeof *values));
  ck_assert_ok(eqs_allocate(&tensor, end - first + 1, sizeof *values));
  for (int64_t i = first; i < end; i++) values[i - first] = (float)test_uniform(1000 * seed + (uint64_t)p, (uint64_t)i);
  eqs_from_float(model[p].dtype, values, tensor, end - first);
  free(values);
  return tensor;
}

static void *pull(const training *job, int p)
{
  void *weight = make_tensor(job, p, 77, true);
  ck_assert_ok(eqs_pull(job->parameter[p], weight));
  return weight;
}

static void assert_same(const training *job, int p, const void *a, const void *b)
{
  int64_t first, end;
  held(job, p, &first, &end);
  ck_assert_msg(memcmp(a, b, (size_t)(end - first) * eqs_dtype_size(model[p].dtype)) == 0, "%s: other bits",
                model[p].name);
}

/* Open a session with the first `count` parameters, their initial weights from a seed, and start it. */
static training open_session(const char *config, int count, unsigned frozen, uint64_t seed, const char *resume)
{
  training job = {.count = count, .frozen = frozen};
  MPI_Comm trainers;
  void *weight[tensors];
  ck_assert_ok(eqs_session_open(MPI_COMM_WORLD, config, &job.session));
  ck_assert_ok(eqs_session_trainers(job.session, &trainers));
  MPI_Comm_rank(trainers, &job.trainer);
  MPI_Comm_size(trainers, &job.trainers);
  for (int p = 0; p < count; p++) {
    eqs_parameter_info info = model[p];
    info.frozen = frozen >> p & 1;
    weight[p] = make_tensor(&job, p, seed, true);
    ck_assert_ok(eqs_parameter_add(job.session, &info, weight[p], &job.parameter[p]));
  }
  if (resume != NULL) ck_assert_ok(eqs_session_resume(job.session, *resume != '\0' ? resume : NULL));
  ck_assert_ok(eqs_session_start(job.session));
  for (int p = 0; p < count; p++) free(weight[p]);
  return job;
}

static void take_step(training *job, uint64_t seed)
{
  void *gradient[tensors];
  for (int p = job->count - 1; p >= 0; p--) {
    gradient[p] = make_tensor(job, p, seed, false);
    if (!(job->frozen >> p & 1)) ck_assert_ok(eqs_push(job->parameter[p], gradient[p]));
  }
  ck_assert_ok(eqs_step(job->session));
  for (int p = 0; p < job->count; p++) free(gradient[p]);
}

static void check_description(const training *job, int p, int group, int in_checkpoint, int64_t step)
{
  eqs_parameter_description description = {.struct_size = sizeof description};
  ck_assert_ok(eqs_parameter_describe(job->parameter[p], &description));
  ck_assert_int_eq(description.group, group);
  ck_assert_int_eq(description.in_checkpoint, in_checkpoint);
  ck_assert_int_eq(description.step, step);
}

/* Groups for all, or for the embedding alone: what is frozen needs none. */
static const char *write_config(int trainers, const char *name, bool few_groups)
{
  static char path[2][96];
  snprintf(path[few_groups], sizeof path[0], "%s/config-%d.yaml", folder, few_groups);
  MPI_Barrier(MPI_COMM_WORLD);
  if (test_rank() == 0) {
    FILE *file = fopen(path[few_groups], "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file, "mode: %s\ndeadline: 30\ncheckpoint: {directory: %s/%s-%d, keep: 0}\ngroups:\n",
            trainers == test_size() ? "embedded" : "service", folder, name, trainers);
    fprintf(file, "  - {match: {role: embedding}, rule: row_norm, lr: 0.1}\n");
    if (!few_groups)
      fprintf(file, "  - {match: {role: attention}, rule: muon, lr: 0.02}\n  - {match: {}, rule: adamw, lr: 0.01}\n");
    fclose(file);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  return path[few_groups];
}

/* Run `body` on one trainer, half of the ranks and all of them, which is embedded; owners serve so many sessions. */
static void in_some_arrangements(void (*body)(const char *all_groups, const char *few_groups), int sessions,
                                 const char *name)
{
  for (int trainers = 1; trainers <= test_size(); trainers++) {
    if (trainers != 1 && trainers != test_size() / 2 && trainers != test_size()) continue;
    const char *all = write_config(trainers, name, false), *few = write_config(trainers, name, true);
    if (test_rank() < trainers)
      body(all, few);
    else
      for (int session = 0; session < sessions; session++) ck_assert_ok(eqs_serve(MPI_COMM_WORLD));
  }
}

/* ----- restarts ----- */

enum { BUT_EMBED = 1u << QUERY | 1u << NORM | 1u << WIDE | 1u << EXTRA, SEEDS = 10 };

/*
 * Two steps with all but one parameter of the model (1); two more with three of them frozen, whose initial values are
 * others, and another frozen one that the checkpoint does not have (2); a restart without any step (3); all trained
 * again (4), as if they had been all the time: the reference (5) goes on from the first checkpoint.
 */
static void freeze_and_train_again(const char *all_groups, const char *few_groups)
{
  float nothing[1];
  void *before[tensors], *weight, *added;
  char first[128];
  training job = open_session(all_groups, EXTRA, 0, 1, NULL); /* 1 */
  take_step(&job, SEEDS);
  take_step(&job, SEEDS + 1);
  for (int p = 0; p < EXTRA; p++) before[p] = pull(&job, p);
  ck_assert_ok(eqs_checkpoint(job.session, NULL, 0));
  ck_assert_ok(eqs_session_close(&job.session));

  job = open_session(few_groups, tensors, BUT_EMBED, 2, ""); /* 2: no group matches what is frozen; not `partial` */
  check_description(&job, EMBED, 0, 1, 2);
  for (int p = QUERY; p < EXTRA; p++) check_description(&job, p, -1, 1, 2);
  check_description(&job, EXTRA, -1, 0, 0);
  for (int p = 0; p < EXTRA; p++) {
    weight = pull(&job, p);
    assert_same(&job, p, weight, before[p]);
    free(weight);
  }
  ck_assert_int_eq(eqs_pull(job.parameter[QUERY], nothing), EQS_USAGE); /* once */
  ck_assert_int_eq(eqs_push(job.parameter[QUERY], nothing), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "'attn.q_proj.weight' is frozen"));
  take_step(&job, SEEDS + 2);
  take_step(&job, SEEDS + 3);
  ck_assert_int_eq(eqs_pull(job.parameter[NORM], nothing), EQS_USAGE);
  weight = pull(&job, EMBED);
  ck_assert(memcmp(weight, before[EMBED], 30 * 8 * sizeof(float)) != 0); /* that one was trained */
  free(before[EMBED]);
  before[EMBED] = weight;
  added = make_tensor(&job, EXTRA, 2, true);
  ck_assert_ok(eqs_checkpoint(job.session, NULL, 0));
  ck_assert_ok(eqs_session_close(&job.session));

  job = open_session(few_groups, tensors, BUT_EMBED, 3, ""); /* 3 */
  for (int p = EXTRA; p >= 0; p--) {
    check_description(&job, p, p == EMBED ? 0 : -1, 1, p == EMBED ? 4 : p == EXTRA ? 0 : 2);
    weight = pull(&job, p);
    assert_same(&job, p, weight, p == EXTRA ? added : before[p]);
    free(weight);
  }
  take_step(&job, SEEDS + 4);
  ck_assert_ok(eqs_checkpoint(job.session, NULL, 0));
  ck_assert_ok(eqs_session_close(&job.session));

  void *trained[tensors];
  job = open_session(all_groups, tensors, 0, 4, ""); /* 4 */
  for (int p = QUERY; p < tensors; p++) check_description(&job, p, p == QUERY ? 1 : 2, 1, p == EXTRA ? 0 : 2);
  take_step(&job, SEEDS + 5);
  for (int p = QUERY; p < tensors; p++) trained[p] = pull(&job, p);
  ck_assert_ok(eqs_session_close(&job.session));

  snprintf(first, sizeof first, "%s/restart-%d/step-00000002.h5", folder, job.trainers);
  job = open_session(all_groups, EXTRA, 0, 5, first); /* 5 */
  take_step(&job, SEEDS + 5);
  for (int p = QUERY; p < EXTRA; p++) {
    weight = pull(&job, p);
    assert_same(&job, p, trained[p], weight);
    free(weight);
  }
  ck_assert_ok(eqs_session_close(&job.session));
  for (int p = 0; p < EXTRA; p++) free(before[p]);
  for (int p = QUERY; p < tensors; p++) free(trained[p]);
  free(added);
}

/* What a checkpoint says of frozen parameters is what the one before them said. */
static void check_files(int trainers)
{
  char path[2][128];
  eqs_checkpoint_contents contents[2];
  for (int i = 0; i < 2; i++) {
    snprintf(path[i], sizeof path[i], "%s/restart-%d/step-%08d.h5", folder, trainers, i == 0 ? 2 : 5);
    ck_assert_ok(eqs_contents_read(path[i], &contents[i]));
  }
  ck_assert_int_eq(contents[0].parameters, EXTRA);
  ck_assert_int_eq(contents[1].parameters, tensors);
  for (int64_t p = 0; p < contents[1].parameters; p++) {
    const eqs_checkpoint_parameter *parameter = &contents[1].parameter[p];
    const eqs_checkpoint_parameter *old = eqs_contents_find(&contents[0], parameter->name);
    int marked = 0, grouped = 0;
    for (int a = 0; a < parameter->attributes; a++) marked += strcmp(parameter->attribute[a].name, "frozen") == 0;
    for (int a = 0; a < parameter->attributes; a++) grouped += strcmp(parameter->attribute[a].name, "group") == 0;
    ck_assert_int_eq(grouped, !marked); /* frozen, it is in no group any more */
    ck_assert_int_eq(marked, strcmp(parameter->name, "embed.weight") != 0);
    ck_assert((old == NULL) == (strcmp(parameter->name, "extra.weight") == 0));
    if (old == NULL) ck_assert_int_eq(parameter->tensors, 1);
    if (old == NULL || !marked) continue;
    ck_assert_int_eq(parameter->tensors, old->tensors);
    ck_assert_int_eq(parameter->attributes, old->attributes); /* one more, one less */
    ck_assert_int_eq(eqs_parameter_step(parameter), 2);
    for (int t = 0; t < parameter->tensors; t++) ck_assert_str_eq(parameter->tensor[t].name, old->tensor[t].name);
  }
  for (int i = 0; i < 2; i++) eqs_contents_free(&contents[i]);
}

START_TEST(test_restarts)
{
  make_folder();
  in_some_arrangements(freeze_and_train_again, 5, "restart");
  MPI_Barrier(MPI_COMM_WORLD);
  if (test_rank() == 0) check_files(1);
  if (test_rank() == 0) check_files(test_size());
  remove_folder();
}
END_TEST

/* ----- a weight that is put ----- */

static void put_frozen(const char *all_groups, const char *few_groups)
{
  void *put[tensors], *weight;
  (void)all_groups;
  training job = open_session(few_groups, EXTRA, BUT_EMBED, 1, NULL);
  for (int p = QUERY; p < EXTRA; p++) {
    put[p] = make_tensor(&job, p, 2, true);
    ck_assert_ok(eqs_put(job.parameter[p], put[p])); /* while nobody has pulled what it was */
  }
  take_step(&job, SEEDS);
  ck_assert_ok(eqs_checkpoint(job.session, NULL, 0));
  ck_assert_ok(eqs_session_close(&job.session));

  job = open_session(few_groups, EXTRA, BUT_EMBED, 3, "");
  for (int p = QUERY; p < EXTRA; p++) {
    weight = pull(&job, p);
    assert_same(&job, p, weight, put[p]);
    free(weight);
    free(put[p]);
  }
  ck_assert_ok(eqs_session_close(&job.session));
}

START_TEST(test_put)
{
  make_folder();
  in_some_arrangements(put_frozen, 2, "put");
  remove_folder();
}
END_TEST

/* ----- no step, and no trained parameter ----- */

/* The norm of a step is that of what is trained; a session of frozen parameters alone takes steps that do nothing. */
static void rest(const char *all_groups, const char *few_groups)
{
  eqs_step_info info = {.struct_size = sizeof info};
  float ones[30 * 8], *weight;
  (void)all_groups;
  training job = open_session(few_groups, EXTRA, BUT_EMBED, 1, NULL);
  for (int i = 0; i < 30 * 8; i++) ones[i] = 1;
  ck_assert_ok(eqs_push(job.parameter[EMBED], ones));
  ck_assert_ok(eqs_step(job.session));
  ck_assert_ok(eqs_session_step_info(job.session, &info));
  ck_assert_double_eq_tol(info.gradient_norm, 15.491933384829668, 1e-6); /* √240 */
  ck_assert_ok(eqs_session_close(&job.session));

  job = open_session(few_groups, EXTRA, BUT_EMBED | 1u << EMBED, 1, NULL);
  ck_assert_ok(eqs_step(job.session));
  ck_assert_ok(eqs_step(job.session));
  ck_assert_ok(eqs_session_step_info(job.session, &info));
  ck_assert_double_eq(info.gradient_norm, 0);
  ck_assert_int_eq(eqs_pull(job.parameter[EMBED], ones), EQS_USAGE); /* it was thrown away at the first step */
  ck_assert_ok(eqs_checkpoint(job.session, NULL, 0));
  ck_assert_ok(eqs_session_close(&job.session));

  job = open_session(few_groups, EXTRA, BUT_EMBED | 1u << EMBED, 2, "");
  weight = pull(&job, EMBED);
  for (int i = 0; i < 30 * 8; i++) ck_assert_float_eq(weight[i], (float)test_uniform(1000, (uint64_t)i));
  free(weight);
  ck_assert_ok(eqs_session_close(&job.session));
}

START_TEST(test_rest)
{
  make_folder();
  in_some_arrangements(rest, 3, "rest");
  remove_folder();
}
END_TEST

/* More than fits into what is under way at once, and nobody takes it: steps do not wait for it. */
static void leave_large(const char *all_groups, const char *few_groups)
{
  training job = {.count = 1};
  eqs_parameter *large;
  eqs_parameter_info info = model[EMBED];
  float *weight, *small = make_tensor(&job, EMBED, 1, false);
  (void)all_groups;
  ck_assert_ok(eqs_allocate(&weight, 3000 * 1000, sizeof *weight));
  ck_assert_ok(eqs_session_open(MPI_COMM_WORLD, few_groups, &job.session));
  ck_assert_ok(eqs_parameter_add(job.session, &info, small, &job.parameter[EMBED]));
  info.name = "large.weight";
  info.frozen = 1;
  info.shape[0] = 3000, info.shape[1] = 1000;
  ck_assert_ok(eqs_parameter_add(job.session, &info, weight, &large));
  ck_assert_ok(eqs_session_start(job.session));
  take_step(&job, SEEDS);
  ck_assert_ok(eqs_pull(job.parameter[EMBED], small));
  take_step(&job, SEEDS + 1);
  ck_assert_ok(eqs_session_close(&job.session));
  free(small);
  free(weight);
}

START_TEST(test_nobody_pulls)
{
  make_folder();
  in_some_arrangements(leave_large, 1, "large");
  remove_folder();
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("frozen");
  TCase *cases = tcase_create("frozen");
  tcase_set_timeout(cases, 0);
  tcase_add_test(cases, test_restarts);
  tcase_add_test(cases, test_put);
  tcase_add_test(cases, test_rest);
  tcase_add_test(cases, test_nobody_pulls);
  suite_add_tcase(suite, cases);
  return suite;
}
