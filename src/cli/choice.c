#include "cli/choice.h"

#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "model/wrappers.h"

static const struct argp_option options[] = {
    {"match", 'm', "GLOB", 0, "only tensors of such names; may be given several times", 0},
    {"exclude", 'x', "GLOB", 0, "no tensors of such names; may be given several times", 0},
    {0},
};

static error_t add(const char ***globs, int *count, char *glob)
{
  eqs_canonical_name(glob);
  if (eqs_grow(globs, *count, sizeof **globs) != EQS_OK) return ENOMEM;
  (*globs)[(*count)++] = glob;
  return 0;
}

static error_t parse(int key, char *glob, struct argp_state *state)
{
  eqs_name_choice *choice = state->input;
  switch (key) {
  case 'm': return add(&choice->match, &choice->matches, glob);
  case 'x': return add(&choice->exclude, &choice->excludes, glob);
  default: return ARGP_ERR_UNKNOWN;
  }
}

const struct argp eqs_choice_argp = {.options = options, .parser = parse};

void eqs_choice_free(eqs_name_choice *choice)
{
  free(choice->match);
  free(choice->exclude);
}
