/*
 * The index of a checkpoint: all of a contents but `created` and offsets, with everything that parameters have in
 * common once. It is in the file, where a reader finds it without HDF5, and it is what one process hands to another.
 *
 * Counts are as eqs_bytes_add_count has them, texts and blocks have their length before; lists have it, too.
 *
 *     format version, step and skipped (8 bytes each), equishard_version, config
 *     attributes      name, kind (a byte), value (8 bytes, or a text): all different ones
 *     tensors' names  all different ones
 *     kinds           dimensions, shape, trainer_dtype (a byte), numbers of the attributes, of the tensors' names
 *     parameters      bytes that the name has in common with the one before, the rest of it, number of the kind
 *     trainer's data  key, bytes, XXH3-64 of them (8 bytes)
 */
#ifndef EQS_CHECKPOINT_INDEX_H
#define EQS_CHECKPOINT_INDEX_H

#include "base/unique.h"
#include "checkpoint/contents.h"

/* What the parameters of a contents have in common. */
typedef struct {
  eqs_unique attribute, tensor, kind;    /* as they are in the index */
  const eqs_attribute **attribute_value; /* of every different one */
  int64_t *kind_of;                      /* by parameter */
  int64_t *first;                        /* by kind, the first parameter of it */
  int64_t *members;                      /* by kind, how many parameters are of it */
  int64_t *number;                       /* of attributes: those of a kind from first_number on */
  int64_t numbers, *first_number;
} eqs_catalogue;

/* The contents is to stay as it is. EQS_FAILED: out of memory. */
eqs_status eqs_catalogue_make(const eqs_checkpoint_contents *contents, eqs_catalogue *catalogue);
void eqs_catalogue_free(eqs_catalogue *catalogue);

void eqs_index_add(eqs_bytes *to, const eqs_checkpoint_contents *contents, const eqs_catalogue *catalogue);

/*
 * A contents of what an index says, without the bytes of the trainer's data, but with room for them, and without
 * offsets. All is checked that a contents promises: names, their order, shapes.
 *
 * from      [in, out]
 * bound     [in]  bytes of the file that has all of it: memory is a small multiple of that at most
 * checksum  [out] of the trainer's data, allocated
 *
 * EQS_DAMAGED: not an index. After a failure nothing is to be freed.
 */
eqs_status eqs_index_take(eqs_bytes_left *from, int64_t bound, eqs_checkpoint_contents *contents, uint64_t **checksum);

#endif
