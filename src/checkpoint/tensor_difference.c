#include "checkpoint/tensor_difference.h"

#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "checkpoint/tiles.h"

/* Sums over the elements of a tensor that are finite on both sides. */
typedef struct {
  double difference, b; /* squares */
} square_sums;

static uint32_t bits_of(float x)
{
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static void add_rows(const float *a, const float *b, int64_t count, eqs_tensor_difference *difference,
                     square_sums *sums)
{
  square_sums here = {0}; /* of a tile: sums of sums lose less */
  for (int64_t i = 0; i < count; i++) {
    bool differs = bits_of(a[i]) != bits_of(b[i]);
    difference->differing += differs;
    if (!isfinite(a[i]) || !isfinite(b[i])) {
      difference->not_finite += differs;
      continue;
    }
    double distance = fabs((double)a[i] - (double)b[i]);
    if (distance > difference->largest) difference->largest = distance;
    here.difference += distance * distance;
    here.b += (double)b[i] * (double)b[i];
  }
  sums->difference += here.difference;
  sums->b += here.b;
}

/* Tables of the tensors that both have in one shape; the same one at the same place. */
static eqs_status find_common(const eqs_checkpoint_contents *a, const eqs_checkpoint_contents *b,
                              eqs_tile_table *table_a, eqs_tile_table *table_b)
{
  eqs_status status = EQS_OK;
  int64_t common = 0, i = 0;
  EQS_TRY(eqs_tile_table_make(a, table_a));
  EQS_TRY(eqs_allocate(&table_b->tensor, table_a->tensors, sizeof *table_b->tensor));
  for (int64_t p = 0; p < a->parameters; p++) {
    const eqs_checkpoint_parameter *left = &a->parameter[p], *right = eqs_contents_find(b, left->name);
    bool same_shape = right != NULL && eqs_parameter_has_shape(right, left->ndim, left->shape);
    for (int t = 0; t < left->tensors; t++, i++) {
      const eqs_checkpoint_tensor *other = same_shape ? eqs_parameter_find_tensor(right, left->tensor[t].name) : NULL;
      if (other == NULL) continue;
      table_a->tensor[common] = table_b->tensor[common] = table_a->tensor[i];
      table_b->tensor[common++].stored = *other;
    }
  }
  table_a->tensors = table_b->tensors = common;
cleanup:
  return status;
}

static eqs_status compare_tiles(const char *file_a, const eqs_tile_table *a, const char *file_b,
                                const eqs_tile_table *b, eqs_tensor_difference *difference, square_sums *sums)
{
  eqs_status status = EQS_OK;
  float *rows_a = NULL, *rows_b = NULL;
  int opened_a = -1, opened_b = -1;
  EQS_TRY(eqs_allocate_raw(&rows_a, eqs_tile_largest(a), sizeof *rows_a));
  EQS_TRY(eqs_allocate_raw(&rows_b, eqs_tile_largest(a), sizeof *rows_b));
  EQS_TRY(eqs_file_open(file_a, O_RDONLY, &opened_a));
  EQS_TRY(eqs_file_open(file_b, O_RDONLY, &opened_b));
  eqs_tile_walk walk = {.table = a};
  for (eqs_tile tile; eqs_tile_next(&walk, &tile);) {
    int64_t i = tile.tensor - a->tensor;
    eqs_tile other = tile; /* the rows of a tile follow from the shape */
    other.tensor = &b->tensor[i];
    EQS_TRY(eqs_tile_read(opened_a, file_a, &tile, rows_a));
    EQS_TRY(eqs_tile_read(opened_b, file_b, &other, rows_b));
    add_rows(rows_a, rows_b, eqs_tile_elements(&tile), &difference[i], &sums[i]);
  }
cleanup:
  eqs_file_close(opened_b);
  eqs_file_close(opened_a);
  free(rows_b);
  free(rows_a);
  return status;
}

eqs_status eqs_tensor_differences(const char *file_a, const eqs_checkpoint_contents *a, const char *file_b,
                                  const eqs_checkpoint_contents *b, int64_t *count, eqs_tensor_difference **difference)
{
  eqs_status status = EQS_OK;
  eqs_tile_table table_a = {0}, table_b = {0};
  eqs_tensor_difference *found = NULL;
  square_sums *sums = NULL;
  EQS_TRY(find_common(a, b, &table_a, &table_b));
  EQS_TRY(eqs_allocate(&found, table_a.tensors, sizeof *found));
  EQS_TRY(eqs_allocate(&sums, table_a.tensors, sizeof *sums));
  for (int64_t i = 0; i < table_a.tensors; i++) {
    const eqs_tiled_tensor *tensor = &table_a.tensor[i];
    found[i] = (eqs_tensor_difference){
        .parameter = tensor->parameter, .tensor = tensor->stored.name, .elements = tensor->rows * tensor->cols};
  }
  EQS_TRY(compare_tiles(file_a, &table_a, file_b, &table_b, found, sums));
  for (int64_t i = 0; i < table_a.tensors; i++)
    if (sums[i].difference > 0) found[i].relative = sqrt(sums[i].difference / sums[i].b);
  *count = table_a.tensors;
  *difference = found;
  found = NULL;
cleanup:
  free(sums);
  free(found);
  eqs_tile_table_free(&table_b);
  eqs_tile_table_free(&table_a);
  return status;
}
