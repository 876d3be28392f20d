#include "bench/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  option_warmup = 0x200,
  option_repeat,
  option_ranks,
  option_seed,
  option_format,
  option_json,
  option_peak,
  option_triad
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Measuring:", 10},
    {"repeat", option_repeat, "N", 0, "timed runs, of which the median counts (default 5)", 10},
    {"warmup", option_warmup, "N", 0, "runs before them (default 1)", 10},
    {"ranks", option_ranks, "N", 0, "only the first N ranks of the job take part; the others sleep", 10},
    {"seed", option_seed, "N", 0, "of the pseudo-random matrices (default 1)", 10},
    {"peak", option_peak, "FLOP/S", 0, "of all ranks together; measured if not given", 10},
    {"triad", option_triad, "BYTES/S", 0, "of all ranks together; measured if not given", 10},
    {"format", option_format, "table|json", 0, "a table, or an array with one object per case", 10},
    {"json", option_json, "FILE", 0, "write the array to a file too", 10},
    {0},
};

eqs_bench_options eqs_bench_defaults(void)
{
  return (eqs_bench_options){.warmup = 1, .repeat = 5, .seed = 1};
}

error_t eqs_parse_integer(struct argp_state *state, const char *option, const char *text, int64_t minimum,
                          int64_t maximum, int64_t *value)
{
  char *end;
  errno = 0;
  long long number = strtoll(text, &end, 10);
  if (errno == 0 && end != text && *end == '\0' && number >= minimum && number <= maximum) {
    *value = number;
    return 0;
  }
  argp_error(state, "--%s takes a whole number from %lld to %lld, not %s", option, (long long)minimum,
             (long long)maximum, text);
  return EINVAL;
}

error_t eqs_parse_number(struct argp_state *state, const char *option, const char *text, double *value)
{
  char *end;
  *value = strtod(text, &end);
  if (end != text && *end == '\0' && *value > 0 && *value < 1e30) return 0;
  argp_error(state, "--%s takes a positive number, not %s", option, text);
  return EINVAL;
}

/* A pair at the beginning of a text: where it ends, or NULL if there is none. */
static const char *parse_pair(const char *text, bool planned, int64_t pair[2])
{
  static const char word[] = "planned";
  const int64_t limit = INT64_C(1) << 31;
  char *end;
  pair[0] = pair[1] = 0;
  if (planned && strncmp(text, word, strlen(word)) == 0) return text + strlen(word);
  for (int i = 0; i < 2; i++) {
    pair[i] = strtoll(text, &end, 10);
    if (end == text || pair[i] < 1 || pair[i] >= limit || (i == 0 && *end != 'x')) return NULL;
    text = end + (i == 0);
  }
  return text;
}

error_t eqs_parse_pairs(struct argp_state *state, const char *option, const char *text, bool planned,
                        eqs_pair_list *list)
{
  for (const char *next = text;; next++) {
    if (list->count == EQS_MAX_PAIRS) {
      argp_error(state, "--%s: more than %d at a time", option, EQS_MAX_PAIRS);
      return E2BIG;
    }
    next = parse_pair(next, planned, list->pair[list->count++]);
    if (next != NULL && *next == '\0') return 0;
    if (next == NULL || *next != ',') break;
  }
  argp_error(state, "--%s takes pairs of positive numbers like %s, not %s", option,
             planned ? "2x1, or the word planned" : "1024x4096", text);
  return EINVAL;
}

error_t eqs_parse_choice(struct argp_state *state, const char *option, const char *text, const char *const *names,
                         int count, int *choice)
{
  char known[512] = "";
  for (int i = 0; i < count; i++) {
    if (strcmp(names[i], text) == 0) {
      *choice = i;
      return 0;
    }
    size_t length = strlen(known);
    snprintf(known + length, sizeof known - length, "%s%s", i > 0 ? ", " : "", names[i]);
  }
  argp_error(state, "--%s is one of %s, not %s", option, known, text);
  return EINVAL;
}

static error_t parse(int key, char *value, struct argp_state *state)
{
  static const char *const formats[] = {"table", "json"};
  eqs_bench_options *given = state->input;
  int64_t seed;
  int format;
  error_t error = 0;
  switch (key) {
  case option_warmup: return eqs_parse_integer(state, "warmup", value, 0, 1000, &given->warmup);
  case option_repeat: return eqs_parse_integer(state, "repeat", value, 1, 1000, &given->repeat);
  case option_ranks: return eqs_parse_integer(state, "ranks", value, 1, INT32_MAX, &given->ranks);
  case option_seed:
    error = eqs_parse_integer(state, "seed", value, 0, UINT32_MAX, &seed);
    if (error == 0) given->seed = (uint32_t)seed;
    return error;
  case option_peak: return eqs_parse_number(state, "peak", value, &given->given.peak);
  case option_triad: return eqs_parse_number(state, "triad", value, &given->given.triad);
  case option_format:
    error = eqs_parse_choice(state, "format", value, formats, 2, &format);
    if (error == 0) given->json = format == 1;
    return error;
  case option_json: given->json_path = value; return 0;
  default: return ARGP_ERR_UNKNOWN;
  }
}

const struct argp eqs_bench_argp = {.options = options, .parser = parse};

void eqs_grid_text(const int64_t grid[2], char *text, size_t size)
{
  if (grid[0] == 0)
    snprintf(text, size, "planned");
  else
    snprintf(text, size, "%lldx%lld", (long long)grid[0], (long long)grid[1]);
}
