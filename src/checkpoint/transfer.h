/*
 * Moving tiles between the shards of their matrices and the ranks that write or read them.
 *
 * All ranks walk the tiles in the same order. For every tile a rank first `produces` what others need (sends), then
 * `consumes` (receives). Producing runs ahead of consuming while send buffers are free, but waits for a buffer only
 * when it is not ahead; so the rank that is furthest behind always finds its messages on their way, and no deadlock is
 * possible. Sends are synchronous: messages that nobody has asked for yet do not pile up at the receiver.
 */
#ifndef EQS_CHECKPOINT_TRANSFER_H
#define EQS_CHECKPOINT_TRANSFER_H

#include "checkpoint/tiles.h"

typedef struct eqs_transfer eqs_transfer;

/* Allocates all buffers: six times the largest tile. Not collective. */
eqs_status eqs_transfer_create(MPI_Comm comm, const eqs_tile_table *table, eqs_transfer **transfer);

/* Buffers of messages that are still on their way (a peer was lost) stay allocated. Sets *transfer to NULL. */
void eqs_transfer_destroy(eqs_transfer **transfer);

/*
 * What happens to the rows of a tile on its rank, in a buffer or where its shard has them. Failures of the file, which
 * do not end the walk because others wait for this rank, are kept by the callee.
 */
typedef void (*eqs_tile_action)(void *job, const eqs_tile *tile, float *rows);

/*
 * Gather every tile's rows from the shards and hand them to `action` on the tile's rank. Collective.
 * EQS_PEER_LOST.
 */
eqs_status eqs_transfer_gather(eqs_transfer *transfer, eqs_tile_action action, void *job);

/* Have `action` fill every tile's rows on the tile's rank and put them into the shards. Collective. EQS_PEER_LOST. */
eqs_status eqs_transfer_scatter(eqs_transfer *transfer, eqs_tile_action action, void *job);

#endif
