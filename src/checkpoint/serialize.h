/* Contents as one block of bytes: for their checksum, and to hand them from one process to another. */
#ifndef EQS_CHECKPOINT_SERIALIZE_H
#define EQS_CHECKPOINT_SERIALIZE_H

#include "checkpoint/contents.h"

/*
 * XXH3-64 of everything in a contents but `created` and the offsets, so of all metadata that HDF5 would otherwise be
 * trusted with. Serialised in the order of the file: texts with their length before, numbers as 8 bytes: format
 * version, step, skipped, equishard_version, config; per parameter name, shape, trainer_dtype, attributes (name, kind,
 * value), names of tensors; per trainer item key and bytes. Each list with its length before.
 *
 * EQS_FAILED: out of memory.
 */
eqs_status eqs_contents_checksum(const eqs_checkpoint_contents *contents, uint64_t *checksum);

/* All of a contents: what the checksum is of, then `created` and the offsets. `bytes` is allocated. EQS_FAILED. */
eqs_status eqs_contents_serialize(const eqs_checkpoint_contents *contents, char **bytes, int64_t *size);

/* And back; free it with eqs_contents_free. EQS_DAMAGED: not what eqs_contents_serialize makes. EQS_FAILED. */
eqs_status eqs_contents_deserialize(const char *bytes, int64_t size, eqs_checkpoint_contents *contents);

#endif
