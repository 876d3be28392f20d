#include "checkpoint/write.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "checkpoint/image.h"
#include "dist/communicator.h"

static eqs_status prepare(const char *path, const eqs_checkpoint_contents *contents, eqs_partial_file *partial)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_copy_text(&partial->path, path));
  EQS_TRY(eqs_format(&partial->partial, "%s.partial", path));
  EQS_TRY(eqs_contents_sort(contents, &partial->contents));
cleanup:
  return status;
}

/* The first owner makes the file, and then knows where everything is in it. */
static eqs_status create(MPI_Comm owners, eqs_partial_file *partial)
{
  eqs_status status = EQS_OK;
  int rank;
  MPI_Comm_rank(owners, &rank);
  if (rank == 0) unlink(partial->partial); /* left over from a write that was cut off */
  if (rank == 0) EQS_TRY(eqs_image_create(partial->partial, &partial->contents));
  EQS_TRY(eqs_tile_table_make(&partial->contents, &partial->table));
  EQS_TRY(eqs_transfer_create(owners, &partial->table, &partial->transfer));
cleanup:
  return status;
}

eqs_status eqs_partial_begin(MPI_Comm owners, const char *path, const eqs_checkpoint_contents *contents,
                             eqs_partial_file *partial)
{
  eqs_status status = EQS_OK;
  *partial = (eqs_partial_file){0};
  EQS_TRY(eqs_agree(owners, prepare(path, contents, partial)));
  EQS_TRY(eqs_agree(owners, create(owners, partial)));
  EQS_TRY(eqs_tile_table_share(owners, &partial->table));
cleanup:
  return status;
}

eqs_status eqs_partial_commit(const eqs_partial_file *partial)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_image_complete(partial->partial));
  EQS_TRY(eqs_file_rename(partial->partial, partial->path));
cleanup:
  return status;
}

void eqs_partial_end(eqs_partial_file *partial, bool remove)
{
  if (remove && partial->partial) unlink(partial->partial);
  eqs_transfer_destroy(&partial->transfer);
  eqs_tile_table_free(&partial->table);
  eqs_contents_free(&partial->contents);
  free(partial->partial);
  free(partial->path);
  *partial = (eqs_partial_file){0};
}

/* What a rank does with its own tiles. */
typedef struct {
  const char *path;
  int file;
  eqs_status status; /* the first failure; nothing is written after it */
} tile_writer;

static void write_tile(void *job, const eqs_tile *tile, float *rows)
{
  tile_writer *writer = job;
  if (writer->status == EQS_OK) writer->status = eqs_tile_write(writer->file, writer->path, tile, rows);
}

static eqs_status write_tiles(const eqs_partial_file *partial)
{
  eqs_status status = EQS_OK;
  tile_writer writer = {.path = partial->partial, .file = -1};
  writer.status = eqs_file_open(writer.path, O_WRONLY, &writer.file);
  EQS_TRY(eqs_transfer_gather(partial->transfer, write_tile, &writer));
  EQS_TRY(writer.status);
  EQS_TRY(eqs_file_sync(writer.file, writer.path));
cleanup:
  eqs_file_close(writer.file);
  return status;
}

eqs_status eqs_checkpoint_write(MPI_Comm owners, const char *path, const eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  eqs_partial_file partial;
  int rank;
  MPI_Comm_rank(owners, &rank);
  EQS_TRY(eqs_partial_begin(owners, path, contents, &partial));
  EQS_TRY(eqs_agree(owners, write_tiles(&partial)));
  EQS_TRY(eqs_agree(owners, rank == 0 ? eqs_partial_commit(&partial) : EQS_OK));
cleanup:
  eqs_partial_end(&partial, status != EQS_OK && rank == 0);
  return status;
}
