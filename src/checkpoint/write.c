#include "checkpoint/write.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "checkpoint/image.h"
#include "checkpoint/summary.h"

/* The first owner's part before the data: an own file with metadata and space. */
static eqs_status create_file(const char *path, const eqs_checkpoint_contents *contents, eqs_tensor_table *table)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_summary summary = {0};
  EQS_TRY(eqs_checkpoint_describe(contents, &summary));
  unlink(path); /* what a write that was cut off has left */
  EQS_TRY(eqs_image_create(path, &summary));
  for (int64_t e = 0, i = 0; e < summary.entries; e++)
    for (int t = 0; t < summary.entry[e].tensors; t++, i++) {
      table->tensor[i].offset = summary.entry[e].offset[t];
      table->tensor[i].checksums = summary.entry[e].checksums[t];
    }
cleanup:
  eqs_checkpoint_summary_free(&summary);
  return status;
}

static eqs_status prepare(MPI_Comm owners, const char *path, const eqs_checkpoint_contents *contents,
                          eqs_unfinished_file *unfinished)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_copy_text(&unfinished->path, path));
  EQS_TRY(eqs_format(&unfinished->partial, "%s.partial", path));
  EQS_TRY(eqs_table_of_model(contents->parameters, contents->parameter, &unfinished->table));
  EQS_TRY(eqs_exchange_create(owners, &unfinished->table, &unfinished->exchange));
cleanup:
  return status;
}

eqs_status eqs_unfinished_begin(MPI_Comm owners, const char *path, const eqs_checkpoint_contents *contents,
                                eqs_unfinished_file *unfinished)
{
  eqs_status status = EQS_OK;
  int rank;
  MPI_Comm_rank(owners, &rank);
  *unfinished = (eqs_unfinished_file){0};
  EQS_TRY(eqs_checkpoint_agree(owners, prepare(owners, path, contents, unfinished)));
  EQS_TRY(eqs_checkpoint_agree(owners,
                               rank == 0 ? create_file(unfinished->partial, contents, &unfinished->table) : EQS_OK));
  EQS_TRY(eqs_table_share(owners, &unfinished->table));
cleanup:
  return status;
}

eqs_status eqs_unfinished_write(int file, const eqs_unfinished_file *unfinished, const eqs_tile *tile,
                                const float *rows)
{
  eqs_status status = EQS_OK;
  const eqs_stored_tensor *stored = tile->stored;
  int64_t row_bytes = stored->cols * (int64_t)sizeof *rows;
  uint64_t checksum = eqs_tile_checksum(tile, rows);
  EQS_TRY(eqs_file_write(file, unfinished->partial, rows, eqs_tile_elements(tile) * (int64_t)sizeof *rows,
                         stored->offset + tile->first_row * row_bytes));
  EQS_TRY(eqs_file_write(file, unfinished->partial, &checksum, sizeof checksum,
                         stored->checksums + tile->index * (int64_t)sizeof checksum));
cleanup:
  return status;
}

eqs_status eqs_unfinished_commit(const eqs_unfinished_file *unfinished)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_image_complete(unfinished->partial));
  EQS_TRY(eqs_file_rename(unfinished->partial, unfinished->path));
cleanup:
  return status;
}

void eqs_unfinished_end(eqs_unfinished_file *unfinished, bool remove)
{
  if (remove && unfinished->partial) unlink(unfinished->partial);
  eqs_exchange_destroy(&unfinished->exchange);
  eqs_table_free(&unfinished->table);
  free(unfinished->partial);
  free(unfinished->path);
  *unfinished = (eqs_unfinished_file){0};
}

/* Writing at once: what a rank does with the tiles that are its own. */
typedef struct {
  const eqs_unfinished_file *unfinished;
  int file;
  eqs_status status; /* the first failure; nothing is written after it */
} tile_writer;

static void write_tile(void *job, const eqs_tile *tile, float *rows)
{
  tile_writer *writer = job;
  if (writer->status == EQS_OK) writer->status = eqs_unfinished_write(writer->file, writer->unfinished, tile, rows);
}

static eqs_status write_tiles(const eqs_unfinished_file *unfinished)
{
  eqs_status status = EQS_OK;
  tile_writer writer = {.unfinished = unfinished, .file = -1};
  writer.status = eqs_file_open(unfinished->partial, O_WRONLY, &writer.file);
  EQS_TRY(eqs_exchange_collect(unfinished->exchange, write_tile, &writer));
  EQS_TRY(writer.status);
  EQS_TRY(eqs_file_sync(writer.file, unfinished->partial));
cleanup:
  eqs_file_close(writer.file);
  return status;
}

eqs_status eqs_checkpoint_write(MPI_Comm owners, const char *path, const eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  eqs_unfinished_file unfinished;
  int rank;
  MPI_Comm_rank(owners, &rank);
  EQS_TRY(eqs_unfinished_begin(owners, path, contents, &unfinished));
  EQS_TRY(eqs_checkpoint_agree(owners, write_tiles(&unfinished)));
  EQS_TRY(eqs_checkpoint_agree(owners, rank == 0 ? eqs_unfinished_commit(&unfinished) : EQS_OK));
cleanup:
  eqs_unfinished_end(&unfinished, status != EQS_OK && rank == 0);
  return status;
}
