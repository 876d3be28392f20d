/* `equishard bench`: dispatch to the benchmarks, and the run that they share. */
#include "bench/bench.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dist/communicator.h"

typedef struct {
  const char *name, *about;
  eqs_status (*run)(int argc, char **argv);
} benchmark;

static const benchmark benchmarks[] = {
    {"polar", "polar factors of distributed matrices", eqs_bench_polar},
    {"rules", "optimizer steps of matrices under each rule", eqs_bench_rules},
    {"step", "an optimizer step over a whole model", eqs_bench_step},
    {"service", "training steps of synthetic trainers", eqs_bench_service},
    {"checkpoint", "writing checkpoints, against dd", eqs_bench_checkpoint},
    {"calibrate", "the machine's speeds, as a file for the plan", eqs_bench_calibrate},
};
enum { benchmark_count = sizeof benchmarks / sizeof *benchmarks };

static void print_help(void)
{
  printf("Usage: equishard bench BENCHMARK [OPTION...]\n"
         "Measure on all ranks of the job: time, work and bytes, against what the machine can do at best.\n\n");
  for (int i = 0; i < benchmark_count; i++) printf("  %-10s %s\n", benchmarks[i].name, benchmarks[i].about);
  printf("\nPeak is the float32 product of order 2048 by BLIS, triad a[i] = b[i] + s c[i] over arrays much larger\n"
         "than the cache, 12 bytes per element; both on all ranks at the same time, summed, measured before and\n"
         "after the cases; the larger median counts.\n"
         "Minimal work of K quintic steps on m x n, m <= n: min(3m^2 n + (4K-3)m^3, K(3m^2 n + m^3)). Minimal bytes:\n"
         "gradient, weight and states read, weight and states written. Efficiency is minimal work / (peak time),\n"
         "or minimal bytes / (triad time) for rules without polar factor; combined, the sum of the two times against\n"
         "the time. Time is that of the slowest rank, the median of the runs.\n\n"
         "Give each rank a core (mpirun --bind-to core) and BLIS one thread.\n"
         "`equishard bench BENCHMARK --help' tells more.\n\n"
         "Example:\n  mpirun -np 2 equishard bench polar --size 2048x2048 --grid 2x1\n");
}

static eqs_status wrong_usage(const char *problem, const char *word)
{
  if (eqs_world_rank() == 0) fprintf(stderr, "equishard bench: %s%s\nTry `equishard bench --help'.\n", problem, word);
  return EQS_USAGE;
}

eqs_status eqs_command_bench(int argc, char **argv)
{
  if (argc < 2) return wrong_usage("a benchmark is missing", "");
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0) {
    if (eqs_world_rank() == 0) print_help();
    return EQS_OK;
  }
  for (int i = 0; i < benchmark_count; i++) {
    if (strcmp(argv[1], benchmarks[i].name) != 0) continue;
    char name[48];
    snprintf(name, sizeof name, "equishard bench %s", benchmarks[i].name);
    argv[1] = name;
    return benchmarks[i].run(argc - 1, argv + 1);
  }
  return wrong_usage(argv[1][0] == '-' ? "unknown option " : "unknown benchmark ", argv[1]);
}

eqs_status eqs_check_grids(const eqs_bench *bench, const eqs_pair_list *grids)
{
  for (int g = 0; g < grids->count; g++) {
    const int64_t *grid = grids->pair[g];
    if (grid[0] > 0 && grid[0] > bench->ranks / grid[1])
      return eqs_fail(EQS_USAGE, "a grid of %lldx%lld does not fit %d ranks", (long long)grid[0], (long long)grid[1],
                      bench->ranks);
  }
  return EQS_OK;
}

/* What is given is not measured. */
static eqs_status measure_yardsticks(eqs_bench *bench)
{
  const eqs_yardsticks *given = &bench->options->given;
  eqs_yardsticks *yardsticks = &bench->table.yardsticks;
  eqs_status status = EQS_OK;
  if (given->peak == 0 || given->triad == 0) status = eqs_measure_yardsticks(bench->comm, yardsticks);
  if (given->peak > 0) yardsticks->peak = given->peak;
  if (given->triad > 0) yardsticks->triad = given->triad;
  return status;
}

static eqs_status write_json(FILE *stream, const char *path, const json_t *array)
{
  bool failed = json_dumpf(array, stream, JSON_INDENT(1) | JSON_REAL_PRECISION(15)) != 0;
  failed = fputc('\n', stream) == EOF || fflush(stream) != 0 || failed;
  return failed ? eqs_fail(EQS_IO, "%s: could not be written: %s", path, strerror(errno)) : EQS_OK;
}

eqs_status eqs_bench_write_json(const eqs_bench_options *options, json_t *array)
{
  eqs_status status = EQS_OK;
  FILE *file = NULL;
  const char *path = options->json_path;
  if (path != NULL) {
    file = fopen(path, "w");
    if (file == NULL) EQS_TRY(eqs_fail(EQS_IO, "%s: cannot be written: %s", path, strerror(errno)));
    EQS_TRY(write_json(file, path, array));
  }
  if (options->json) EQS_TRY(write_json(stdout, "standard output", array));
cleanup:
  if (file != NULL) fclose(file);
  return status;
}

/* A benchmark that has no cases has written for itself. */
static eqs_status print(const eqs_bench *bench)
{
  if (bench->table.cases == 0) return EQS_OK;
  json_t *array = eqs_bench_table_json(&bench->table);
  eqs_status status = eqs_bench_write_json(bench->options, array);
  json_decref(array);
  if (status == EQS_OK && !bench->options->json) eqs_bench_table_print(&bench->table);
  return status;
}

static eqs_status run_on(eqs_bench *bench, eqs_status (*cases)(eqs_bench *bench, const void *given), const void *given)
{
  eqs_status status = EQS_OK;
  int rank;
  MPI_Comm_rank(bench->comm, &rank);
  MPI_Comm_size(bench->comm, &bench->ranks);
  bench->table.ranks = bench->ranks;
  EQS_TRY(measure_yardsticks(bench));
  EQS_TRY(cases(bench, given));
  EQS_TRY(measure_yardsticks(bench));
  EQS_TRY(eqs_agree(bench->comm, rank == 0 ? print(bench) : EQS_OK));
cleanup:
  eqs_bench_table_free(&bench->table);
  return status;
}

/* Ranks that look on wait in eqs_agree, which sleeps, and not in MPI_Finalize, which need not. */
eqs_status eqs_bench_run(const eqs_bench_options *options, eqs_status (*cases)(eqs_bench *bench, const void *given),
                         const void *given)
{
  eqs_status status = EQS_OK;
  eqs_bench bench = {.options = options, .comm = MPI_COMM_NULL};
  int size;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (options->ranks > size)
    return eqs_agree(MPI_COMM_WORLD,
                     eqs_fail(EQS_USAGE, "--ranks %lld, but the job has %d", (long long)options->ranks, size));
  EQS_TRY(eqs_first_ranks(MPI_COMM_WORLD, options->ranks > 0 ? (int)options->ranks : size, &bench.comm));
  bench.context = (eqs_context){.counts = &bench.counts};
  if (bench.comm != MPI_COMM_NULL) EQS_TRY(eqs_context_attach(bench.comm, &bench.context));
  if (bench.comm != MPI_COMM_NULL) EQS_TRY(run_on(&bench, cases, given));
  EQS_TRY(eqs_agree(MPI_COMM_WORLD, EQS_OK));
cleanup:
  if (status == EQS_OK && bench.comm != MPI_COMM_NULL) MPI_Comm_free(&bench.comm);
  return status;
}
