/* Results of benchmarks: what is kept of every case, and printing them as a table or as JSON. */
#ifndef EQS_BENCH_TABLE_H
#define EQS_BENCH_TABLE_H

#include <jansson.h>
#include <stdbool.h>

#include "bench/measure.h"
#include "bench/minimum.h"

/* What the efficiency of a case is, with t the median of its time. */
typedef enum {
  EQS_BY_WORK,  /* minimal work / (peak t) */
  EQS_BY_BYTES, /* minimal bytes / (triad t) */
  EQS_BY_BOTH   /* (minimal work / peak + minimal bytes / triad) / t */
} eqs_efficiency;

typedef struct {
  char name[32]; /* "polar", a rule, "step" */
  char size[48], grid[24];
  eqs_timing timing;
  eqs_least_cost minimum;
  eqs_efficiency efficiency;
  json_t *phases; /* name -> seconds {mean, max, slowest}; NULL: none */
  json_t *rules;  /* rule -> its part of the minimum, {flops, bytes}; NULL: of one rule */
  json_t *more;   /* further members of its object; NULL: none */
} eqs_bench_case;

typedef struct {
  int ranks;
  eqs_yardsticks yardsticks;
  int64_t cases;
  eqs_bench_case *cases_made;
} eqs_bench_table;

/* Add a case: what it holds is the table's then, and *made is empty. */
eqs_status eqs_bench_table_add(eqs_bench_table *table, eqs_bench_case *made);
void eqs_bench_case_free(eqs_bench_case *made);
void eqs_bench_table_free(eqs_bench_table *table);

/* Print to standard output. */
void eqs_bench_table_print(const eqs_bench_table *table);

/*
 * An array with an object per case: case, size, ranks, grid, seconds (median), seconds_min, seconds_max, slowest_rank,
 * gflops, efficiency, efficiency_combined, flops and bytes (minimal), flops_asked, bytes_moved and messages (counted),
 * peak, triad, phases, minimal_seconds of every rule where there are several, and what the benchmark adds.
 */
json_t *eqs_bench_table_json(const eqs_bench_table *table);

#endif
