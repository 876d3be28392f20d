/*
 * Tiles: what is checksummed, written and read at once. A tile is a range of a tensor's rows, of 4 MiB or one row,
 * that depends on the tensor's shape alone. Tensors are in canonical order: by parameter, then by tensor name.
 */
#ifndef EQS_CHECKPOINT_TILES_H
#define EQS_CHECKPOINT_TILES_H

#include <stdbool.h>

#include "checkpoint/checkpoint.h"

/* A tensor in a file. */
typedef struct {
  const char *parameter, *name; /* NULL where only the first rank knows them (verification) */
  int64_t rows, cols;
  int64_t offset;           /* of the data in the file; negative: not in the file */
  int64_t checksums;        /* of the tiles' checksums in the file */
  const eqs_tensor *tensor; /* NULL: verification */
} eqs_stored_tensor;

typedef struct {
  int64_t tensors;
  eqs_stored_tensor *tensor;
  int *tile_rank; /* of every tile, the rank that writes or reads it: eqs_table_deal */
} eqs_tensor_table;

typedef struct {
  const eqs_stored_tensor *stored;
  int64_t number; /* in the file */
  int64_t index;  /* in the tensor */
  int64_t first_row, end_row;
  int rank; /* that writes or reads it */
} eqs_tile;

/* A walk over all tiles of a table, in order. Zeroed at first, but for the table. */
typedef struct {
  const eqs_tensor_table *table;
  int64_t tensor, index, number;
} eqs_tile_walk;

/* Where one rank's shard has all rows of a tile, one after the other. */
typedef struct {
  int rank; /* -1: nowhere */
  const eqs_tensor_matrix *matrix;
  int64_t element; /* of its shard, that the tile begins with */
} eqs_tile_place;

/* Rows and columns of a tensor; false if the number of elements overflows. */
bool eqs_tensor_rows_cols(int ndim, const int64_t *shape, int64_t *rows, int64_t *cols);

int64_t eqs_tile_count(int64_t rows, int64_t cols);

/* Elements of the largest tile of a table. */
int64_t eqs_tile_largest(const eqs_tensor_table *table);

/* The next tile; false after the last. */
bool eqs_tile_next(eqs_tile_walk *walk, eqs_tile *tile);

int64_t eqs_tile_elements(const eqs_tile *tile);

eqs_tile_place eqs_tile_find(const eqs_tile *tile);

/* XXH3-64 of a tile's rows. */
uint64_t eqs_tile_checksum(const eqs_tile *tile, const float *rows);

/*
 * Read the rows of a tile from a checkpoint that is open as `file`, and verify their checksum. Not collective.
 * EQS_IO; EQS_DAMAGED: the message names the tensor and the rows.
 */
eqs_status eqs_tile_read(int file, const char *path, const eqs_tile *tile, float *rows);

/*
 * The parameters in canonical order: `order` is allocated. EQS_USAGE: a name that a checkpoint cannot have (empty, ".",
 * with a '/'), twice the same name, a tensor that does not have its parameter's shape or too many.
 */
eqs_status eqs_parameter_order(int64_t parameters, const eqs_checkpoint_parameter *parameter,
                               const eqs_checkpoint_parameter ***order);

/* The tensors of one parameter in canonical order: order[0 ... tensors - 1] are indices. */
void eqs_tensor_order(const eqs_checkpoint_parameter *parameter, int order[EQS_MAX_TENSORS]);

/* EQS_USAGE: a name that a link in a file cannot have, or that is longer than 4000 bytes; `what` it names. */
eqs_status eqs_check_name(const char *what, const char *name);

/* The table of a model's tensors, offsets -1; of what is in a file. `tensor` is allocated. */
eqs_status eqs_table_of_model(int64_t parameters, const eqs_checkpoint_parameter *parameter, eqs_tensor_table *table);
eqs_status eqs_table_of_file(const eqs_checkpoint_summary *summary, eqs_tensor_table *table);

void eqs_table_free(eqs_tensor_table *table);

/*
 * Sizes and offsets from the first rank to all, others have the same table or an empty one; then all tiles are dealt:
 * no rank gets more than its share of the elements, to a tile; up to that it keeps the tiles that it has in one place,
 * which need no messages; the rest goes in turn. Collective.
 */
eqs_status eqs_table_share(MPI_Comm comm, eqs_tensor_table *table);

/*
 * Agree on a status as eqs_agree does; but a rank that has lost its peers says so and does not ask them. Collective.
 */
eqs_status eqs_checkpoint_agree(MPI_Comm comm, eqs_status local);

#endif
