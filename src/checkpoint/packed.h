/* Summaries as one block of bytes: for their checksum, and to hand them from one process to another. */
#ifndef EQS_CHECKPOINT_PACKED_H
#define EQS_CHECKPOINT_PACKED_H

#include "checkpoint/checkpoint.h"

/*
 * XXH3-64 of everything in a summary but `created` and the offsets, so of all metadata that HDF5 would otherwise be
 * trusted with. Serialised in the order of the file: texts with their length before, numbers as 8 bytes: format
 * version, step, skipped, equishard_version, config; per parameter name, shape, trainer_dtype, attributes (name, kind,
 * value), names of tensors; per trainer item key and bytes. Each list with its length before.
 *
 * EQS_FAILED: out of memory.
 */
eqs_status eqs_metadata_checksum(const eqs_checkpoint_summary *summary, uint64_t *checksum);

/* All of a summary: what the checksum is of, then `created` and the offsets. `bytes` is allocated. EQS_FAILED. */
eqs_status eqs_summary_pack(const eqs_checkpoint_summary *summary, char **bytes, int64_t *size);

/* That of a file: eqs_checkpoint_summarize, but for unpacking. `bytes` is allocated, NULL after a failure. */
eqs_status eqs_checkpoint_pack(const char *file, char **bytes, int64_t *size);

/* And back; free it with eqs_checkpoint_summary_free. EQS_DAMAGED: not what eqs_summary_pack makes. EQS_FAILED. */
eqs_status eqs_summary_unpack(const char *bytes, int64_t size, eqs_checkpoint_summary *summary);

#endif
