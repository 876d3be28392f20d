/*
 * The index of a checkpoint: all of a summary but `created` and offsets, with everything that parameters have in common
 * once. It is in the file, where a reader finds it without HDF5, and it is what one process hands to another.
 *
 * Counts are as eqs_bytes_add_count has them, texts and blocks have their length before; lists have it, too.
 *
 *     format version, step and skipped (8 bytes each), equishard_version, config
 *     attributes      name, kind (a byte), value (8 bytes, or a text): all different ones
 *     tensors' names  all different ones
 *     kinds           dimensions, shape, trainer_dtype (a byte), numbers of the attributes, numbers of the tensors'
 * names parameters      bytes that the name has in common with the one before, the rest of it, number of the kind
 *     trainer's data  key, bytes, XXH3-64 of them (8 bytes)
 */
#ifndef EQS_CHECKPOINT_INDEX_H
#define EQS_CHECKPOINT_INDEX_H

#include "base/unique.h"
#include "checkpoint/checkpoint.h"

/* What the parameters of a summary have in common. */
typedef struct {
  eqs_unique attribute, tensor, kind;    /* as they are in the index */
  const eqs_attribute **attribute_value; /* of every different one */
  int64_t *kind_of;                      /* by entry */
  int64_t *entry_of;                     /* by kind, the first of it */
  int64_t *entries;                      /* of each kind */
  int64_t *number;                       /* of attributes: those of a kind from first_number on */
  int64_t numbers, *first_number;
} eqs_catalogue;

/* The summary is to stay as it is. EQS_FAILED: out of memory. */
eqs_status eqs_catalogue_make(const eqs_checkpoint_summary *summary, eqs_catalogue *catalogue);
void eqs_catalogue_free(eqs_catalogue *catalogue);

void eqs_index_add(eqs_bytes *to, const eqs_checkpoint_summary *summary, const eqs_catalogue *catalogue);

/*
 * A summary of what an index says, without the bytes of the trainer's data, but with room for them, and without
 * offsets. All is checked that a summary promises: names, their order, shapes.
 *
 * from      [in, out]
 * bound     [in]  bytes of the file that has all of it: memory is a small multiple of that at most
 * checksum  [out] of the trainer's data, allocated
 *
 * EQS_DAMAGED: not an index. After a failure nothing is to be freed.
 */
eqs_status eqs_index_take(eqs_bytes_left *from, int64_t bound, eqs_checkpoint_summary *summary, uint64_t **checksum);

#endif
