#include "checkpoint/tiles.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"
#include "dist/communicator.h"

enum { tile_elements = 1 << 20 };

static int64_t tile_rows(int64_t cols)
{
  return cols < tile_elements ? tile_elements / cols : 1;
}

int64_t eqs_tile_count(int64_t rows, int64_t cols)
{
  if (rows == 0 || cols == 0) return 0;
  return (rows - 1) / tile_rows(cols) + 1;
}

int64_t eqs_tile_largest(const eqs_tile_table *table)
{
  int64_t largest = 0;
  for (int64_t i = 0; i < table->tensors; i++) {
    const eqs_tiled_tensor *tensor = &table->tensor[i];
    if (eqs_tile_count(tensor->rows, tensor->cols) == 0) continue;
    int64_t rows = tile_rows(tensor->cols);
    int64_t elements = (rows < tensor->rows ? rows : tensor->rows) * tensor->cols;
    if (elements > largest) largest = elements;
  }
  return largest;
}

bool eqs_tile_next(eqs_tile_walk *walk, eqs_tile *tile)
{
  for (; walk->tensor < walk->table->tensors; walk->tensor++, walk->index = 0) {
    const eqs_tiled_tensor *tensor = &walk->table->tensor[walk->tensor];
    int64_t tiles = eqs_tile_count(tensor->rows, tensor->cols);
    if (tensor->stored.offset < 0 || walk->index >= tiles) continue;
    int64_t rows = tile_rows(tensor->cols), first_row = walk->index * rows;
    *tile = (eqs_tile){.tensor = tensor,
                       .number = walk->number++,
                       .index = walk->index++,
                       .first_row = first_row,
                       .end_row = tensor->rows - first_row < rows ? tensor->rows : first_row + rows};
    if (walk->table->tile_rank != NULL) tile->rank = walk->table->tile_rank[tile->number];
    return true;
  }
  return false;
}

int64_t eqs_tile_elements(const eqs_tile *tile)
{
  return (tile->end_row - tile->first_row) * tile->tensor->cols;
}

/* Whether a matrix is whole rows of its tensor, as they are. */
static bool is_rows(const eqs_view *view)
{
  const eqs_view_part *part = &view->part[0];
  return view->parts == 1 && view->cols == view->tensor_cols && part->row_stride == view->tensor_cols &&
         part->col_stride == 1;
}

eqs_tile_shard eqs_tile_find_shard(const eqs_tile *tile)
{
  const eqs_checkpoint_tensor *tensor = &tile->tensor->stored;
  for (int64_t m = 0; m < tensor->matrices; m++) {
    const eqs_tensor_matrix *matrix = &tensor->matrix[m];
    const eqs_distribution *distribution = &matrix->distribution;
    if (distribution->grid_cols > 1 || !is_rows(matrix->view)) continue;
    int64_t begin = matrix->view->part[0].offset / matrix->view->tensor_cols;
    int64_t first = tile->first_row - begin, last = tile->end_row - 1 - begin;
    if (first < 0 || last >= distribution->rows || first / distribution->row_block != last / distribution->row_block)
      continue;
    int64_t block = first / distribution->row_block, local = block / distribution->grid_rows * distribution->row_block;
    return (eqs_tile_shard){.rank = matrix->first_owner + (int)(block % distribution->grid_rows),
                            .matrix = matrix,
                            .element = (local + first % distribution->row_block) * distribution->cols};
  }
  return (eqs_tile_shard){.rank = -1};
}

/* XXH3-64 of a tile's rows. */
static uint64_t checksum_of(const eqs_tile *tile, const float *rows)
{
  return XXH3_64bits(rows, (size_t)eqs_tile_elements(tile) * sizeof *rows);
}

eqs_status eqs_tile_write(int file, const char *path, const eqs_tile *tile, const float *rows)
{
  eqs_status status = EQS_OK;
  const eqs_tiled_tensor *tensor = tile->tensor;
  int64_t row_bytes = tensor->cols * (int64_t)sizeof *rows;
  uint64_t checksum = checksum_of(tile, rows);
  EQS_TRY(eqs_file_write(file, path, rows, eqs_tile_elements(tile) * (int64_t)sizeof *rows,
                         tensor->stored.offset + tile->first_row * row_bytes));
  EQS_TRY(eqs_file_write(file, path, &checksum, sizeof checksum,
                         tensor->stored.checksums + tile->index * (int64_t)sizeof checksum));
cleanup:
  return status;
}

eqs_status eqs_tile_load(int file, const char *path, const eqs_tile *tile, float *rows, bool *intact)
{
  eqs_status status = EQS_OK;
  const eqs_tiled_tensor *tensor = tile->tensor;
  int64_t row_bytes = tensor->cols * (int64_t)sizeof *rows;
  uint64_t checksum;
  EQS_TRY(eqs_file_read(file, path, rows, eqs_tile_elements(tile) * (int64_t)sizeof *rows,
                        tensor->stored.offset + tile->first_row * row_bytes));
  EQS_TRY(eqs_file_read(file, path, &checksum, sizeof checksum,
                        tensor->stored.checksums + tile->index * (int64_t)sizeof checksum));
  *intact = checksum == checksum_of(tile, rows);
cleanup:
  return status;
}

eqs_status eqs_tile_read(int file, const char *path, const eqs_tile *tile, float *rows)
{
  eqs_status status = EQS_OK;
  bool intact;
  EQS_TRY(eqs_tile_load(file, path, tile, rows, &intact));
  if (!intact)
    status =
        eqs_fail(EQS_DAMAGED, "%s: damaged: %s/%s, rows %lld to %lld: wrong checksum", path, tile->tensor->parameter,
                 tile->tensor->stored.name, (long long)tile->first_row, (long long)tile->end_row - 1);
cleanup:
  return status;
}

eqs_status eqs_tile_table_make(const eqs_checkpoint_contents *contents, eqs_tile_table *table)
{
  eqs_status status = EQS_OK;
  int64_t tensors = 0;
  for (int64_t p = 0; p < contents->parameters; p++) tensors += contents->parameter[p].tensors;
  EQS_TRY(eqs_allocate(&table->tensor, tensors, sizeof *table->tensor));
  for (int64_t p = 0; p < contents->parameters; p++) {
    const eqs_checkpoint_parameter *parameter = &contents->parameter[p];
    int64_t rows, cols;
    eqs_tensor_rows_cols(parameter->ndim, parameter->shape, &rows, &cols);
    for (int t = 0; t < parameter->tensors; t++)
      table->tensor[table->tensors++] =
          (eqs_tiled_tensor){.parameter = parameter->name, .rows = rows, .cols = cols, .stored = parameter->tensor[t]};
  }
cleanup:
  return status;
}

void eqs_tile_table_free(eqs_tile_table *table)
{
  free(table->tensor);
  free(table->tile_rank);
  *table = (eqs_tile_table){0};
}

static eqs_status deal_tiles(int ranks, eqs_tile_table *table)
{
  eqs_status status = EQS_OK;
  int64_t *load = NULL, total = 0, tiles = 0;
  int next = 0;
  eqs_tile tile;
  EQS_TRY(eqs_allocate(&load, ranks, sizeof *load));
  for (eqs_tile_walk walk = {.table = table}; eqs_tile_next(&walk, &tile); tiles++) total += eqs_tile_elements(&tile);
  int64_t share = (total - 1) / ranks + 1 + eqs_tile_largest(table);
  EQS_TRY(eqs_allocate(&table->tile_rank, tiles, sizeof *table->tile_rank));
  for (int64_t i = 0; i < tiles; i++) table->tile_rank[i] = -1;
  for (eqs_tile_walk walk = {.table = table}; eqs_tile_next(&walk, &tile);) {
    int rank = eqs_tile_find_shard(&tile).rank;
    if (rank < 0 || load[rank] + eqs_tile_elements(&tile) > share) continue;
    table->tile_rank[tile.number] = rank;
    load[rank] += eqs_tile_elements(&tile);
  }
  for (eqs_tile_walk walk = {.table = table}; eqs_tile_next(&walk, &tile);) {
    if (tile.rank >= 0) continue;
    while (load[next % ranks] + eqs_tile_elements(&tile) > share) next++; /* some rank has less than the mean */
    load[next % ranks] += eqs_tile_elements(&tile);
    table->tile_rank[tile.number] = next++ % ranks;
  }
cleanup:
  free(load);
  return status;
}

/* What a message says of a tensor. */
typedef struct {
  int64_t rows, cols, offset, checksums;
} tensor_offsets;

static eqs_status broadcast_offsets(MPI_Comm comm, eqs_tile_table *table)
{
  static const char what[] = "the first owner's table of tensors";
  eqs_status status = EQS_OK;
  int64_t tensors = table->tensors;
  tensor_offsets *list = NULL;
  EQS_TRY(eqs_broadcast(comm, &tensors, sizeof tensors, 0, what));
  EQS_TRY(eqs_allocate(&list, tensors, sizeof *list));
  if (table->tensors == 0) {
    free(table->tensor);
    table->tensor = NULL;
    EQS_TRY(eqs_allocate(&table->tensor, tensors, sizeof *table->tensor));
    table->tensors = tensors;
  }
  for (int64_t i = 0; i < tensors; i++) {
    const eqs_tiled_tensor *tensor = &table->tensor[i];
    list[i] = (tensor_offsets){tensor->rows, tensor->cols, tensor->stored.offset, tensor->stored.checksums};
  }
  EQS_TRY(eqs_broadcast(comm, list, tensors * (int64_t)sizeof *list, 0, what));
  for (int64_t i = 0; i < tensors; i++) {
    eqs_tiled_tensor *tensor = &table->tensor[i];
    tensor->rows = list[i].rows, tensor->cols = list[i].cols;
    tensor->stored.offset = list[i].offset, tensor->stored.checksums = list[i].checksums;
  }
cleanup:
  free(list);
  return status;
}

eqs_status eqs_tile_table_share(MPI_Comm comm, eqs_tile_table *table)
{
  eqs_status status = EQS_OK;
  int ranks;
  EQS_TRY(eqs_check_mpi(MPI_Comm_size(comm, &ranks), "MPI_Comm_size"));
  EQS_TRY(broadcast_offsets(comm, table));
  EQS_TRY(eqs_agree(comm, deal_tiles(ranks, table)));
cleanup:
  return status;
}
