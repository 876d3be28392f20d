/*
 * A trainer for the tests of faults and restarts: `trainer CONFIGURATION [key=value ...]`.
 *
 *   steps=N      the step to end at (30)
 *   resume=PATH  restore a checkpoint; with nothing behind the '=', the configuration's newest
 *   pause=MS     sleep in every step
 *   size=N       the model's width (16)
 *   shape=1      the last trainer describes a parameter in another shape
 *   other=1      another model: one parameter has another name, one another shape
 *   frozen=PART  parameters with PART in their name are frozen
 *   without=PART the service does not know of them
 *   prefix=TEXT  goes before all names
 *   nan=STEP     the last trainer's gradient is not finite in this step
 *   own=0        no checkpoint at the end but one that is due
 *
 * The loss is |W - target|²/2 plus noise that depends on the step and the sample: any number of trainers sees the
 * same samples. Writes a checkpoint when one is due, and at the end; the first trainer prints the steps it takes.
 */
#define _POSIX_C_SOURCE 200809L
#include <equishard.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { batch = 12, all_parameters = 6 };

static int parameters; /* that are trained */

typedef struct {
  eqs_parameter_info info;
  char name[64];
  uint64_t number; /* among all of the model, whatever is frozen */
  eqs_parameter *handle;
  int64_t count;
  float *weight, *gradient;
} tensor;

/* Equishard prints what went wrong in collective calls; the program only has to end with the status. */
static void check(eqs_status status)
{
  if (status != EQS_OK) MPI_Abort(MPI_COMM_WORLD, (int)status);
}

/* The value of `key=` among the arguments, or NULL. */
static const char *option(char **argv, const char *key)
{
  size_t length = strlen(key);
  for (int i = 2; argv[i] != NULL; i++)
    if (strncmp(argv[i], key, length) == 0 && argv[i][length] == '=') return argv[i] + length + 1;
  return NULL;
}

static long number(char **argv, const char *key, long otherwise)
{
  const char *value = option(argv, key);
  return value ? atol(value) : otherwise;
}

/* In [-1, 1), of five numbers (splitmix64). */
static float noise(uint64_t parameter, uint64_t step, uint64_t sample, uint64_t index)
{
  uint64_t x = (((parameter * 131 + step) * 65537 + sample) << 28) + index;
  x = (x + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 30)) * 0x94d049bb133111ebu;
  return (float)((double)(x >> 11) / (double)(1ull << 52) - 1);
}

static void make_model(tensor *model, char **argv)
{
  const char *frozen = option(argv, "frozen"), *without = option(argv, "without"), *prefix = option(argv, "prefix");
  const int64_t width = number(argv, "size", 16);
  const int other = option(argv, "other") != NULL;
  const eqs_parameter_info infos[all_parameters] = {
      {.name = "model.embed_tokens.weight", .module_type = "Embedding", .ndim = 2, .shape = {4 * width, width}},
      {.name = other ? "model.layers.0.self_attn.k_proj.weight" : "model.layers.0.self_attn.q_proj.weight",
       .ndim = 2,
       .shape = {width, width}},
      {.name = "model.layers.0.mlp.up_proj.weight", .ndim = 2, .shape = {2 * width, width + other}},
      {.name = "model.layers.0.mlp.down_proj.weight", .ndim = 2, .shape = {width, 2 * width}},
      {.name = "model.norm.weight", .ndim = 1, .shape = {width}},
      {.name = "lm_head.weight", .ndim = 2, .shape = {4 * width, width}},
  };
  for (int p = 0; p < all_parameters; p++) {
    if (without && strstr(infos[p].name, without)) continue;
    tensor *t = &model[parameters++];
    t->info = infos[p];
    t->info.frozen = frozen && strstr(infos[p].name, frozen);
    t->number = (uint64_t)p;
    snprintf(t->name, sizeof t->name, "%s%s", prefix ? prefix : "", infos[p].name);
    t->info.name = t->name;
    t->info.struct_size = sizeof t->info;
    t->info.gradient_placement = EQS_PARTIAL;
    t->count = t->info.shape[0] * (t->info.ndim == 2 ? t->info.shape[1] : 1);
    t->weight = malloc((size_t)t->count * sizeof *t->weight);
    t->gradient = malloc((size_t)t->count * sizeof *t->gradient);
    for (int64_t i = 0; i < t->count; i++) t->weight[i] = noise(t->number, 0, 0, (uint64_t)i);
  }
}

/* Of this trainer's share of the samples; the service takes the mean over trainers, whose shares may differ. */
static void backward(tensor *model, int64_t step, int trainer, int trainers)
{
  int first = trainer * batch / trainers, end = (trainer + 1) * batch / trainers;
  float share = (float)trainers / batch;
  for (int p = 0; p < parameters; p++) {
    for (int64_t i = 0; i < model[p].count; i++) {
      float target = noise(model[p].number, 0, 1, (uint64_t)i), sum = 0;
      for (int s = first; s < end; s++)
        sum += model[p].weight[i] - target + 0.5f * noise(model[p].number, (uint64_t)step, (uint64_t)s, (uint64_t)i);
      model[p].gradient[i] = sum * share;
    }
  }
}

static void write_checkpoint(eqs_session *session, int64_t step)
{
  const eqs_trainer_item item = {sizeof item, "step", &step, sizeof step, 0};
  check(eqs_checkpoint(session, &item, 1));
}

/* The step that the restored checkpoint was written at, as the trainer handed it over. */
static void check_trainer_data(eqs_session *session, int64_t step)
{
  const void *bytes;
  size_t size;
  check(eqs_trainer_data(session, "step", &bytes, &size));
  if (size != sizeof step || memcmp(bytes, &step, size) != 0) {
    fprintf(stderr, "trainer: the trainer's data is not what was handed over\n");
    MPI_Abort(MPI_COMM_WORLD, EQS_FAILED);
  }
}

int main(int argc, char **argv)
{
  MPI_Init(&argc, &argv);
  eqs_session *session;
  MPI_Comm trainers_comm;
  tensor model[all_parameters];
  eqs_step_info done = {.struct_size = sizeof done};
  int trainer, trainers;
  check(eqs_session_open(MPI_COMM_WORLD, argc > 1 ? argv[1] : NULL, &session));
  check(eqs_session_trainers(session, &trainers_comm));
  MPI_Comm_rank(trainers_comm, &trainer);
  MPI_Comm_size(trainers_comm, &trainers);
  int last = trainer == trainers - 1;

  make_model(model, argv);
  if (last && option(argv, "shape")) model[1].info.shape[1]--;
  for (int p = 0; p < parameters; p++)
    check(eqs_parameter_add(session, &model[p].info, model[p].weight, &model[p].handle));
  const char *resume = option(argv, "resume");
  if (resume) check(eqs_session_resume(session, *resume ? resume : NULL));
  check(eqs_session_start(session));
  check(eqs_session_step_info(session, &done));
  if (resume) check_trainer_data(session, done.step);
  for (int p = 0; p < parameters; p++) check(eqs_pull(model[p].handle, model[p].weight));

  long pause = number(argv, "pause", 0), steps = number(argv, "steps", 30), nan_step = number(argv, "nan", -1);
  long own = number(argv, "own", 1);
  for (int64_t step = done.step; step < steps; step++) {
    backward(model, step, trainer, trainers);
    if (last && step == nan_step) model[2].gradient[3] = NAN;
    nanosleep(&(struct timespec){pause / 1000, pause % 1000 * 1000000}, NULL);
    for (int p = parameters - 1; p >= 0; p--)
      if (!model[p].info.frozen) check(eqs_push(model[p].handle, model[p].gradient));
    check(eqs_step(session));
    check(eqs_session_step_info(session, &done));
    for (int p = 0; p < parameters && !done.skipped_last; p++)
      if (!model[p].info.frozen) check(eqs_pull(model[p].handle, model[p].weight));
    if (trainer == 0) printf("step %lld%s\n", (long long)step, done.skipped_last ? " skipped" : ""), fflush(stdout);
    if (eqs_stop_requested(session)) break;
    if (eqs_checkpoint_due(session) && step + 1 < steps) write_checkpoint(session, done.step);
  }
  if (own || eqs_checkpoint_due(session)) write_checkpoint(session, done.step);
  check(eqs_session_close(&session));
  for (int p = 0; p < parameters; p++) {
    free(model[p].weight);
    free(model[p].gradient);
  }
  MPI_Finalize();
  return 0;
}
