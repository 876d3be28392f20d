/* Verifying a whole checkpoint. */
#ifndef EQS_CHECKPOINT_VERIFY_H
#define EQS_CHECKPOINT_VERIFY_H

#include <mpi.h>

#include "base/status.h"

/*
 * Verify all checksums, the work shared by the ranks of comm. Every damaged tile is reported through `report`
 * (parameter, tensor, first and end row; may be NULL) on the first rank, in order; EQS_DAMAGED if there is one.
 * path is as in eqs_checkpoint_find; the first rank's counts.
 *
 * tiles, bytes  [out] how many tiles were checked, and of how many bytes
 *
 * Collective over comm.
 */
typedef void (*eqs_damage_report)(const char *parameter, const char *tensor, int64_t first_row, int64_t end_row);
eqs_status eqs_checkpoint_verify(MPI_Comm comm, const char *path, eqs_damage_report report, int64_t *tiles,
                                 int64_t *bytes);

#endif
