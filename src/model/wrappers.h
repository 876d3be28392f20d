/*
 * Names without what wraps a model: DistributedDataParallel, torch.compile, FSDP, activation checkpointing and others
 * put the module that they wrap into an attribute of their own, whose name becomes a segment of every parameter's:
 * "module.layers.0._orig_mod.mlp._checkpoint_wrapped_module.up.weight" is "layers.0.mlp.up.weight".
 */
#ifndef EQS_MODEL_WRAPPERS_H
#define EQS_MODEL_WRAPPERS_H

#include "base/status.h"

/*
 * Take the segments of wrappers out of a name, or a glob of names, in place. The last segment stays, whatever it is.
 * The Python package calls it too, so that there is one list of wrappers.
 */
__attribute__((visibility("default"))) void eqs_canonical_name(char *name);

/* A copy without them; of NULL NULL. */
eqs_status eqs_copy_canonical_name(char **copy, const char *name);

/*
 * EQS_USAGE: two parameters have one name, or would if the wrappers' segments are left out; the message names both.
 *
 * first, second  [in] their names as they were given
 */
eqs_status eqs_fail_same_name(const char *first, const char *second);

#endif
