/*
 * Tiles: what is checksummed, written and read in one piece. A tile is a range of a tensor's rows, of 4 MiB or one row,
 * that depends on the tensor's shape alone.
 */
#ifndef EQS_CHECKPOINT_TILES_H
#define EQS_CHECKPOINT_TILES_H

#include <mpi.h>
#include <stdbool.h>

#include "checkpoint/contents.h"

/* A tensor whose tiles are moved between a file and shards. */
typedef struct {
  const char *parameter; /* NULL, as the tensor's name, where only the first rank knows them (verification) */
  int64_t rows, cols;
  eqs_checkpoint_tensor stored; /* a negative offset: it is not in the file, and has no tiles */
} eqs_tiled_tensor;

/* The tensors of sorted contents, or some of them, and who moves their tiles. */
typedef struct {
  int64_t tensors;
  eqs_tiled_tensor *tensor;
  int *tile_rank; /* of every tile, the rank that writes or reads it: eqs_tile_table_share */
} eqs_tile_table;

typedef struct {
  const eqs_tiled_tensor *tensor;
  int64_t number; /* in the table */
  int64_t index;  /* in the tensor */
  int64_t first_row, end_row;
  int rank; /* that writes or reads it */
} eqs_tile;

/* A walk over all tiles of a table, in order. Zeroed at first, but for the table. */
typedef struct {
  const eqs_tile_table *table;
  int64_t tensor, index, number;
} eqs_tile_walk;

/* The shard that has all rows of a tile, one after the other. */
typedef struct {
  int rank; /* -1: there is none */
  const eqs_tensor_matrix *matrix;
  int64_t element; /* of the shard, that the tile begins with */
} eqs_tile_shard;

int64_t eqs_tile_count(int64_t rows, int64_t cols);

/* Elements of the largest tile of a table. */
int64_t eqs_tile_largest(const eqs_tile_table *table);

/* The next tile; false after the last. */
bool eqs_tile_next(eqs_tile_walk *walk, eqs_tile *tile);

int64_t eqs_tile_elements(const eqs_tile *tile);

eqs_tile_shard eqs_tile_find_shard(const eqs_tile *tile);

/*
 * Write the rows of a tile and their checksum (XXH3-64) to a file that is open for writing; thread-safe, without MPI
 * and HDF5. EQS_IO.
 */
eqs_status eqs_tile_write(int file, const char *path, const eqs_tile *tile, const float *rows);

/* Read the rows of a tile; `intact`: whether their checksum matches. EQS_IO; EQS_DAMAGED: the file is cut off. */
eqs_status eqs_tile_load(int file, const char *path, const eqs_tile *tile, float *rows, bool *intact);

/* The same; EQS_DAMAGED if the checksum does not match: the message names the tensor and the rows. */
eqs_status eqs_tile_read(int file, const char *path, const eqs_tile *tile, float *rows);

/* The table of all tensors of sorted contents, whose names and matrices it borrows. Zeroed at first. */
eqs_status eqs_tile_table_make(const eqs_checkpoint_contents *contents, eqs_tile_table *table);
void eqs_tile_table_free(eqs_tile_table *table);

/*
 * Shapes and offsets from the first rank to all, others have the same table or an empty one; then all tiles are dealt:
 * no rank gets more than its share of the elements, to a tile; up to that it keeps the tiles that one of its shards
 * has, which need no messages; the rest goes in turn. Collective.
 */
eqs_status eqs_tile_table_share(MPI_Comm comm, eqs_tile_table *table);

#endif
