#include "bench/table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "bench/machine.h"

void eqs_bench_case_free(eqs_bench_case *made)
{
  json_decref(made->phases);
  json_decref(made->rules);
  json_decref(made->more);
  *made = (eqs_bench_case){0};
}

eqs_status eqs_bench_table_add(eqs_bench_table *table, eqs_bench_case *made)
{
  eqs_status status = eqs_grow(&table->cases_made, table->cases, sizeof *table->cases_made);
  if (status != EQS_OK) return status;
  table->cases_made[table->cases++] = *made;
  *made = (eqs_bench_case){0};
  return EQS_OK;
}

void eqs_bench_table_free(eqs_bench_table *table)
{
  for (int64_t i = 0; i < table->cases; i++) eqs_bench_case_free(&table->cases_made[i]);
  free(table->cases_made);
  *table = (eqs_bench_table){0};
}

/* Seconds that the least work takes at the peak, and the least bytes at the triad's speed. */
static double work_seconds(const eqs_bench_table *table, const eqs_bench_case *made)
{
  return made->minimum.flops / table->yardsticks.peak;
}

static double bytes_seconds(const eqs_bench_table *table, const eqs_bench_case *made)
{
  return made->minimum.bytes / table->yardsticks.triad;
}

static double combined_efficiency(const eqs_bench_table *table, const eqs_bench_case *made)
{
  return (work_seconds(table, made) + bytes_seconds(table, made)) / made->timing.median;
}

static double efficiency(const eqs_bench_table *table, const eqs_bench_case *made)
{
  switch (made->efficiency) {
  case EQS_BY_WORK: return work_seconds(table, made) / made->timing.median;
  case EQS_BY_BYTES: return bytes_seconds(table, made) / made->timing.median;
  default: return combined_efficiency(table, made);
  }
}

static double gigaflops(const eqs_bench_case *made)
{
  return 1e-9 * made->minimum.flops / made->timing.median;
}

/* Rule -> seconds that its least work and bytes take. */
static json_t *minimal_seconds(const eqs_yardsticks *yardsticks, json_t *rules)
{
  json_t *seconds = json_object(), *cost;
  const char *rule;
  json_object_foreach(rules, rule, cost)
  {
    double flops = json_number_value(json_object_get(cost, "flops")),
           bytes = json_number_value(json_object_get(cost, "bytes"));
    json_object_set_new(seconds, rule, json_real(flops / yardsticks->peak + bytes / yardsticks->triad));
  }
  return seconds;
}

static json_t *describe(const eqs_bench_table *table, const eqs_bench_case *made)
{
  const eqs_timing *timing = &made->timing;
  json_t *object =
      json_pack("{s:s, s:s, s:i, s:s, s:f, s:f, s:f, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:o, s:f, s:f, s:o}",
                "case", made->name, "size", made->size, "ranks", table->ranks, "grid", made->grid, "seconds",
                timing->median, "seconds_min", timing->minimum, "seconds_max", timing->maximum, "slowest_rank",
                timing->slowest, "gflops", gigaflops(made), "efficiency", efficiency(table, made),
                "efficiency_combined", combined_efficiency(table, made), "flops", made->minimum.flops, "flops_asked",
                timing->flops_asked, "bytes", made->minimum.bytes, "bytes_moved", json_integer(llround(timing->bytes)),
                "messages", json_integer(llround(timing->messages)), "peak", table->yardsticks.peak, "triad",
                table->yardsticks.triad, "phases", made->phases != NULL ? json_incref(made->phases) : json_object());
  if (made->rules != NULL)
    json_object_set_new(object, "minimal_seconds", minimal_seconds(&table->yardsticks, made->rules));
  if (made->more != NULL) json_object_update(object, made->more);
  return object;
}

json_t *eqs_bench_table_json(const eqs_bench_table *table)
{
  json_t *array = json_array();
  for (int64_t i = 0; i < table->cases; i++) json_array_append_new(array, describe(table, &table->cases_made[i]));
  return array;
}

/* "name value, name value, ..." in one line; objects in braces. */
static void print_members(json_t *object)
{
  const char *key;
  json_t *value;
  bool first = true;
  json_object_foreach(object, key, value)
  {
    printf("%s%s ", first ? "" : ", ", key);
    first = false;
    if (json_is_object(value)) {
      printf("{");
      print_members(value);
      printf("}");
    } else if (json_is_string(value)) {
      printf("%s", json_string_value(value));
    } else if (json_is_integer(value)) {
      printf("%" PRId64, (int64_t)json_integer_value(value));
    } else {
      printf("%.4g", json_number_value(value));
    }
  }
}

static void print_row(const eqs_bench_table *table, const eqs_bench_case *made)
{
  const eqs_timing *timing = &made->timing;
  const double mega = 1e6;
  printf("%-14s %-14s %-8s %10.5f %10.5f %10.5f %7d %9.1f %10.3f %8.3f %10.1f", made->name, made->size, made->grid,
         timing->median, timing->minimum, timing->maximum, timing->slowest, gigaflops(made), efficiency(table, made),
         combined_efficiency(table, made), made->minimum.bytes / mega);
  printf(" %10.1f %10.0f\n", made->timing.bytes / mega, made->timing.messages);
}

/* Under a row: what the benchmark adds, and a line per phase. */
static void print_details(const eqs_bench_table *table, const eqs_bench_case *made)
{
  const char *phase;
  json_t *seconds;
  if (made->rules != NULL) {
    json_t *minimal = minimal_seconds(&table->yardsticks, made->rules);
    printf("    minimal seconds: ");
    print_members(minimal);
    printf("\n");
    json_decref(minimal);
  }
  if (made->more != NULL) {
    printf("    ");
    print_members(made->more);
    printf("\n");
  }
  json_object_foreach(made->phases, phase, seconds)
  {
    printf("    %-16s ", phase);
    print_members(seconds);
    printf("\n");
  }
}

void eqs_bench_table_print(const eqs_bench_table *table)
{
  char machine[512];
  eqs_machine_text(machine, sizeof machine);
  printf("%s\n%d ranks: peak %.1f Gflop/s, triad %.2f GB/s\n\n", machine, table->ranks, 1e-9 * table->yardsticks.peak,
         1e-9 * table->yardsticks.triad);
  printf("%-14s %-14s %-8s %10s %10s %10s %7s %9s %10s %8s %10s %10s %10s\n", "case", "size", "grid", "median s",
         "min s", "max s", "slowest", "Gflop/s", "efficiency", "combined", "MB", "MB moved", "messages");
  for (int64_t i = 0; i < table->cases; i++) {
    print_row(table, &table->cases_made[i]);
    print_details(table, &table->cases_made[i]);
  }
}
