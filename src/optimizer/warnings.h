/* What a plan shows that a user may not have meant: things that would do harm without a word. */
#ifndef EQS_OPTIMIZER_WARNINGS_H
#define EQS_OPTIMIZER_WARNINGS_H

#include "optimizer/plan.h"

typedef struct {
  int count;
  char **text; /* each a sentence, with the line to write */
} eqs_warnings;

/*
 * The warnings of a plan:
 * - roles that are guesses: a matrix by its shape alone, a head because it has as many rows as the embedding;
 * - groups that match nothing, or nothing that groups before them leave. Not those of included files whose parameters
 *   the including ones have taken: that is what variants do;
 * - no matrix by a polar factor, although the configuration has such a rule;
 * - fused tensors that are one matrix; heads that are to be apart, of which nobody says how many there are;
 * - large matrices by an element-wise rule only because no other group matches, where the configuration has a polar
 * one. Parameters whose names differ in numbers alone are one warning. The time is that of sorting the parameters.
 *
 * most      [in]  of one kind about parameters; a last one of the kind tells how many are left out
 * warnings  [out] free with eqs_warnings_free
 *
 * The same on all ranks. Not collective.
 */
eqs_status eqs_plan_warnings(const eqs_config *config, const eqs_plan *plan, int64_t most, eqs_warnings *warnings);
void eqs_warnings_free(eqs_warnings *warnings);

#endif
