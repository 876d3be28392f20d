/*
 * A checkpoint beside a model that need not be the one it was written from: what a restart takes from the file, what
 * begins anew, what stays in the file. Nothing here is collective.
 */
#ifndef EQS_CHECKPOINT_COMPARE_H
#define EQS_CHECKPOINT_COMPARE_H

#include <stdbool.h>

#include "checkpoint/checkpoint.h"
#include "model/rename.h"

/*
 * Give the parameters of a checkpoint the names of the configuration's `rename` (NULL: none), leave out the segments of
 * wrappers (model/wrappers.h), and put them in order again. EQS_USAGE: two of them end with the same name.
 */
eqs_status eqs_checkpoint_rename(const eqs_renames *renames, eqs_checkpoint_summary *summary);

/*
 * Give entries that have a parameter of the model under another name of it (a tied tensor's names in another order) the
 * name that the model has.
 */
eqs_status eqs_checkpoint_resolve_ties(eqs_checkpoint_summary *summary, int64_t parameters,
                                       const eqs_checkpoint_parameter *parameter);

/*
 * Whether a restart can be made. The message names the first few parameters that are in the way, and how many there
 * are; and, where only names differ, the `rename` that would help.
 *
 * partial  [in] whether parameters of the model may be missing in the checkpoint; frozen ones may, always
 * renamed  [in] whether the configuration has a `rename`: none is proposed then
 *
 * EQS_USAGE: a parameter of another shape, a missing one, or nothing in common; parameters of the checkpoint that the
 * model does not have are no obstacle.
 */
eqs_status eqs_checkpoint_compare(const eqs_checkpoint_summary *summary, bool partial, bool renamed, int64_t parameters,
                                  const eqs_checkpoint_parameter *parameter);

/*
 * Whether tensor t of a parameter is taken from its entry in the checkpoint (NULL: it has none): if it is there under
 * this name and still means the same. A momentum buffer does if its kind has not changed but between nesterov and
 * heavy_ball, which keep the same sum; a rule's own states, which share a step count, do if all of them are there.
 */
bool eqs_checkpoint_takes(const eqs_checkpoint_entry *entry, const eqs_checkpoint_parameter *parameter, int t);

/* Warn about every kind of thing that begins anew, or that stays in the file: a line each. That all state
 * begins anew because the file has weights alone is one line, and no warning. */
eqs_status eqs_checkpoint_report(const eqs_checkpoint_summary *summary, int64_t parameters,
                                 const eqs_checkpoint_parameter *parameter);

#endif
