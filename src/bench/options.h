/* The options that all benchmarks have, and parts of their parsers. */
#ifndef EQS_BENCH_OPTIONS_H
#define EQS_BENCH_OPTIONS_H

#include <stdbool.h>

#include "base/arguments.h"
#include "bench/measure.h"

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

#endif
