#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "bench/bench.h"
#include "bench/model.h"
#include "bench/pseudo_random.h"
#include "checkpoint/save_optimizer.h"
#include "dist/communicator.h"

static const char documentation[] =
    "Time checkpoints of weights and momenta that all ranks hold together, against dd to the same disk: "
    "`dd if=/dev/zero bs=8M conv=fsync'.\v"
    "In every run, one after the other: dd; `write', a checkpoint that is waited for; in the background the time that "
    "training waits for the copy (`stall'), and until the checkpoint is there (`background'). Medians; the ratio is "
    "the median of dd's time over that of write, run by run. Files are removed afterwards.\n\n"
    "Example:\n"
    "  mpirun -np 2 equishard bench checkpoint --directory /scratch/mine --size 1024";

enum { option_directory = 'd', option_size = 's' };

static const struct argp_option options[] = {
    {"directory", option_directory, "DIRECTORY", 0, "where to write (default: the current one)", 0},
    {"size", option_size, "MIB", 0, "of a checkpoint (default 1024)", 0},
    {0},
};

typedef struct {
  eqs_bench_options common;
  const char *directory;
  int64_t size; /* MiB */
} arguments;

static error_t parse(int key, char *value, struct argp_state *state)
{
  arguments *given = state->input;
  switch (key) {
  case ARGP_KEY_INIT: state->child_inputs[0] = &given->common; return 0;
  case option_directory: given->directory = value; return 0;
  case option_size: return eqs_parse_integer(state, "size", value, 1, 1 << 20, &given->size);
  default: return ARGP_ERR_UNKNOWN;
  }
}

/* What is timed in every run. */
typedef enum { DD, WRITE, STALL, BACKGROUND, TIMINGS } timing_index;
static const char *const timing_names[TIMINGS] = {"dd", "write", "stall", "background"};

/* The benchmark on one rank. */
typedef struct {
  MPI_Comm comm;
  int rank;
  int64_t size;         /* MiB */
  char folder[4096];    /* of its own, in the directory */
  char file[4096 + 16]; /* in the folder */
  eqs_bench_model model;
  eqs_optimizer *optimizer;
  eqs_saver *saver;
} checkpoint_bench;

static eqs_status make_folder(checkpoint_bench *bench, const char *directory)
{
  int length = snprintf(bench->folder, sizeof bench->folder, "%s/equishard-bench-XXXXXX", directory);
  if (length >= (int)sizeof bench->folder) return eqs_fail(EQS_USAGE, "--directory is too long");
  if (mkdtemp(bench->folder) != NULL) return EQS_OK;
  bench->folder[0] = '\0';
  return eqs_fail(EQS_IO, "%s: cannot make a folder in it: %s", directory, strerror(errno));
}

/* The first rank's folder is everybody's. */
static eqs_status share_folder(checkpoint_bench *bench, const char *directory)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_agree(bench->comm, bench->rank == 0 ? make_folder(bench, directory) : EQS_OK));
  EQS_TRY(eqs_broadcast(bench->comm, bench->folder, sizeof bench->folder, 0, "the folder's name"));
  snprintf(bench->file, sizeof bench->file, "%s/file", bench->folder);
cleanup:
  return status;
}

/* What was written, and that it is gone, to the disk: what follows does not pay for it. */
static void remove_files(const checkpoint_bench *bench)
{
  static const char *const names[] = {"file", "latest", "step-00000000.h5"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char path[sizeof bench->folder + 32];
    snprintf(path, sizeof path, "%s/%s", bench->folder, names[i]);
    unlink(path);
  }
  eqs_directory_sync(bench->file);
}

static void remove_folder(const checkpoint_bench *bench)
{
  if (bench->rank != 0 || bench->folder[0] == '\0') return;
  remove_files(bench);
  rmdir(bench->folder);
}

/* Square matrices of 16 MiB, or a smaller one, that have momentum. */
static eqs_status make_model(checkpoint_bench *bench, uint32_t seed)
{
  enum { order = 2048, pair = 32 /* MiB of weight and momentum */ };
  eqs_status status = EQS_OK;
  int ranks;
  MPI_Comm_size(bench->comm, &ranks);
  eqs_bench_matrices matrices = {.rule = "muon", .steps = 5, .form = "direct", .count = 1, .cols = order};
  if (bench->size >= pair) matrices.count = bench->size / pair;
  matrices.rows = bench->size >= pair ? order : bench->size * order / pair;
  EQS_TRY(eqs_agree(bench->comm, eqs_bench_model_make(&matrices, ranks, &bench->model)));
  EQS_TRY(eqs_optimizer_create(bench->model.config, bench->model.plan, bench->comm, &bench->optimizer));
  for (int64_t p = 0; p < bench->model.parameters; p++) {
    eqs_owned_matrix *matrix = bench->optimizer->parameter[p].matrix;
    if (matrix->grid == NULL) continue;
    EQS_TRY(eqs_fill_random(eqs_derive_seed(seed, 2 * p), &matrix->weight));
    EQS_TRY(eqs_fill_random(eqs_derive_seed(seed, 2 * p + 1), &matrix->momentum));
  }
  EQS_TRY(eqs_saver_create(bench->comm, &bench->saver));
cleanup:
  return status;
}

/* As many bytes as a checkpoint has, or a block more. */
static eqs_status run_dd(const checkpoint_bench *bench)
{
  extern char **environ;
  enum { block = 8 }; /* MiB */
  char output[sizeof bench->file + 3], count[32];
  char name[] = "dd", input[] = "if=/dev/zero", size[] = "bs=8M", flush[] = "conv=fsync", silent[] = "status=none";
  char *argv[] = {name, input, output, size, count, flush, silent, NULL};
  pid_t process;
  int ended = 0;
  snprintf(output, sizeof output, "of=%s", bench->file);
  snprintf(count, sizeof count, "count=%lld", (long long)(bench->size + block - 1) / block);
  int code = posix_spawnp(&process, name, NULL, NULL, argv, environ);
  if (code != 0) return eqs_fail(EQS_FAILED, "dd cannot be started: %s", strerror(code));
  while (waitpid(process, &ended, 0) < 0)
    if (errno != EINTR) return eqs_fail(EQS_FAILED, "dd is lost: %s", strerror(errno));
  if (!WIFEXITED(ended) || WEXITSTATUS(ended) != 0) return eqs_fail(EQS_IO, "dd could not write %s", bench->file);
  return EQS_OK;
}

/* Until every rank's part is done. */
static eqs_status wait_for_saver(checkpoint_bench *bench)
{
  eqs_status status = EQS_OK;
  bool moved = false;
  for (int looks = 0; !eqs_saver_idle(bench->saver);) {
    EQS_TRY(eqs_saver_advance(bench->saver, &moved));
    eqs_backoff(&looks);
  }
  EQS_TRY(eqs_agree(bench->comm, eqs_saver_result(bench->saver)));
cleanup:
  return status;
}

/* Begin what is timed together; its seconds on the slowest rank at the end. */
static eqs_status begin_timing(const checkpoint_bench *bench, double *begin)
{
  if (bench->rank == 0) remove_files(bench);
  eqs_status status = eqs_agree(bench->comm, EQS_OK);
  *begin = eqs_clock();
  return status;
}

static eqs_status run_once(checkpoint_bench *bench, double seconds[TIMINGS])
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_directory to = {.path = bench->folder, .keep = 1};
  double begin;
  EQS_TRY(begin_timing(bench, &begin));
  EQS_TRY(eqs_agree(bench->comm, bench->rank == 0 ? run_dd(bench) : EQS_OK));
  seconds[DD] = eqs_clock() - begin;

  EQS_TRY(begin_timing(bench, &begin));
  EQS_TRY(eqs_checkpoint_write_optimizer(bench->optimizer, bench->file));
  seconds[WRITE] = eqs_clock() - begin;

  EQS_TRY(begin_timing(bench, &begin));
  EQS_TRY(eqs_checkpoint_save_optimizer(bench->optimizer, &to, bench->saver, NULL, 0));
  seconds[STALL] = eqs_clock() - begin;
  EQS_TRY(wait_for_saver(bench));
  seconds[BACKGROUND] = eqs_clock() - begin;
cleanup:
  return status;
}

/* Of all runs: the medians, and that of dd's time over write's. */
typedef struct {
  double seconds[TIMINGS], ratio;
} results;

static eqs_status run_often(checkpoint_bench *bench, int warmup, int count, results *found)
{
  eqs_status status = EQS_OK;
  double *seconds[TIMINGS] = {NULL}, *ratio = NULL, unused[TIMINGS], once[TIMINGS];
  for (int t = 0; t < TIMINGS; t++) EQS_TRY(eqs_allocate(&seconds[t], count, sizeof **seconds));
  EQS_TRY(eqs_allocate(&ratio, count, sizeof *ratio));
  for (int i = 0; i < warmup; i++) EQS_TRY(run_once(bench, unused));
  for (int i = 0; i < count; i++) {
    EQS_TRY(run_once(bench, once));
    for (int t = 0; t < TIMINGS; t++) seconds[t][i] = once[t];
    ratio[i] = once[DD] / once[WRITE];
  }
  for (int t = 0; t < TIMINGS; t++) found->seconds[t] = eqs_median(seconds[t], count);
  found->ratio = eqs_median(ratio, count);
cleanup:
  for (int t = 0; t < TIMINGS; t++) free(seconds[t]);
  free(ratio);
  return status;
}

static json_t *describe(const checkpoint_bench *bench, int ranks, const results *found)
{
  json_t *object = json_pack("{s:s, s:I, s:i, s:f}", "case", "checkpoint", "mib", (json_int_t)bench->size, "ranks",
                             ranks, "ratio", found->ratio);
  for (int t = 0; t < TIMINGS; t++) json_object_set_new(object, timing_names[t], json_real(found->seconds[t]));
  return json_pack("[o]", object);
}

static void print_table(const checkpoint_bench *bench, int ranks, const results *found)
{
  printf("checkpoint of %lld MiB, %d ranks\n%-12s %10s %10s\n", (long long)bench->size, ranks, "", "seconds", "MiB/s");
  for (int t = 0; t < TIMINGS; t++)
    printf("%-12s %10.3f %10.0f\n", timing_names[t], found->seconds[t], (double)bench->size / found->seconds[t]);
  printf("dd / write   %10.2f\n", found->ratio);
}

static eqs_status print(const checkpoint_bench *bench, const eqs_bench *shared, const results *found)
{
  json_t *array = describe(bench, shared->ranks, found);
  eqs_status status = eqs_bench_write_json(shared->options, array);
  json_decref(array);
  if (status == EQS_OK && !shared->options->json) print_table(bench, shared->ranks, found);
  return status;
}

static eqs_status measure(eqs_bench *shared, const void *context)
{
  const arguments *given = context;
  eqs_status status = EQS_OK;
  checkpoint_bench bench = {.comm = shared->comm, .size = given->size};
  results found = {0};
  MPI_Comm_rank(bench.comm, &bench.rank);
  EQS_TRY(share_folder(&bench, given->directory));
  EQS_TRY(make_model(&bench, shared->options->seed));
  EQS_TRY(run_often(&bench, (int)shared->options->warmup, (int)shared->options->repeat, &found));
  EQS_TRY(eqs_agree(bench.comm, bench.rank == 0 ? print(&bench, shared, &found) : EQS_OK));
cleanup:
  eqs_saver_destroy(&bench.saver);
  eqs_optimizer_destroy(&bench.optimizer);
  eqs_bench_model_free(&bench.model);
  remove_folder(&bench);
  return status;
}

eqs_status eqs_bench_checkpoint(int argc, char **argv)
{
  const struct argp_child children[] = {{&eqs_bench_argp, 0, NULL, 0}, {0}};
  const struct argp argp = {.options = options, .parser = parse, .doc = documentation, .children = children};
  arguments given = {.common = eqs_bench_defaults(), .directory = ".", .size = 1024};
  bool done = false;
  eqs_status status = eqs_parse_arguments(&argp, argc, argv, eqs_world_rank() == 0, &given, &done);
  if (status != EQS_OK || done) return status;
  given.common.given = (eqs_yardsticks){.peak = 1, .triad = 1}; /* dd is the only one */
  return eqs_bench_run(&given.common, measure, &given);
}
