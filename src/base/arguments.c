#include "base/arguments.h"

/* The options that every subcommand has, around its own parser. */
typedef struct {
  void *input; /* of the subcommand's parser */
  bool prints, done;
} common_input;

enum { help_key = '?', usage_key = 0x100 };

static const struct argp_option common_options[] = {
    {"help", help_key, NULL, 0, "Print this text", -1},
    {"usage", usage_key, NULL, 0, "Print a short usage message", 0},
    {0},
};

static void finish_with_help(struct argp_state *state, unsigned flags)
{
  common_input *common = state->input;
  if (common->prints) argp_state_help(state, stdout, flags);
  common->done = true;
  state->flags |= ARGP_NO_ERRS; /* missing arguments do not matter any more */
  state->next = state->argc;
}

static error_t parse_common(int key, char *argument, struct argp_state *state)
{
  common_input *common = state->input;
  (void)argument;
  switch (key) {
  case ARGP_KEY_INIT: state->child_inputs[0] = common->input; return 0;
  case help_key: finish_with_help(state, ARGP_HELP_STD_HELP); return 0;
  case usage_key: finish_with_help(state, ARGP_HELP_USAGE); return 0;
  default: return ARGP_ERR_UNKNOWN;
  }
}

eqs_status eqs_parse_arguments(const struct argp *argp, int argc, char **argv, bool prints, void *input, bool *done)
{
  const struct argp_child children[] = {{argp, 0, NULL, 0}, {0}};
  const struct argp outer = {.options = common_options, .parser = parse_common, .children = children};
  common_input common = {.input = input, .prints = prints};
  unsigned flags = ARGP_NO_EXIT | ARGP_NO_HELP | (prints ? 0 : ARGP_NO_ERRS);
  error_t result = argp_parse(&outer, argc, argv, flags, NULL, &common);
  *done = common.done;
  return result == 0 || common.done ? EQS_OK : EQS_USAGE;
}
