/*
 * `equishard bench`: what its benchmarks share: options, the run with its yardsticks, and their entry points, one
 * file each.
 */
#ifndef EQS_BENCH_BENCH_H
#define EQS_BENCH_BENCH_H

#include "base/arguments.h"
#include "bench/table.h"
#include "dist/context.h"

/* Options of every benchmark; the first member of each one's arguments. */
typedef struct {
  int64_t warmup, repeat, ranks; /* ranks 0: all */
  uint32_t seed;
  bool json;
  const char *json_path; /* NULL: not written to a file */
  eqs_yardsticks given;  /* 0: to be measured */
} eqs_bench_options;

/* Defaults of the options, and their parser, a child of each benchmark's. */
eqs_bench_options eqs_bench_defaults(void);
extern const struct argp eqs_bench_argp;

/* Pairs of numbers, "2048x2048,1024x4096"; (0, 0) is the word `planned` where that is allowed. */
enum { EQS_MAX_PAIRS = 32 };
typedef struct {
  int count;
  int64_t pair[EQS_MAX_PAIRS][2];
} eqs_pair_list;

/* Parts of parsers. A value that is wrong is reported with argp_error; the result is then not 0. */
error_t eqs_parse_pairs(struct argp_state *state, const char *option, const char *text, bool planned,
                        eqs_pair_list *list);
error_t eqs_parse_integer(struct argp_state *state, const char *option, const char *text, int64_t minimum,
                          int64_t maximum, int64_t *value);
error_t eqs_parse_number(struct argp_state *state, const char *option, const char *text, double *value);
error_t eqs_parse_choice(struct argp_state *state, const char *option, const char *text, const char *const *names,
                         int count, int *choice);

/* "2x1", or "planned". */
void eqs_grid_text(const int64_t grid[2], char *text, size_t size);

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
