#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "bench/bench.h"
#include "bench/machine.h"
#include "bench/pseudo_random.h"
#include "dist/communicator.h"
#include "dist/eigen.h"
#include "dist/symmetric_set.h"

static const char documentation[] =
    "Measure what an owner can do, on all ranks at the same time, and write it as JSON for the configuration's "
    "`calibration'.\v"
    "Speeds are per rank, means over the ranks of medians over the runs:\n"
    "  gemm               [[order, flop/s], ...] of whole float32 products\n"
    "  symmetric          [[order, flop/s], ...] of products of commuting matrices, n^2 k operations each\n"
    "  eigen              flop/s of eigenvalues and vectors in float64, order 512\n"
    "  triad              bytes/s\n"
    "  message_latency    seconds; null on one rank\n"
    "  message_bandwidth  bytes/s of messages of 1 MiB; null on one rank\n\n"
    "Example:\n"
    "  mpirun -np 2 equishard bench calibrate --output calibration.json";

enum { option_output = 'o' };

static const struct argp_option options[] = {
    {"output", option_output, "FILE", 0, "where to write (default: standard output)", 0},
    {0},
};

typedef struct {
  eqs_bench_options common;
  const char *output;
} arguments;

static error_t parse(int key, char *value, struct argp_state *state)
{
  arguments *given = state->input;
  switch (key) {
  case ARGP_KEY_INIT: state->child_inputs[0] = &given->common; return 0;
  case option_output: given->output = value; return 0;
  default: return ARGP_ERR_UNKNOWN;
  }
}

static const int64_t orders[] = {64, 128, 256, 512, 1024, 2048};
enum { order_count = sizeof orders / sizeof *orders, eigen_order = 512 };

typedef struct {
  double gemm[order_count], symmetric[order_count];
  double eigen, triad, message_latency, message_bandwidth;
} calibration;

/* The file's members: a number each, or a list of pairs of order and number. */
static const struct {
  const char *key;
  size_t offset; /* in a calibration, of the number or of `order_count` numbers */
  bool by_order;
} members[] = {
    {"gemm", offsetof(calibration, gemm), true},
    {"symmetric", offsetof(calibration, symmetric), true},
    {"eigen", offsetof(calibration, eigen), false},
    {"triad", offsetof(calibration, triad), false},
    {"message_latency", offsetof(calibration, message_latency), false},
    {"message_bandwidth", offsetof(calibration, message_bandwidth), false},
};
enum { member_count = sizeof members / sizeof *members };

/* One operation on 1×1 matrices of an order, done so often that it can be timed. */
typedef struct speed_case speed_case;

struct speed_case {
  eqs_status (*operation)(speed_case *work);
  eqs_matrix matrix[3];
  eqs_symmetric_set *set; /* of the first */
  int rounds;
};

static eqs_status multiply(speed_case *work)
{
  return eqs_multiply(1, EQS_AS_IS, &work->matrix[0], EQS_AS_IS, &work->matrix[1], 0, &work->matrix[2]);
}

/* Half of the product of a Gram matrix with itself, and the mirror image. */
static eqs_status multiply_halves(speed_case *work)
{
  return eqs_symmetric_set_multiply(work->set, 1, 0, 0, 0, -1, 0, 1);
}

static eqs_status find_eigenvalues(speed_case *work)
{
  eqs_status status = EQS_OK;
  double *values = NULL;
  EQS_TRY(eqs_allocate_raw(&values, work->matrix[0].distribution.rows, sizeof *values));
  eqs_matrix_copy(&work->matrix[0], &work->matrix[1]);
  EQS_TRY(eqs_symmetric_eigen(&work->matrix[1], values, &work->matrix[2]));
cleanup:
  free(values);
  return status;
}

/* The first is symmetric, as all but `multiply` want it. */
static eqs_status create_matrices(const eqs_grid *grid, uint32_t seed, int64_t order, eqs_element element,
                                  speed_case *work)
{
  eqs_status status = EQS_OK;
  eqs_matrix random = {0};
  EQS_TRY(eqs_matrix_create(grid, order, order, order, order, EQS_ELEMENT_FLOAT, &random));
  for (int i = 0; i < 3; i++) EQS_TRY(eqs_matrix_create_like(&random, element, &work->matrix[i]));
  EQS_TRY(eqs_fill_random(seed, &random));
  for (int64_t i = 0; i < order; i++)
    for (int64_t j = 0; j < i; j++) eqs_floats(&random)[i * order + j] = eqs_floats(&random)[j * order + i];
  for (int i = 0; i < 3; i++) eqs_matrix_copy(&random, &work->matrix[i]);
cleanup:
  eqs_matrix_destroy(&random);
  return status;
}

/* The symmetric matrices that multiply_halves works on. */
static eqs_status open_set(speed_case *work)
{
  eqs_status status = EQS_OK;
  if (work->operation != multiply_halves) return EQS_OK;
  EQS_TRY(eqs_symmetric_set_open(&work->matrix[0], EQS_TRANSPOSED, 2, &work->set));
  EQS_TRY(eqs_symmetric_set_gram(work->set, 1, 0, 0));
cleanup:
  return status;
}

static eqs_status repeat_operation(void *context)
{
  speed_case *work = context;
  eqs_status status = EQS_OK;
  for (int r = 0; r < work->rounds && status == EQS_OK; r++) status = work->operation(work);
  return status;
}

/* Speed per rank of an operation that counts as `flops`. */
static eqs_status measure_speed(eqs_bench *bench, const eqs_grid *grid, eqs_status (*operation)(speed_case *),
                                int64_t order, eqs_element element, double flops, double *speed)
{
  const double worth_timing = 1e8; /* operations: some milliseconds */
  eqs_status status = EQS_OK;
  eqs_timing timing;
  speed_case work = {.operation = operation, .rounds = flops < worth_timing ? (int)(worth_timing / flops) + 1 : 1};
  EQS_TRY(eqs_agree(bench->comm, create_matrices(grid, bench->options->seed, order, element, &work)));
  EQS_TRY(eqs_agree(bench->comm, open_set(&work)));
  EQS_TRY(eqs_measure(bench->comm, (int)bench->options->warmup, (int)bench->options->repeat, NULL, repeat_operation,
                      &work, &timing));
  *speed = work.rounds * flops / timing.median;
cleanup:
  eqs_symmetric_set_close(&work.set);
  for (int i = 0; i < 3; i++) eqs_matrix_destroy(&work.matrix[i]);
  return status;
}

static eqs_status measure_all(eqs_bench *bench, const eqs_grid *grid, calibration *measured)
{
  eqs_status status = EQS_OK;
  for (int i = 0; i < order_count; i++) {
    double cube = (double)orders[i] * (double)orders[i] * (double)orders[i];
    EQS_TRY(measure_speed(bench, grid, multiply, orders[i], EQS_ELEMENT_FLOAT, 2 * cube, &measured->gemm[i]));
    EQS_TRY(measure_speed(bench, grid, multiply_halves, orders[i], EQS_ELEMENT_FLOAT, cube, &measured->symmetric[i]));
  }
  EQS_TRY(measure_speed(bench, grid, find_eigenvalues, eigen_order, EQS_ELEMENT_DOUBLE,
                        eqs_symmetric_eigen_flops(eigen_order), &measured->eigen));
  measured->triad = bench->table.yardsticks.triad / bench->ranks;
  EQS_TRY(eqs_measure_messages(bench->comm, &measured->message_latency, &measured->message_bandwidth));
cleanup:
  return status;
}

static json_t *speeds_by_order(const double *speeds)
{
  json_t *array = json_array();
  for (int i = 0; i < order_count; i++)
    json_array_append_new(array, json_pack("[I, f]", (json_int_t)orders[i], speeds[i]));
  return array;
}

/* Zero where there was nothing to measure. */
static json_t *measured_number(double value)
{
  return value > 0 ? json_real(value) : json_null();
}

static json_t *describe(const calibration *measured, int ranks)
{
  char machine[512];
  eqs_machine_text(machine, sizeof machine);
  json_t *object = json_pack("{s:s, s:i, s:s, s:i}", "format", "equishard-calibration", "version", 1, "machine",
                             machine, "ranks", ranks);
  for (int m = 0; m < member_count; m++) {
    const double *numbers = (const double *)measured + members[m].offset / sizeof(double);
    json_object_set_new(object, members[m].key,
                        members[m].by_order ? speeds_by_order(numbers) : measured_number(*numbers));
  }
  return object;
}

static eqs_status write_file(const char *path, json_t *object)
{
  FILE *file = path != NULL ? fopen(path, "w") : stdout;
  bool failed = file == NULL || json_dumpf(object, file, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) != 0 ||
                fputc('\n', file) == EOF || fflush(file) != 0;
  if (file != NULL && file != stdout) failed = fclose(file) != 0 || failed;
  if (!failed) return EQS_OK;
  return eqs_fail(EQS_IO, "%s: cannot be written: %s", path != NULL ? path : "standard output", strerror(errno));
}

static eqs_status write_calibration(const eqs_bench *bench, const char *path, const calibration *measured)
{
  int rank;
  MPI_Comm_rank(bench->comm, &rank);
  if (rank != 0) return EQS_OK;
  json_t *object = describe(measured, bench->ranks);
  eqs_status status = write_file(path, object);
  json_decref(object);
  return status;
}

static eqs_status calibrate(eqs_bench *bench, const void *context)
{
  const arguments *given = context;
  eqs_status status = EQS_OK;
  eqs_grid_cache *grids = NULL;
  const eqs_grid *grid;
  calibration measured = {0};
  int rank;
  MPI_Comm_rank(bench->comm, &rank);
  status = eqs_grid_cache_create(bench->comm, &grids);
  if (status == EQS_OK) status = eqs_grid_get(grids, rank, 1, 1, &grid);
  EQS_TRY(eqs_agree(bench->comm, status));
  EQS_TRY(measure_all(bench, grid, &measured));
  EQS_TRY(eqs_agree(bench->comm, write_calibration(bench, given->output, &measured)));
cleanup:
  eqs_grid_cache_destroy(&grids);
  return status;
}

eqs_status eqs_bench_calibrate(int argc, char **argv)
{
  const struct argp_child children[] = {{&eqs_bench_argp, 0, NULL, 0}, {0}};
  const struct argp argp = {.options = options, .parser = parse, .doc = documentation, .children = children};
  arguments given = {.common = eqs_bench_defaults()};
  bool done = false;
  eqs_status status = eqs_parse_arguments(&argp, argc, argv, eqs_world_rank() == 0, &given, &done);
  if (status != EQS_OK || done) return status;
  return eqs_bench_run(&given.common, calibrate, &given);
}
