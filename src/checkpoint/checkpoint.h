/*
 * Checkpoints: one HDF5 file each, the same bytes (the attribute `created` aside) whatever ranks and grids wrote it.
 *
 *     /                               attributes: format = "equishard-checkpoint", format_version, step, skipped,
 *                                     created, equishard_version, config, complete = 1
 *     /parameters/<name>              attributes of the parameter
 *     /parameters/<name>/<tensor>     weight (attribute trainer_dtype), momentum, exp_avg, exp_avg_sq: float32
 *     /trainer/<key>                  bytes
 *     /integrity                      attribute metadata: XXH3-64 of all the above but tensors' values and `created`
 *     /integrity/tiles                XXH3-64 of every tile, a range of rows that depends on the shape alone: by
 *                                     parameter, tensor, rows
 *     /integrity/index                all of the above but tensors' values and `created` (checkpoint/index.h)
 *
 * Files of format_version 1 are read as well; they have /integrity/<name>/<tensor> and no index.
 *
 * The first owner makes the file with all its metadata and space, but HDF5's signature; then every owner writes tiles
 * at their offsets, directly; then the file is flushed, signed, flushed and renamed. HDF5's structures are a function
 * of the index, byte for byte (checkpoint/image.h): readers compare them, and need neither trust them nor parse them.
 */
#ifndef EQS_CHECKPOINT_CHECKPOINT_H
#define EQS_CHECKPOINT_CHECKPOINT_H

#include <mpi.h>
#include <stdbool.h>

#include "base/attribute.h"
#include "dist/tensor.h"

#define EQS_CHECKPOINT_FORMAT "equishard-checkpoint"
enum { EQS_MAX_TENSORS = 4, EQS_CHECKPOINT_VERSION = 2 };

/* A piece of the trainers' own data. */
typedef struct {
  const char *key;
  const void *bytes;
  size_t size;
} eqs_checkpoint_item;

typedef struct {
  const char *name;
  int64_t aliases;
  char *const *alias; /* other names by which a file that is restored may have it */
  bool frozen;        /* a file that is restored need not have it */
  eqs_dtype trainer_dtype;
  int ndim;
  int64_t shape[EQS_MAX_DIMS];
  int attributes;
  const eqs_attribute *attribute; /* role, rule, step, and the hyper-parameters in force */
  int tensors;
  const char *tensor_name[EQS_MAX_TENSORS]; /* "weight" first */
  eqs_tensor tensor[EQS_MAX_TENSORS];
} eqs_checkpoint_parameter;

typedef struct {
  int64_t step, skipped;
  const char *config;
  int64_t parameters;
  const eqs_checkpoint_parameter *parameter;
  int items; /* the trainer's data; read on the first owner only */
  const eqs_checkpoint_item *item;
} eqs_checkpoint_contents;

/*
 * Write a checkpoint to a file: to <path>.partial first, flushed to the disk, then renamed.
 *
 * Collective over owners, with the same contents, but for shards and items. EQS_IO: nothing has
 * changed under `path`, and what was written beside it is removed; or, if it is the flush of the directory that failed,
 * the new file is there, whole. EQS_USAGE: a parameter, tensor, attribute or trainer
 * item has a name that HDF5 cannot hold as one link (empty, "." or with a '/'), or that another has.
 */
eqs_status eqs_checkpoint_write(MPI_Comm owners, const char *path, const eqs_checkpoint_contents *contents);

/* A directory of checkpoints, and which of them stay. */
typedef struct {
  const char *directory;
  int64_t keep;       /* the newest; 0: all */
  int64_t keep_every; /* and those of steps that are multiples of it; 0: no others */
} eqs_checkpoint_place;

/*
 * Write step-<step>.h5 in a directory (made if missing), move the link `latest` to it, remove those that need not stay
 * and leftovers of writes and removals that were cut off; what cannot be removed is a warning. Collective over owners.
 * EQS_IO.
 */
eqs_status eqs_checkpoint_save(MPI_Comm owners, const eqs_checkpoint_place *place,
                               const eqs_checkpoint_contents *contents);

/*
 * The checkpoint that a path means: a file itself; in a directory the one of its files that `latest` names, or the
 * newest complete one if there is no usable `latest` (with a warning). `file` is allocated. Not collective. EQS_IO:
 * there is none.
 */
eqs_status eqs_checkpoint_find(const char *path, char **file);

/* Whether a path names a file, or a directory with a file in it that is named as a checkpoint, damaged or not. */
bool eqs_checkpoint_is_there(const char *path);

/*
 * The newest checkpoint of a directory that was written before `damaged`, a path as eqs_checkpoint_find gives it, and
 * whose metadata is whole. `file` is allocated. Not collective. EQS_DAMAGED: there is none. EQS_IO.
 */
eqs_status eqs_checkpoint_find_older(const char *directory, const char *damaged, char **file);

/* What is in a checkpoint, its tensors' values aside. */
typedef struct {
  char *name;
  int ndim;
  int64_t shape[EQS_MAX_DIMS];
  eqs_dtype trainer_dtype;
  int64_t step;
  int attributes;
  const eqs_attribute *attribute; /* in alphabetical order; the summary's: parameters may have the same */
  int tensors;
  char *tensor_name[EQS_MAX_TENSORS]; /* in alphabetical order */
  int64_t
      offset[EQS_MAX_TENSORS]; /* of the tensor's data in the file, of its tiles' checksums; 0 if it has no elements */
  int64_t checksums[EQS_MAX_TENSORS];
} eqs_checkpoint_entry;

typedef struct {
  int64_t step, skipped, version;
  bool changed; /* another program has changed the file: what is in it is whole, but not every byte is as we write it */
  char *created, *equishard_version, *config;
  int64_t entries;
  eqs_checkpoint_entry *entry; /* in alphabetical order of name */
  int items;
  eqs_checkpoint_item *item; /* keys and bytes allocated */
  int64_t attribute_lists;
  eqs_attribute **attribute_list; /* what entries have as their attributes */
  int64_t texts;
  char **text; /* names and texts of attributes */
} eqs_checkpoint_summary;

/*
 * Look into a file, which may be damaged or hostile: check format, version, completeness, sizes, and all bytes of the
 * metadata. If they are not as we write them, or the file is of format version 1, HDF5 looks at it, which it may crash:
 * in a sandbox (base/sandbox.h); no link in the file is followed,
 * and nothing is allocated before its size is checked against the file's. Bytes behind the end of what HDF5 knows of
 * belong to nothing, and do not matter. Not collective. EQS_IO: cannot be opened; EQS_DAMAGED: not a checkpoint, of a
 * later version, incomplete, cut off or damaged.
 */
eqs_status eqs_checkpoint_summarize(const char *file, eqs_checkpoint_summary *summary);

/* A warning, if another program has changed the file. */
void eqs_checkpoint_warn_if_changed(const char *file, const eqs_checkpoint_summary *summary);

void eqs_checkpoint_summary_free(eqs_checkpoint_summary *summary);
const eqs_checkpoint_entry *eqs_checkpoint_entry_find(const eqs_checkpoint_summary *summary, const char *name);
bool eqs_checkpoint_entry_has_shape(const eqs_checkpoint_entry *entry, int ndim, const int64_t *shape);

/* Which of an entry's tensors has a name; negative: none. */
int eqs_checkpoint_tensor_find(const eqs_checkpoint_entry *entry, const char *name);

/*
 * Read tensors into the shards of a model, any ranks and grids; every tile's checksum is verified. Tensors of
 * `parameter` that the file does not have are left alone. After a failure the shards' values are undefined.
 * path is as in eqs_checkpoint_find; the first owner's counts.
 *
 * Collective over owners. EQS_IO, EQS_DAMAGED; EQS_USAGE: a parameter has another shape in the file.
 */
eqs_status eqs_checkpoint_read(MPI_Comm owners, const char *path, int64_t parameters,
                               const eqs_checkpoint_parameter *parameter);

/* The same from a file whose summary the first owner has, with the names in it. */
eqs_status eqs_checkpoint_load(MPI_Comm owners, const char *file, const eqs_checkpoint_summary *summary,
                               int64_t parameters, const eqs_checkpoint_parameter *parameter);

/*
 * Verify all checksums, the work shared by the ranks of comm. Every damaged tile is reported through `report`
 * (parameter, tensor, first and end row; may be NULL) on the first rank, in order; EQS_DAMAGED if there is one.
 * path is as in eqs_checkpoint_find; the first rank's counts.
 *
 * tiles, bytes  [out] how many tiles were checked, and of how many bytes
 *
 * Collective over comm.
 */
typedef void (*eqs_damage_report)(const char *parameter, const char *tensor, int64_t first_row, int64_t end_row);
eqs_status eqs_checkpoint_verify(MPI_Comm comm, const char *path, eqs_damage_report report, int64_t *tiles,
                                 int64_t *bytes);

#endif
