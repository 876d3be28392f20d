#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "checkpoint/exchange.h"
#include "checkpoint/tiles.h"
#include "dist/communicator.h"

/* Reading of one file: what a rank does with the tiles that are its own. */
typedef struct {
  const char *path;
  int file;
  eqs_status status; /* the first failure */
} tile_reader;

/* Whether the rows are those that were written. EQS_IO, EQS_DAMAGED: cut off. */
static eqs_status load_tile(int file, const char *path, const eqs_tile *tile, float *rows, bool *whole)
{
  eqs_status status = EQS_OK;
  const eqs_stored_tensor *stored = tile->stored;
  int64_t row_bytes = stored->cols * (int64_t)sizeof *rows;
  uint64_t checksum;
  EQS_TRY(eqs_file_read(file, path, rows, eqs_tile_elements(tile) * (int64_t)sizeof *rows,
                        stored->offset + tile->first_row * row_bytes));
  EQS_TRY(eqs_file_read(file, path, &checksum, sizeof checksum,
                        stored->checksums + tile->index * (int64_t)sizeof checksum));
  *whole = checksum == eqs_tile_checksum(tile, rows);
cleanup:
  return status;
}

eqs_status eqs_tile_read(int file, const char *path, const eqs_tile *tile, float *rows)
{
  eqs_status status = EQS_OK;
  bool whole;
  EQS_TRY(load_tile(file, path, tile, rows, &whole));
  if (!whole)
    status =
        eqs_fail(EQS_DAMAGED, "%s: damaged: %s/%s, rows %lld to %lld: wrong checksum", path, tile->stored->parameter,
                 tile->stored->name, (long long)tile->first_row, (long long)tile->end_row - 1);
cleanup:
  return status;
}

static void read_tile(void *job, const eqs_tile *tile, float *rows)
{
  tile_reader *reader = job;
  if (reader->status != EQS_OK) return; /* the rows are sent all the same, since others wait for them */
  reader->status = eqs_tile_read(reader->file, reader->path, tile, rows);
}

/* The path that the first rank means, and what is in it there; on all ranks its path. Collective. */
static eqs_status find_file(MPI_Comm comm, const char *path, char **file, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  int rank;
  int64_t length = 0;
  MPI_Comm_rank(comm, &rank);
  if (rank == 0) {
    status = eqs_checkpoint_find(path, file);
    if (status == EQS_OK) status = eqs_checkpoint_summarize(*file, summary);
    if (status == EQS_OK) eqs_checkpoint_warn_if_changed(*file, summary);
    if (status == EQS_OK) length = (int64_t)strlen(*file) + 1;
  }
  EQS_TRY(eqs_checkpoint_agree(comm, status));
  EQS_TRY(eqs_broadcast_block(comm, file, &length, 0, "the first owner's checkpoint"));
cleanup:
  return status;
}

/* Where the file has the model's tensors. EQS_USAGE: one of another shape. */
static eqs_status locate(const eqs_checkpoint_summary *summary, const char *path, int64_t parameters,
                         const eqs_checkpoint_parameter *parameter, eqs_tensor_table *table)
{
  for (int64_t p = 0; p < parameters; p++) {
    const eqs_checkpoint_entry *entry = eqs_checkpoint_entry_find(summary, parameter[p].name);
    if (entry && !eqs_checkpoint_entry_has_shape(entry, parameter[p].ndim, parameter[p].shape))
      return eqs_fail(EQS_USAGE, "%s: parameter %s has another shape in the model", path, entry->name);
  }
  for (int64_t i = 0; i < table->tensors; i++) {
    eqs_stored_tensor *stored = &table->tensor[i];
    const eqs_checkpoint_entry *entry = eqs_checkpoint_entry_find(summary, stored->parameter);
    int t = entry ? eqs_checkpoint_tensor_find(entry, stored->name) : -1;
    if (t < 0) continue;
    stored->offset = entry->offset[t];
    stored->checksums = entry->checksums[t];
  }
  return EQS_OK;
}

static eqs_status prepare(MPI_Comm owners, int64_t parameters, const eqs_checkpoint_parameter *parameter,
                          eqs_tensor_table *table, eqs_exchange **exchange)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_table_of_model(parameters, parameter, table));
  EQS_TRY(eqs_exchange_create(owners, table, exchange));
cleanup:
  return status;
}

static eqs_status read_tiles(eqs_exchange *exchange, const char *path)
{
  eqs_status status = EQS_OK;
  tile_reader reader = {.path = path, .file = -1};
  reader.status = eqs_file_open(path, O_RDONLY, &reader.file);
  EQS_TRY(eqs_exchange_distribute(exchange, read_tile, &reader));
  status = reader.status;
cleanup:
  eqs_file_close(reader.file);
  return status;
}

eqs_status eqs_checkpoint_load(MPI_Comm owners, const char *file, const eqs_checkpoint_summary *summary,
                               int64_t parameters, const eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  eqs_tensor_table table = {0};
  eqs_exchange *exchange = NULL;
  int rank;
  MPI_Comm_rank(owners, &rank);
  EQS_TRY(eqs_checkpoint_agree(owners, prepare(owners, parameters, parameter, &table, &exchange)));
  EQS_TRY(eqs_checkpoint_agree(owners, rank == 0 ? locate(summary, file, parameters, parameter, &table) : EQS_OK));
  EQS_TRY(eqs_table_share(owners, &table));
  EQS_TRY(eqs_checkpoint_agree(owners, read_tiles(exchange, file)));
cleanup:
  eqs_exchange_destroy(&exchange);
  eqs_table_free(&table);
  return status;
}

eqs_status eqs_checkpoint_read(MPI_Comm owners, const char *path, int64_t parameters,
                               const eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  char *file = NULL;
  eqs_checkpoint_summary summary = {0};
  EQS_TRY(find_file(owners, path, &file, &summary));
  EQS_TRY(eqs_checkpoint_load(owners, file, &summary, parameters, parameter));
cleanup:
  eqs_checkpoint_summary_free(&summary);
  free(file);
  return status;
}

/* Numbers of the damaged tiles among those of this rank, in order. */
typedef struct {
  int64_t count, *tile;
} damage_list;

static eqs_status check_tiles(MPI_Comm comm, const char *path, const eqs_tensor_table *table, damage_list *damage,
                              int64_t *tiles, int64_t *bytes)
{
  eqs_status status = EQS_OK;
  float *rows = NULL;
  int file = -1, rank;
  MPI_Comm_rank(comm, &rank);
  *tiles = *bytes = 0;
  EQS_TRY(eqs_allocate_raw(&rows, eqs_tile_largest(table), sizeof *rows));
  EQS_TRY(eqs_file_open(path, O_RDONLY, &file));
  eqs_tile_walk walk = {.table = table};
  for (eqs_tile tile; eqs_tile_next(&walk, &tile); ++*tiles) {
    bool whole = true;
    *bytes += eqs_tile_elements(&tile) * (int64_t)sizeof *rows;
    if (tile.rank != rank) continue;
    EQS_TRY(load_tile(file, path, &tile, rows, &whole));
    if (whole) continue;
    EQS_TRY(eqs_grow(&damage->tile, damage->count, sizeof *damage->tile));
    damage->tile[damage->count++] = tile.number;
  }
cleanup:
  eqs_file_close(file);
  free(rows);
  return status;
}

/* Report the damaged tiles of all ranks on the first, in order; many in one message. Collective. */
static eqs_status report_damage(MPI_Comm comm, const eqs_tensor_table *table, const damage_list *damage, int64_t tiles,
                                eqs_damage_report report, int64_t *damaged)
{
  enum { many = 4096 };
  eqs_status status = EQS_OK;
  int rank;
  MPI_Comm_rank(comm, &rank);
  eqs_tile_walk walk = {.table = table};
  for (int64_t begin = 0, next = 0; begin < tiles; begin += many) {
    int64_t whole[many];
    int count = tiles - begin < many ? (int)(tiles - begin) : many;
    for (int i = 0; i < count; i++) whole[i] = 1;
    for (; next < damage->count && damage->tile[next] < begin + count; next++) whole[damage->tile[next] - begin] = 0;
    EQS_TRY(eqs_minimum(comm, whole, count, "the other ranks' damaged tiles"));
    eqs_tile tile;
    for (int i = 0; i < count && eqs_tile_next(&walk, &tile); i++) {
      if (whole[i]) continue;
      ++*damaged;
      if (rank == 0 && report) report(tile.stored->parameter, tile.stored->name, tile.first_row, tile.end_row);
    }
  }
cleanup:
  return status;
}

eqs_status eqs_checkpoint_verify(MPI_Comm comm, const char *path, eqs_damage_report report, int64_t *tiles,
                                 int64_t *bytes)
{
  eqs_status status = EQS_OK;
  char *file = NULL;
  eqs_checkpoint_summary summary = {0};
  eqs_tensor_table table = {0};
  damage_list damage = {0};
  int64_t damaged = 0;
  int rank;
  MPI_Comm_rank(comm, &rank);

  EQS_TRY(find_file(comm, path, &file, &summary));
  EQS_TRY(eqs_checkpoint_agree(comm, rank == 0 ? eqs_table_of_file(&summary, &table) : EQS_OK));
  EQS_TRY(eqs_table_share(comm, &table));
  EQS_TRY(eqs_checkpoint_agree(comm, check_tiles(comm, file, &table, &damage, tiles, bytes)));
  EQS_TRY(report_damage(comm, &table, &damage, *tiles, report, &damaged));
  status = damaged == 0
               ? EQS_OK
               : eqs_fail(EQS_DAMAGED, "%s: damaged: %lld of %lld tiles", file, (long long)damaged, (long long)*tiles);
  EQS_TRY(eqs_checkpoint_agree(comm, status));
cleanup:
  eqs_checkpoint_summary_free(&summary);
  free(damage.tile);
  eqs_table_free(&table);
  free(file);
  return status;
}
