#include "checkpoint/tiles.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/memory.h"
#include "dist/communicator.h"

enum { tile_elements = 1 << 20, longest_name = 4000 };

bool eqs_tensor_rows_cols(int ndim, const int64_t *shape, int64_t *rows, int64_t *cols)
{
  *rows = 1;
  *cols = ndim > 1 ? shape[ndim - 1] : 1;
  for (int d = 0; d < (ndim > 1 ? ndim - 1 : ndim); d++)
    if (!eqs_multiply_sizes(*rows, shape[d], rows)) return false;
  int64_t bytes;
  return eqs_multiply_sizes(*rows, *cols, &bytes) && eqs_multiply_sizes(bytes, (int64_t)sizeof(float), &bytes);
}

static int64_t tile_rows(int64_t cols)
{
  return cols < tile_elements ? tile_elements / cols : 1;
}

int64_t eqs_tile_count(int64_t rows, int64_t cols)
{
  if (rows == 0 || cols == 0) return 0;
  return (rows - 1) / tile_rows(cols) + 1;
}

int64_t eqs_tile_largest(const eqs_tensor_table *table)
{
  int64_t largest = 0;
  for (int64_t i = 0; i < table->tensors; i++) {
    const eqs_stored_tensor *stored = &table->tensor[i];
    if (eqs_tile_count(stored->rows, stored->cols) == 0) continue;
    int64_t rows = tile_rows(stored->cols);
    int64_t elements = (rows < stored->rows ? rows : stored->rows) * stored->cols;
    if (elements > largest) largest = elements;
  }
  return largest;
}

bool eqs_tile_next(eqs_tile_walk *walk, eqs_tile *tile)
{
  for (; walk->tensor < walk->table->tensors; walk->tensor++, walk->index = 0) {
    const eqs_stored_tensor *stored = &walk->table->tensor[walk->tensor];
    int64_t tiles = eqs_tile_count(stored->rows, stored->cols);
    if (stored->offset < 0 || walk->index >= tiles) continue;
    int64_t rows = tile_rows(stored->cols), first_row = walk->index * rows;
    *tile = (eqs_tile){.stored = stored,
                       .number = walk->number++,
                       .index = walk->index++,
                       .first_row = first_row,
                       .end_row = stored->rows - first_row < rows ? stored->rows : first_row + rows};
    if (walk->table->tile_rank != NULL) tile->rank = walk->table->tile_rank[tile->number];
    return true;
  }
  return false;
}

int64_t eqs_tile_elements(const eqs_tile *tile)
{
  return (tile->end_row - tile->first_row) * tile->stored->cols;
}

/* Whether a matrix is whole rows of its tensor, as they are. */
static bool is_rows(const eqs_view *view)
{
  const eqs_view_part *part = &view->part[0];
  return view->parts == 1 && view->cols == view->tensor_cols && part->row_stride == view->tensor_cols &&
         part->col_stride == 1;
}

eqs_tile_place eqs_tile_find(const eqs_tile *tile)
{
  const eqs_tensor *tensor = tile->stored->tensor;
  for (int64_t m = 0; tensor != NULL && m < tensor->count; m++) {
    const eqs_tensor_matrix *matrix = &tensor->matrices[m];
    const eqs_distribution *distribution = &matrix->distribution;
    if (distribution->grid_cols > 1 || !is_rows(matrix->view)) continue;
    int64_t begin = matrix->view->part[0].offset / matrix->view->tensor_cols;
    int64_t first = tile->first_row - begin, last = tile->end_row - 1 - begin;
    if (first < 0 || last >= distribution->rows || first / distribution->row_block != last / distribution->row_block)
      continue;
    int64_t block = first / distribution->row_block, local = block / distribution->grid_rows * distribution->row_block;
    return (eqs_tile_place){.rank = matrix->first_owner + (int)(block % distribution->grid_rows),
                            .matrix = matrix,
                            .element = (local + first % distribution->row_block) * distribution->cols};
  }
  return (eqs_tile_place){.rank = -1};
}

uint64_t eqs_tile_checksum(const eqs_tile *tile, const float *rows)
{
  return XXH3_64bits(rows, (size_t)eqs_tile_elements(tile) * sizeof *rows);
}

eqs_status eqs_check_name(const char *what, const char *name)
{
  if (name == NULL || name[0] == '\0' || strcmp(name, ".") == 0 || strchr(name, '/'))
    return eqs_fail(EQS_USAGE, "%s \"%s\": a checkpoint cannot have this name (empty, \".\", or with a '/')", what,
                    name ? name : "");
  if (strlen(name) > longest_name)
    return eqs_fail(EQS_USAGE, "%s \"%.80s...\": a checkpoint cannot have names of more than %d bytes", what, name,
                    longest_name);
  return EQS_OK;
}

static int by_name(const void *a, const void *b)
{
  const eqs_checkpoint_parameter *const *left = a, *const *right = b;
  return strcmp((*left)->name, (*right)->name);
}

static eqs_status check_parameter(const eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  int64_t rows, cols;
  EQS_TRY(eqs_check_name("parameter", parameter->name));
  if (parameter->ndim < 0 || parameter->ndim > EQS_MAX_DIMS)
    return eqs_fail(EQS_USAGE, "%s: %d dimensions; at most %d", parameter->name, parameter->ndim, EQS_MAX_DIMS);
  if (!eqs_tensor_rows_cols(parameter->ndim, parameter->shape, &rows, &cols) || cols > INT_MAX)
    return eqs_fail(EQS_USAGE, "%s: too large for a checkpoint", parameter->name);
  if (parameter->tensors < 1 || parameter->tensors > EQS_MAX_TENSORS)
    return eqs_fail(EQS_USAGE, "%s: %d tensors; at least 1, at most %d", parameter->name, parameter->tensors,
                    EQS_MAX_TENSORS);
  for (int t = 0; t < parameter->tensors; t++) {
    EQS_TRY(eqs_check_name("tensor", parameter->tensor_name[t]));
    if (parameter->tensor[t].rows != rows || parameter->tensor[t].cols != cols)
      return eqs_fail(EQS_USAGE, "%s/%s: %lld x %lld elements, but the parameter has %lld x %lld", parameter->name,
                      parameter->tensor_name[t], (long long)parameter->tensor[t].rows,
                      (long long)parameter->tensor[t].cols, (long long)rows, (long long)cols);
  }
cleanup:
  return status;
}

eqs_status eqs_parameter_order(int64_t parameters, const eqs_checkpoint_parameter *parameter,
                               const eqs_checkpoint_parameter ***order)
{
  eqs_status status = EQS_OK;
  const eqs_checkpoint_parameter **sorted = NULL;
  EQS_TRY(eqs_allocate(&sorted, parameters, sizeof *sorted));
  for (int64_t p = 0; p < parameters; p++) {
    EQS_TRY(check_parameter(&parameter[p]));
    sorted[p] = &parameter[p];
  }
  if (parameters > 0) qsort(sorted, (size_t)parameters, sizeof *sorted, by_name);
  for (int64_t p = 1; p < parameters; p++)
    if (strcmp(sorted[p - 1]->name, sorted[p]->name) == 0) {
      status = eqs_fail(EQS_USAGE, "two parameters are named %s", sorted[p]->name);
      goto cleanup;
    }
  *order = sorted;
  sorted = NULL;
cleanup:
  free(sorted);
  return status;
}

void eqs_tensor_order(const eqs_checkpoint_parameter *parameter, int order[EQS_MAX_TENSORS])
{
  for (int t = 0; t < parameter->tensors; t++) {
    int at = t;
    for (; at > 0 && strcmp(parameter->tensor_name[order[at - 1]], parameter->tensor_name[t]) > 0; at--)
      order[at] = order[at - 1];
    order[at] = t;
  }
}

eqs_status eqs_table_of_model(int64_t parameters, const eqs_checkpoint_parameter *parameter, eqs_tensor_table *table)
{
  eqs_status status = EQS_OK;
  const eqs_checkpoint_parameter **sorted = NULL;
  EQS_TRY(eqs_parameter_order(parameters, parameter, &sorted));
  EQS_TRY(eqs_allocate(&table->tensor, parameters * EQS_MAX_TENSORS, sizeof *table->tensor));
  for (int64_t p = 0; p < parameters; p++) {
    int order[EQS_MAX_TENSORS];
    eqs_tensor_order(sorted[p], order);
    for (int t = 0; t < sorted[p]->tensors; t++) {
      const eqs_tensor *tensor = &sorted[p]->tensor[order[t]];
      table->tensor[table->tensors++] = (eqs_stored_tensor){.parameter = sorted[p]->name,
                                                            .name = sorted[p]->tensor_name[order[t]],
                                                            .rows = tensor->rows,
                                                            .cols = tensor->cols,
                                                            .offset = -1,
                                                            .checksums = -1,
                                                            .tensor = tensor};
    }
  }
cleanup:
  free(sorted);
  return status;
}

eqs_status eqs_table_of_file(const eqs_checkpoint_summary *summary, eqs_tensor_table *table)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_allocate(&table->tensor, summary->entries * EQS_MAX_TENSORS, sizeof *table->tensor));
  for (int64_t e = 0; e < summary->entries; e++) {
    const eqs_checkpoint_entry *entry = &summary->entry[e];
    int64_t rows, cols;
    eqs_tensor_rows_cols(entry->ndim, entry->shape, &rows, &cols);
    for (int t = 0; t < entry->tensors; t++)
      table->tensor[table->tensors++] = (eqs_stored_tensor){.parameter = entry->name,
                                                            .name = entry->tensor_name[t],
                                                            .rows = rows,
                                                            .cols = cols,
                                                            .offset = entry->offset[t],
                                                            .checksums = entry->checksums[t]};
  }
cleanup:
  return status;
}

void eqs_table_free(eqs_tensor_table *table)
{
  free(table->tensor);
  free(table->tile_rank);
  *table = (eqs_tensor_table){0};
}

static eqs_status deal_tiles(int ranks, eqs_tensor_table *table)
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
    int rank = eqs_tile_find(&tile).rank;
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

static eqs_status broadcast_places(MPI_Comm comm, eqs_tensor_table *table)
{
  static const char what[] = "the first owner's table of tensors";
  enum { numbers = 4 };
  eqs_status status = EQS_OK;
  int64_t tensors = table->tensors, *packed = NULL;
  EQS_TRY(eqs_broadcast(comm, &tensors, sizeof tensors, 0, what));
  EQS_TRY(eqs_allocate(&packed, tensors * numbers, sizeof *packed));
  if (table->tensors == 0) {
    free(table->tensor);
    table->tensor = NULL;
    EQS_TRY(eqs_allocate(&table->tensor, tensors, sizeof *table->tensor));
    table->tensors = tensors;
  }
  for (int64_t i = 0; i < tensors; i++) {
    const eqs_stored_tensor *stored = &table->tensor[i];
    memcpy(packed + i * numbers, (int64_t[]){stored->rows, stored->cols, stored->offset, stored->checksums},
           numbers * sizeof *packed);
  }
  EQS_TRY(eqs_broadcast(comm, packed, tensors * numbers * (int64_t)sizeof *packed, 0, what));
  for (int64_t i = 0; i < tensors; i++) {
    eqs_stored_tensor *stored = &table->tensor[i];
    stored->rows = packed[i * numbers];
    stored->cols = packed[i * numbers + 1];
    stored->offset = packed[i * numbers + 2];
    stored->checksums = packed[i * numbers + 3];
  }
cleanup:
  free(packed);
  return status;
}

eqs_status eqs_table_share(MPI_Comm comm, eqs_tensor_table *table)
{
  eqs_status status = EQS_OK;
  int ranks;
  EQS_TRY(eqs_check_mpi(MPI_Comm_size(comm, &ranks), "MPI_Comm_size"));
  EQS_TRY(broadcast_places(comm, table));
  EQS_TRY(eqs_checkpoint_agree(comm, deal_tiles(ranks, table)));
cleanup:
  return status;
}

eqs_status eqs_checkpoint_agree(MPI_Comm comm, eqs_status local)
{
  /* what eqs_agree itself cannot wait for, nobody else reports */
  eqs_status status = local == EQS_PEER_LOST ? local : eqs_agree(comm, local);
  if (status == EQS_PEER_LOST) eqs_log(EQS_LOG_ERROR, "%s", eqs_error_message());
  return status;
}
