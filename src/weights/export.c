#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/numbers.h"
#include "checkpoint/directory.h"
#include "checkpoint/match_model.h"
#include "checkpoint/read_contents.h"
#include "checkpoint/tiles.h"
#include "weights/export.h"
#include "weights/safetensors.h"

/* The chosen weights: where they are in the checkpoint, and as what they go out; in the same order. */
typedef struct {
  eqs_tile_table table;
  eqs_safetensors content;
} chosen_weights;

static eqs_status add_weight(const eqs_checkpoint_parameter *parameter, const eqs_tiled_tensor *stored, eqs_dtype dtype,
                             chosen_weights *chosen)
{
  eqs_status status = EQS_OK;
  eqs_safetensor *tensor = &chosen->content.tensor[chosen->content.tensors];
  EQS_TRY(eqs_copy_text(&tensor->name, parameter->name));
  tensor->dtype = eqs_safetensors_dtype(dtype);
  tensor->ndim = parameter->ndim;
  memcpy(tensor->shape, parameter->shape, sizeof tensor->shape);
  chosen->table.tensor[chosen->content.tensors++] = *stored;
cleanup:
  return status;
}

static eqs_status choose_weights(const char *file, const eqs_checkpoint_contents *contents,
                                 const eqs_name_choice *choice, eqs_dtype dtype, chosen_weights *chosen)
{
  eqs_status status = EQS_OK;
  int64_t i = 0;
  EQS_TRY(eqs_tile_table_make(contents, &chosen->table));
  EQS_TRY(eqs_allocate(&chosen->content.tensor, contents->parameters, sizeof *chosen->content.tensor));
  for (int64_t p = 0; p < contents->parameters; p++) {
    const eqs_checkpoint_parameter *parameter = &contents->parameter[p];
    bool wanted = eqs_name_chosen(choice, parameter->name);
    for (int t = 0; t < parameter->tensors; t++, i++)
      if (wanted && strcmp(parameter->tensor[t].name, "weight") == 0)
        EQS_TRY(add_weight(parameter, &chosen->table.tensor[i], dtype, chosen));
  }
  chosen->table.tensors = chosen->content.tensors;
  if (chosen->content.tensors == 0) status = eqs_fail(EQS_USAGE, "%s: no parameter of it is chosen", file);
cleanup:
  return status;
}

/* Files that are open, and room for a tile. */
typedef struct {
  const char *from_path, *to_path;
  int from, to;
  float *rows;
  void *converted;
  bool saturate;
  int64_t saturated; /* elements */
} export_files;

/* What `dtype` has no finite number for. */
static eqs_status check_range(export_files *files, const eqs_tile *tile, const eqs_safetensor *tensor, eqs_dtype dtype)
{
  int64_t elements = eqs_tile_elements(tile), found = eqs_find_beyond(dtype, files->rows, elements);
  if (found == elements) return EQS_OK;
  if (!files->saturate)
    return eqs_fail(
        EQS_USAGE,
        "%s: parameter %.500s: element %lld is %g, and %s ends at %g: take another --dtype; --saturate takes "
        "the largest number instead, --exclude leaves the parameter out",
        files->from_path, tensor->name, (long long)(tile->first_row * tile->tensor->cols + found),
        (double)files->rows[found], eqs_dtype_name(dtype), (double)eqs_dtype_largest(dtype));
  files->saturated += eqs_saturate(dtype, files->rows, elements);
  return EQS_OK;
}

static eqs_status copy_tiles(export_files *files, const chosen_weights *chosen, eqs_dtype dtype)
{
  eqs_status status = EQS_OK;
  int64_t size = (int64_t)eqs_dtype_size(dtype);
  eqs_tile_walk walk = {.table = &chosen->table};
  for (eqs_tile tile; eqs_tile_next(&walk, &tile);) {
    const eqs_safetensor *tensor = &chosen->content.tensor[tile.tensor - chosen->table.tensor];
    int64_t cols = tile.tensor->cols, elements = eqs_tile_elements(&tile);
    EQS_TRY(eqs_tile_read(files->from, files->from_path, &tile, files->rows));
    EQS_TRY(check_range(files, &tile, tensor, dtype));
    eqs_from_float(dtype, files->rows, files->converted, elements);
    EQS_TRY(eqs_file_write(files->to, files->to_path, files->converted, elements * size,
                           tensor->offset + tile.first_row * cols * size));
  }
cleanup:
  return status;
}

/* An own file with the head and all tensors, on the disk. */
static eqs_status write_file(const char *from_path, const char *to_path, const char *head, int64_t length,
                             const chosen_weights *chosen, eqs_dtype dtype, bool saturate, int64_t *saturated)
{
  eqs_status status = EQS_OK;
  export_files files = {.from_path = from_path, .to_path = to_path, .from = -1, .to = -1, .saturate = saturate};
  const eqs_safetensor *last = &chosen->content.tensor[chosen->content.tensors - 1];
  int64_t room = eqs_tile_largest(&chosen->table), bytes = last->offset + last->bytes;
  EQS_TRY(eqs_allocate_raw(&files.rows, room, sizeof *files.rows));
  EQS_TRY(eqs_allocate_raw(&files.converted, room, eqs_dtype_size(dtype)));
  EQS_TRY(eqs_file_open(from_path, O_RDONLY, &files.from));
  EQS_TRY(eqs_file_open(to_path, O_WRONLY | O_CREAT | O_EXCL, &files.to));
  EQS_TRY(eqs_file_resize(files.to, to_path, bytes));
  EQS_TRY(eqs_file_reserve(files.to, to_path, bytes));
  EQS_TRY(eqs_file_write(files.to, to_path, head, length, 0));
  EQS_TRY(copy_tiles(&files, chosen, dtype));
  EQS_TRY(eqs_file_sync(files.to, to_path));
  *saturated = files.saturated;
cleanup:
  eqs_file_close(files.to);
  eqs_file_close(files.from);
  free(files.converted);
  free(files.rows);
  return status;
}

static eqs_status write_and_rename(const char *from_path, const char *output, const char *head, int64_t length,
                                   const chosen_weights *chosen, eqs_dtype dtype, bool saturate, int64_t *saturated)
{
  eqs_status status = EQS_OK;
  char *partial = NULL;
  if (eqs_file_same(from_path, output)) return eqs_fail(EQS_USAGE, "%s: the output would replace the input", output);
  EQS_TRY(eqs_format(&partial, "%s.partial", output));
  unlink(partial); /* what a write that was cut off has left */
  EQS_TRY(write_file(from_path, partial, head, length, chosen, dtype, saturate, saturated));
  EQS_TRY(eqs_file_rename(partial, output));
cleanup:
  if (status != EQS_OK && partial) unlink(partial);
  free(partial);
  return status;
}

eqs_status eqs_weights_export(const char *checkpoint, const char *output, eqs_dtype dtype,
                              const eqs_name_choice *choice, bool saturate, eqs_weights_moved *moved)
{
  eqs_status status = EQS_OK;
  char *file = NULL, *head = NULL;
  int64_t length;
  eqs_checkpoint_contents contents = {0};
  chosen_weights chosen = {0};
  EQS_TRY(eqs_checkpoint_find(checkpoint, &file));
  EQS_TRY(eqs_contents_read(file, &contents));
  EQS_TRY(eqs_match_rename(NULL, &contents));
  EQS_TRY(choose_weights(file, &contents, choice, dtype, &chosen));
  EQS_TRY(eqs_safetensors_make_head(&chosen.content, contents.step, &head, &length));
  *moved = (eqs_weights_moved){.step = contents.step, .tensors = chosen.content.tensors};
  EQS_TRY(write_and_rename(file, output, head, length, &chosen, dtype, saturate, &moved->saturated));
  for (int64_t i = 0; i < chosen.content.tensors; i++) {
    moved->elements += chosen.content.tensor[i].elements;
    moved->bytes += chosen.content.tensor[i].bytes;
  }
cleanup:
  eqs_safetensors_free(&chosen.content);
  eqs_tile_table_free(&chosen.table);
  eqs_contents_free(&contents);
  free(head);
  free(file);
  return status;
}
