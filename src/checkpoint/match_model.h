/*
 * A checkpoint matched with a model that need not be the one it was written from: what a restart takes from the file,
 * what starts afresh, what stays in the file. Nothing here is collective. `stored` is what is in the file, sorted;
 * `model` may be in any order.
 */
#ifndef EQS_CHECKPOINT_MATCH_MODEL_H
#define EQS_CHECKPOINT_MATCH_MODEL_H

#include "checkpoint/contents.h"
#include "model/rename.h"

/*
 * Give the parameters of a checkpoint the names of the configuration's `rename` (NULL: none), leave out the segments of
 * wrappers (model/wrappers.h), and sort them again. EQS_USAGE: two of them end with the same name.
 */
eqs_status eqs_match_rename(const eqs_renames *renames, eqs_checkpoint_contents *stored);

/*
 * Give parameters that the model has under another of its names (a tied tensor's names in another order) the name that
 * the model has.
 */
eqs_status eqs_match_ties(eqs_checkpoint_contents *stored, const eqs_checkpoint_contents *model);

/*
 * Whether a restart is possible. The message names the first few parameters that are in the way, and how many there
 * are; and, where only names differ, the `rename` that would help.
 *
 * partial  [in] whether parameters of the model may be missing in the checkpoint; frozen ones always may
 * renamed  [in] whether the configuration has a `rename`: none is proposed then
 *
 * EQS_USAGE: a parameter of another shape, a missing one, or nothing in common; parameters of the checkpoint that the
 * model does not have are no obstacle.
 */
eqs_status eqs_match_check(const eqs_checkpoint_contents *stored, bool partial, bool renamed,
                           const eqs_checkpoint_contents *model);

/*
 * Whether tensor t of a parameter is taken from the checkpoint's parameter of that name (NULL: there is none): if it is
 * there and still means the same. A momentum buffer does if its kind has not changed but between nesterov and
 * heavy_ball, which keep the same sum; a rule's own states, which share a step count, do if all of them are there.
 */
bool eqs_match_takes(const eqs_checkpoint_parameter *stored, const eqs_checkpoint_parameter *parameter, int t);

/*
 * Warn about every kind of thing that starts afresh, or that stays in the file: a line each. That all state starts at
 * zero because the file has weights alone is one line, and no warning.
 */
eqs_status eqs_match_report(const eqs_checkpoint_contents *stored, const eqs_checkpoint_contents *model);

#endif
