/* Which `rename` would make a checkpoint the model's: derived from names and shapes. Nothing here is collective. */
#ifndef EQS_CHECKPOINT_SUGGEST_H
#define EQS_CHECKPOINT_SUGGEST_H

#include "checkpoint/contents.h"

/*
 * The patterns that give parameters of the checkpoint which the model does not have the names of parameters of the same
 * shapes that the checkpoint does not have: a prefix that changed, a segment that has another name. They leave alone
 * what fits already, and at least half of what the model misses has a name by them.
 *
 * text  [out] as in the configuration, {"old.*": "new.*"}; "" where nothing fits, or several renamings fit alike
 */
eqs_status eqs_suggest_renames(const eqs_checkpoint_contents *stored, const eqs_checkpoint_contents *model, char *text,
                               size_t size);

#endif
