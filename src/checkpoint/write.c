#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/memory.h"
#include "checkpoint/exchange.h"
#include "checkpoint/file.h"
#include "checkpoint/hdf5_file.h"
#include "checkpoint/summary.h"
#include "checkpoint/tiles.h"
#include "dist/communicator.h"

/* Writing of one file: what a rank does with the tiles that are its own. */
typedef struct {
  const char *path;
  int file;
  eqs_status status; /* the first failure; nothing is written after it */
} tile_writer;

static void write_tile(void *job, const eqs_tile *tile, float *rows)
{
  tile_writer *writer = job;
  if (writer->status != EQS_OK) return;
  eqs_status status = EQS_OK;
  const eqs_stored_tensor *stored = tile->stored;
  int64_t row_bytes = stored->cols * (int64_t)sizeof *rows;
  uint64_t checksum = eqs_tile_checksum(tile, rows);
  EQS_TRY(eqs_file_write(writer->file, writer->path, rows, (tile->end_row - tile->first_row) * row_bytes,
                         stored->offset + tile->first_row * row_bytes));
  EQS_TRY(eqs_file_write(writer->file, writer->path, &checksum, sizeof checksum,
                         stored->checksums + tile->index * (int64_t)sizeof checksum));
cleanup:
  writer->status = status;
}

static eqs_status write_tiles(eqs_exchange *exchange, const char *path)
{
  eqs_status status = EQS_OK;
  tile_writer writer = {.path = path, .file = -1};
  writer.status = eqs_file_open(path, O_WRONLY, &writer.file);
  EQS_TRY(eqs_exchange_collect(exchange, write_tile, &writer));
  EQS_TRY(writer.status);
  EQS_TRY(eqs_file_sync(writer.file, path));
cleanup:
  eqs_file_close(writer.file);
  return status;
}

/* The first owner's part before the data: an own file with metadata and space. */
static eqs_status create_file(const char *path, const eqs_checkpoint_contents *contents, eqs_tensor_table *table)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_summary summary = {0};
  EQS_TRY(eqs_checkpoint_describe(contents, &summary));
  unlink(path); /* what a write that was cut off has left */
  EQS_TRY(eqs_hdf5_create(path, &summary));
  for (int64_t e = 0, i = 0; e < summary.entries; e++)
    for (int t = 0; t < summary.entry[e].tensors; t++, i++) {
      table->tensor[i].offset = summary.entry[e].offset[t];
      table->tensor[i].checksums = summary.entry[e].checksums[t];
    }
cleanup:
  eqs_checkpoint_summary_free(&summary);
  return status;
}

/* The first owner's part after the data is on the disk. */
static eqs_status commit_file(const char *partial, const char *path)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_hdf5_complete(partial));
  EQS_TRY(eqs_file_rename(partial, path));
cleanup:
  return status;
}

static eqs_status prepare(MPI_Comm owners, const char *path, const eqs_checkpoint_contents *contents, char **partial,
                          eqs_tensor_table *table, eqs_exchange **exchange)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_format(partial, "%s.partial", path));
  EQS_TRY(eqs_table_of_model(contents->parameters, contents->parameter, table));
  EQS_TRY(eqs_exchange_create(owners, table, exchange));
cleanup:
  return status;
}

eqs_status eqs_checkpoint_write(MPI_Comm owners, const char *path, const eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  char *partial = NULL;
  eqs_tensor_table table = {0};
  eqs_exchange *exchange = NULL;
  int rank;
  MPI_Comm_rank(owners, &rank);

  EQS_TRY(eqs_checkpoint_agree(owners, prepare(owners, path, contents, &partial, &table, &exchange)));
  EQS_TRY(eqs_checkpoint_agree(owners, rank == 0 ? create_file(partial, contents, &table) : EQS_OK));
  EQS_TRY(eqs_table_broadcast(owners, &table));
  EQS_TRY(eqs_checkpoint_agree(owners, write_tiles(exchange, partial)));
  EQS_TRY(eqs_checkpoint_agree(owners, rank == 0 ? commit_file(partial, path) : EQS_OK));
cleanup:
  if (status != EQS_OK && rank == 0 && partial) unlink(partial);
  eqs_exchange_destroy(&exchange);
  free(table.tensor);
  free(partial);
  return status;
}
