#include "checkpoint/read.h"

#include <fcntl.h>

#include "base/file.h"
#include "checkpoint/transfer.h"
#include "dist/communicator.h"

/* What a rank does with its own tiles. */
typedef struct {
  const char *path;
  int file;
  eqs_status status; /* the first failure */
} tile_reader;

static void read_tile(void *job, const eqs_tile *tile, float *rows)
{
  tile_reader *reader = job;
  if (reader->status != EQS_OK) return; /* the rows are sent all the same, since others wait for them */
  reader->status = eqs_tile_read(reader->file, reader->path, tile, rows);
}

/* Where the file has the model's tensors. EQS_USAGE: one of another shape. */
static eqs_status locate(const eqs_checkpoint_contents *stored, const char *path, const eqs_checkpoint_contents *model,
                         eqs_tile_table *table)
{
  for (int64_t p = 0, i = 0; p < model->parameters; p++) {
    const eqs_checkpoint_parameter *parameter = &model->parameter[p];
    const eqs_checkpoint_parameter *in_file = eqs_contents_find(stored, parameter->name);
    if (in_file != NULL && !eqs_parameter_has_shape(in_file, parameter->ndim, parameter->shape))
      return eqs_fail(EQS_USAGE, "%s: parameter '%s' has another shape in the model", path, parameter->name);
    for (int t = 0; t < parameter->tensors; t++, i++) {
      const eqs_checkpoint_tensor *tensor =
          in_file != NULL ? eqs_parameter_find_tensor(in_file, parameter->tensor[t].name) : NULL;
      table->tensor[i].stored.offset = tensor != NULL ? tensor->offset : -1;
      table->tensor[i].stored.checksums = tensor != NULL ? tensor->checksums : -1;
    }
  }
  return EQS_OK;
}

static eqs_status read_tiles(eqs_transfer *transfer, const char *path)
{
  eqs_status status = EQS_OK;
  tile_reader reader = {.path = path, .file = -1};
  reader.status = eqs_file_open(path, O_RDONLY, &reader.file);
  EQS_TRY(eqs_transfer_scatter(transfer, read_tile, &reader));
  status = reader.status;
cleanup:
  eqs_file_close(reader.file);
  return status;
}

static eqs_status prepare(MPI_Comm owners, const char *file, const eqs_checkpoint_contents *stored,
                          const eqs_checkpoint_contents *model, eqs_tile_table *table, eqs_transfer **transfer)
{
  eqs_status status = EQS_OK;
  int rank;
  MPI_Comm_rank(owners, &rank);
  EQS_TRY(eqs_tile_table_make(model, table));
  EQS_TRY(eqs_transfer_create(owners, table, transfer));
  if (rank == 0) EQS_TRY(locate(stored, file, model, table));
cleanup:
  return status;
}

eqs_status eqs_checkpoint_read(MPI_Comm owners, const char *file, const eqs_checkpoint_contents *stored,
                               const eqs_checkpoint_contents *model)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_contents sorted = {0};
  eqs_tile_table table = {0};
  eqs_transfer *transfer = NULL;
  EQS_TRY(eqs_agree(owners, eqs_contents_sort(model, &sorted)));
  EQS_TRY(eqs_agree(owners, prepare(owners, file, stored, &sorted, &table, &transfer)));
  EQS_TRY(eqs_tile_table_share(owners, &table));
  EQS_TRY(eqs_agree(owners, read_tiles(transfer, file)));
cleanup:
  eqs_transfer_destroy(&transfer);
  eqs_tile_table_free(&table);
  eqs_contents_free(&sorted);
  return status;
}
