/*
 * `equishard bench`: the run with its yardsticks that its benchmarks share, and their entry points, one file each.
 */
#ifndef EQS_BENCH_BENCH_H
#define EQS_BENCH_BENCH_H

#include "bench/options.h"
#include "bench/table.h"
#include "dist/context.h"

/* A benchmark under way, on the ranks that take part. */
typedef struct {
  const eqs_bench_options *options;
  MPI_Comm comm;
  eqs_context context; /* of comm: work is counted */
  eqs_counts counts;
  int ranks;
  eqs_bench_table table;
} eqs_bench;

/*
 * Run a benchmark on the ranks that take part: yardsticks, its cases, the yardsticks again, of which the larger count,
 * and the output. Collective over MPI_COMM_WORLD.
 */
eqs_status eqs_bench_run(const eqs_bench_options *options, eqs_status (*cases)(eqs_bench *bench, const void *given),
                         const void *given);

/* Write an array of cases as JSON where the options want it: to a file, to standard output. EQS_IO. */
eqs_status eqs_bench_write_json(const eqs_bench_options *options, json_t *array);

/* EQS_USAGE: a grid of more ranks than take part. */
eqs_status eqs_check_grids(const eqs_bench *bench, const eqs_pair_list *grids);

/* The subcommand; each benchmark. argv[0] is "equishard bench", "equishard bench <name>"; collective over
 * MPI_COMM_WORLD. */
eqs_status eqs_command_bench(int argc, char **argv);
eqs_status eqs_bench_polar(int argc, char **argv);
eqs_status eqs_bench_rules(int argc, char **argv);
eqs_status eqs_bench_step(int argc, char **argv);
eqs_status eqs_bench_service(int argc, char **argv);
eqs_status eqs_bench_checkpoint(int argc, char **argv);
eqs_status eqs_bench_calibrate(int argc, char **argv);

#endif
