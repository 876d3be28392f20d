#include "checkpoint/image.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/numbers.h"
#include "checkpoint/contents.h"
#include "checkpoint/index.h"
#include "checkpoint/serialize.h"
#include "checkpoint/tiles.h"

/* Before the index: what it is, its size, its XXH3-64. */
static const char index_mark[8] = {'E', 'Q', 'S', 'i', 'n', 'd', 'e', 'x'};
enum { index_head = 24, index_begin = EQS_HDF5_SUPERBLOCK, signature_size = 8 };

/* In the place of the time while it is not known. It cannot be found at two places that overlap. */
static const char no_time[EQS_CREATED_SIZE + 1] = "0000-00-00T00:00:00Z";

/* ----- where things are ----- */

typedef struct {
  const eqs_checkpoint_contents *contents;
  eqs_catalogue catalogue;
  eqs_image *image;
  int64_t index_size, checksums, tiles; /* of the index with its head; of the tiles' checksums, their number */
  int64_t *item_offset;
  unsigned char *shared;     /* ids of the shared attributes */
  int64_t *shared_attribute; /* which of these a different attribute is; -1: none */
  int64_t shared_dtype[3];   /* and a trainer_dtype */
  eqs_bytes *attributes;     /* of every kind: messages; none if they are outside of the header */
} image_maker;

/* Zeros behind the index: what comes behind the trainer's data is to begin at a multiple of 8. */
static int64_t index_padding(const eqs_checkpoint_contents *contents, int64_t index_size)
{
  uint64_t end = (uint64_t)(index_begin + index_head + index_size);
  for (int i = 0; i < contents->items; i++) end += contents->item[i].size;
  return (int64_t)(-end % 8);
}

static void add_index(eqs_bytes *to, const eqs_checkpoint_contents *contents, const eqs_catalogue *catalogue)
{
  eqs_bytes index = {0};
  eqs_index_add(&index, contents, catalogue);
  if (index.status != EQS_OK) to->status = index.status;
  uint64_t checksum = index.size > 0 ? XXH3_64bits(index.bytes, (size_t)index.size) : 0;
  eqs_bytes_add(to, index_mark, sizeof index_mark);
  eqs_bytes_add_little(to, (uint64_t)index.size, 8);
  eqs_bytes_add_little(to, checksum, 8);
  eqs_bytes_add(to, index.bytes, index.size);
  eqs_bytes_add_zeros(to, index_padding(contents, index.size));
  eqs_bytes_free(&index);
}

eqs_status eqs_image_index(const eqs_checkpoint_contents *contents, eqs_bytes *block)
{
  eqs_catalogue catalogue;
  eqs_status status = eqs_catalogue_make(contents, &catalogue);
  if (status == EQS_OK) add_index(block, contents, &catalogue);
  eqs_catalogue_free(&catalogue);
  return status == EQS_OK ? block->status : status;
}

/* The head, but the superblock, which is not known yet. */
static eqs_status make_head(image_maker *maker)
{
  eqs_status status = EQS_OK;
  eqs_bytes *head = &maker->image->head;
  eqs_bytes_add_zeros(head, EQS_HDF5_SUPERBLOCK);
  add_index(head, maker->contents, &maker->catalogue);
  maker->index_size = head->size - index_begin;
  EQS_TRY(eqs_allocate(&maker->item_offset, maker->contents->items, sizeof *maker->item_offset));
  for (int i = 0; i < maker->contents->items; i++) {
    maker->item_offset[i] = head->size;
    eqs_bytes_add(head, maker->contents->item[i].bytes, (int64_t)maker->contents->item[i].size);
  }
  status = head->status;
cleanup:
  return status;
}

/* Take room for bytes behind `*end`. */
static eqs_status take_room(int64_t *end, int64_t bytes, int64_t most)
{
  if (bytes > most - *end) return eqs_fail(EQS_DAMAGED, "its parts are larger than the whole");
  *end += bytes;
  return EQS_OK;
}

/* Behind the head the tiles' checksums, then the tensors: large ones on pages of the file cache. */
static eqs_status place_tensors(image_maker *maker, eqs_checkpoint_contents *contents, int64_t most)
{
  enum { large = 64 << 10, page = 4096, word = 8 };
  eqs_status status = EQS_OK;
  int64_t end = maker->image->head.size;
  maker->checksums = end;
  for (int64_t p = 0; p < contents->parameters; p++) {
    eqs_checkpoint_parameter *parameter = &contents->parameter[p];
    int64_t rows, cols;
    eqs_tensor_rows_cols(parameter->ndim, parameter->shape, &rows, &cols);
    for (int t = 0; t < parameter->tensors; t++) {
      int64_t tiles = eqs_tile_count(rows, cols);
      parameter->tensor[t].checksums = tiles > 0 ? end : 0;
      maker->tiles += tiles;
      EQS_TRY(take_room(&end, tiles > most / word ? most : tiles * word, most));
    }
  }
  for (int64_t p = 0; p < contents->parameters; p++) {
    eqs_checkpoint_parameter *parameter = &contents->parameter[p];
    int64_t rows, cols;
    eqs_tensor_rows_cols(parameter->ndim, parameter->shape, &rows, &cols);
    int64_t bytes = rows * cols * (int64_t)sizeof(float);
    for (int t = 0; t < parameter->tensors; t++) {
      if (bytes >= large) EQS_TRY(take_room(&end, (page - end % page) % page, most));
      parameter->tensor[t].offset = bytes > 0 ? end : 0;
      EQS_TRY(take_room(&end, bytes, most));
    }
  }
  maker->image->tail.base = end;
cleanup:
  return status;
}

/* ----- attributes ----- */

static eqs_attribute dtype_attribute(int dtype)
{
  return (eqs_attribute){
      .name = "trainer_dtype", .kind = EQS_ATTRIBUTE_TEXT, .text = eqs_dtype_name((eqs_dtype)(EQS_FLOAT32 + dtype))};
}

/* Whether attributes are messages in their object's header. */
static bool fit_in_header(int attributes, const eqs_attribute *attribute)
{
  for (int a = 0; a < attributes; a++)
    if (attribute[a].kind == EQS_ATTRIBUTE_TEXT &&
        strlen(attribute[a].text) > EQS_HDF5_MESSAGE - 256 - strlen(attribute[a].name))
      return false;
  return true;
}

/* How many parameters have each different attribute in their headers, and each trainer_dtype. */
static eqs_status count_uses(const image_maker *maker, int64_t **uses, int64_t dtype_uses[3])
{
  const eqs_catalogue *catalogue = &maker->catalogue;
  eqs_status status = eqs_allocate(uses, catalogue->attribute.count, sizeof **uses);
  for (int64_t k = 0; status == EQS_OK && k < catalogue->kind.count; k++) {
    const eqs_checkpoint_parameter *parameter = &maker->contents->parameter[catalogue->first[k]];
    dtype_uses[parameter->trainer_dtype - EQS_FLOAT32] += catalogue->members[k];
    if (!fit_in_header(parameter->attributes, parameter->attribute)) continue;
    for (int a = 0; a < parameter->attributes; a++)
      (*uses)[catalogue->number[catalogue->first_number[k] + a]] += catalogue->members[k];
  }
  return status;
}

/* What becomes the heap of shared messages: their bodies, one after the other. */
typedef struct {
  int64_t count;
  eqs_hdf5_named message[EQS_HDF5_SHARED];
  int64_t uses[EQS_HDF5_SHARED];
  eqs_bytes bodies;
} shared_messages;

static int64_t share(shared_messages *shared, const eqs_attribute *attribute, int64_t uses)
{
  if (uses < 2 || shared->count == EQS_HDF5_SHARED) return -1;
  int64_t begin = shared->bodies.size;
  eqs_hdf5_add_attribute(&shared->bodies, attribute);
  shared->message[shared->count].size = shared->bodies.size - begin;
  shared->uses[shared->count] = uses;
  return shared->count++;
}

/* Attributes that more than one parameter has are in the file once. The result is the superblock's extension. */
static eqs_status put_shared_attributes(image_maker *maker, uint64_t *extension)
{
  eqs_status status = EQS_OK;
  int64_t *uses = NULL, dtype_uses[3] = {0}, differing = maker->catalogue.attribute.count, begin = 0;
  shared_messages *shared = NULL;
  uint64_t table;
  EQS_TRY(count_uses(maker, &uses, dtype_uses));
  EQS_TRY(eqs_allocate(&shared, 1, sizeof *shared));
  EQS_TRY(eqs_allocate(&maker->shared_attribute, differing, sizeof *maker->shared_attribute));
  for (int d = 0; d < 3; d++) {
    eqs_attribute attribute = dtype_attribute(d);
    maker->shared_dtype[d] = share(shared, &attribute, dtype_uses[d]);
  }
  for (int64_t i = 0; i < differing; i++)
    maker->shared_attribute[i] = share(shared, maker->catalogue.attribute_value[i], uses[i]);
  EQS_TRY(shared->bodies.status);
  for (int64_t i = 0; i < shared->count; i++, begin += shared->message[i - 1].size)
    shared->message[i].body = shared->bodies.bytes + begin;
  *extension = EQS_HDF5_NOWHERE;
  if (shared->count == 0) goto cleanup;
  EQS_TRY(eqs_allocate(&maker->shared, shared->count * EQS_HDF5_HEAP_ID, 1));
  EQS_TRY(
      eqs_hdf5_put_shared(&maker->image->tail, shared->count, shared->message, shared->uses, maker->shared, &table));
  *extension = eqs_hdf5_put_extension(&maker->image->tail, table);
cleanup:
  if (shared != NULL) eqs_bytes_free(&shared->bodies);
  free(shared);
  free(uses);
  return status;
}

/* Where a shared attribute is; NULL: it is not shared. */
static const unsigned char *id_of(const image_maker *maker, int64_t shared)
{
  return shared < 0 ? NULL : maker->shared + shared * EQS_HDF5_HEAP_ID;
}

/* An attribute's message; `id`: where it is, or NULL; `scratch` is emptied. */
static void add_attribute(eqs_bytes *to, const eqs_attribute *attribute, const unsigned char *id, eqs_bytes *scratch)
{
  if (id != NULL) {
    eqs_hdf5_add_shared_message(to, EQS_HDF5_ATTRIBUTE, id);
    return;
  }
  scratch->size = 0;
  eqs_hdf5_add_attribute(scratch, attribute);
  eqs_hdf5_add_message(to, EQS_HDF5_ATTRIBUTE, scratch->bytes, scratch->size);
  if (scratch->status != EQS_OK) to->status = scratch->status;
}

static void add_attributes_in_header(eqs_bytes *to)
{
  eqs_hdf5_add_attributes_info(to, EQS_HDF5_NOWHERE, EQS_HDF5_NOWHERE);
}

/* Attributes that do not fit into a header, outside of it. */
static eqs_status put_large_attributes(eqs_hdf5_piece *tail, int attributes, const eqs_attribute *attribute,
                                       eqs_bytes *messages)
{
  eqs_status status = EQS_OK;
  eqs_hdf5_named *named = NULL;
  eqs_bytes bodies = {0};
  int64_t begin = 0;
  EQS_TRY(eqs_allocate(&named, attributes, sizeof *named));
  for (int a = 0; a < attributes; a++) {
    named[a].name = attribute[a].name;
    named[a].size = bodies.size;
    eqs_hdf5_add_attribute(&bodies, &attribute[a]);
    named[a].size = bodies.size - named[a].size;
  }
  EQS_TRY(bodies.status);
  for (int a = 0; a < attributes; begin += named[a++].size) named[a].body = bodies.bytes + begin;
  EQS_TRY(eqs_hdf5_put_attributes(tail, attributes, named, messages));
cleanup:
  eqs_bytes_free(&bodies);
  free(named);
  return status;
}

/* The messages of the attributes of every kind of parameters. */
static eqs_status make_attributes(image_maker *maker)
{
  eqs_status status = EQS_OK;
  const eqs_catalogue *catalogue = &maker->catalogue;
  eqs_bytes scratch = {0};
  EQS_TRY(eqs_allocate(&maker->attributes, catalogue->kind.count, sizeof *maker->attributes));
  for (int64_t k = 0; k < catalogue->kind.count; k++) {
    const eqs_checkpoint_parameter *parameter = &maker->contents->parameter[catalogue->first[k]];
    eqs_bytes *messages = &maker->attributes[k];
    if (parameter->attributes == 0 || !fit_in_header(parameter->attributes, parameter->attribute)) continue;
    add_attributes_in_header(messages);
    for (int a = 0; a < parameter->attributes; a++) {
      int64_t number = catalogue->number[catalogue->first_number[k] + a];
      add_attribute(messages, &parameter->attribute[a], id_of(maker, maker->shared_attribute[number]), &scratch);
    }
    EQS_TRY(messages->status);
  }
cleanup:
  eqs_bytes_free(&scratch);
  return status;
}

/* ----- objects ----- */

/* The links of a group, while its objects are being made. */
typedef struct {
  int64_t count;
  eqs_hdf5_named *link;
  eqs_bytes bodies;
} link_list;

static eqs_status begin_links(link_list *links, int64_t most)
{
  *links = (link_list){0};
  return eqs_allocate(&links->link, most, sizeof *links->link);
}

static void end_links(link_list *links)
{
  free(links->link);
  eqs_bytes_free(&links->bodies);
}

static void add_link(link_list *links, const char *name, uint64_t address)
{
  int64_t begin = links->bodies.size;
  eqs_hdf5_add_link(&links->bodies, name, address);
  links->link[links->count++] = (eqs_hdf5_named){.name = name, .size = links->bodies.size - begin};
}

/* What a group's header says of its links, which may be outside of it. */
static eqs_status put_links(eqs_hdf5_piece *tail, link_list *links, eqs_bytes *messages)
{
  int64_t begin = 0;
  if (links->bodies.status != EQS_OK) return links->bodies.status;
  for (int64_t i = 0; i < links->count; begin += links->link[i++].size)
    links->link[i].body = links->bodies.bytes + begin;
  return eqs_hdf5_put_links(tail, links->count, links->link, messages);
}

/* A group without attributes. */
static eqs_status put_group(image_maker *maker, link_list *links, uint64_t *address)
{
  eqs_bytes messages = {0};
  eqs_status status = put_links(&maker->image->tail, links, &messages);
  if (status == EQS_OK) *address = eqs_hdf5_put_object(&maker->image->tail, &messages);
  eqs_bytes_free(&messages);
  return status;
}

static uint64_t put_plain_dataset(image_maker *maker, eqs_hdf5_type type, int64_t count, int64_t offset, int64_t bytes)
{
  eqs_bytes messages = {0};
  eqs_hdf5_add_dataset(&messages, type, 1, &count, (uint64_t)offset, bytes);
  uint64_t address = eqs_hdf5_put_object(&maker->image->tail, &messages);
  eqs_bytes_free(&messages);
  return address;
}

/* What is used for one parameter after the other. */
typedef struct {
  eqs_bytes messages, scratch;
  link_list tensors;
} parameter_room;

static eqs_status put_parameter(image_maker *maker, int64_t p, parameter_room *room, uint64_t *address)
{
  eqs_status status = EQS_OK;
  const eqs_checkpoint_parameter *parameter = &maker->contents->parameter[p];
  const eqs_bytes *attributes = &maker->attributes[maker->catalogue.kind_of[p]];
  int dtype = (int)(parameter->trainer_dtype - EQS_FLOAT32);
  int64_t rows, cols;
  eqs_tensor_rows_cols(parameter->ndim, parameter->shape, &rows, &cols);
  room->tensors.count = room->tensors.bodies.size = 0;
  for (int t = 0; t < parameter->tensors; t++) {
    room->messages.size = 0;
    eqs_hdf5_add_dataset(&room->messages, EQS_HDF5_FLOAT32, parameter->ndim, parameter->shape,
                         (uint64_t)parameter->tensor[t].offset, rows * cols * (int64_t)sizeof(float));
    if (strcmp(parameter->tensor[t].name, "weight") == 0) {
      eqs_attribute attribute = dtype_attribute(dtype);
      add_attributes_in_header(&room->messages);
      add_attribute(&room->messages, &attribute, id_of(maker, maker->shared_dtype[dtype]), &room->scratch);
    }
    add_link(&room->tensors, parameter->tensor[t].name, eqs_hdf5_put_object(&maker->image->tail, &room->messages));
  }
  room->messages.size = 0;
  EQS_TRY(put_links(&maker->image->tail, &room->tensors, &room->messages));
  if (attributes->size > 0)
    eqs_bytes_add(&room->messages, attributes->bytes, attributes->size);
  else if (parameter->attributes > 0)
    EQS_TRY(put_large_attributes(&maker->image->tail, parameter->attributes, parameter->attribute, &room->messages));
  *address = eqs_hdf5_put_object(&maker->image->tail, &room->messages);
cleanup:
  return status;
}

static eqs_status put_parameters(image_maker *maker, uint64_t *address)
{
  eqs_status status = EQS_OK;
  link_list parameters = {0};
  parameter_room room = {0};
  EQS_TRY(begin_links(&room.tensors, EQS_MAX_TENSORS));
  EQS_TRY(begin_links(&parameters, maker->contents->parameters));
  for (int64_t p = 0; p < maker->contents->parameters; p++) {
    uint64_t address_of;
    EQS_TRY(put_parameter(maker, p, &room, &address_of));
    add_link(&parameters, maker->contents->parameter[p].name, address_of);
  }
  EQS_TRY(put_group(maker, &parameters, address));
cleanup:
  end_links(&room.tensors);
  end_links(&parameters);
  eqs_bytes_free(&room.messages);
  eqs_bytes_free(&room.scratch);
  return status;
}

static eqs_status put_items(image_maker *maker, uint64_t *address)
{
  eqs_status status = EQS_OK;
  link_list items;
  EQS_TRY(begin_links(&items, maker->contents->items));
  for (int i = 0; i < maker->contents->items; i++) {
    int64_t size = (int64_t)maker->contents->item[i].size;
    add_link(&items, maker->contents->item[i].key,
             put_plain_dataset(maker, EQS_HDF5_UINT8, size, maker->item_offset[i], size));
  }
  EQS_TRY(put_group(maker, &items, address));
cleanup:
  end_links(&items);
  return status;
}

static eqs_status put_integrity(image_maker *maker, uint64_t *address)
{
  enum { links = 2 };
  eqs_status status = EQS_OK;
  link_list datasets;
  eqs_bytes messages = {0}, scratch = {0};
  uint64_t checksum;
  EQS_TRY(eqs_contents_checksum(maker->contents, &checksum));
  eqs_attribute metadata = {.name = "metadata", .kind = EQS_ATTRIBUTE_INTEGER, .integer = (int64_t)checksum};
  EQS_TRY(begin_links(&datasets, links));
  add_link(&datasets, "index",
           put_plain_dataset(maker, EQS_HDF5_UINT8, maker->index_size, index_begin, maker->index_size));
  add_link(&datasets, "tiles",
           put_plain_dataset(maker, EQS_HDF5_UINT64, maker->tiles, maker->checksums, 8 * maker->tiles));
  EQS_TRY(put_links(&maker->image->tail, &datasets, &messages));
  add_attributes_in_header(&messages);
  add_attribute(&messages, &metadata, NULL, &scratch);
  *address = eqs_hdf5_put_object(&maker->image->tail, &messages);
cleanup:
  end_links(&datasets);
  eqs_bytes_free(&scratch);
  eqs_bytes_free(&messages);
  return status;
}

eqs_status eqs_image_make(eqs_checkpoint_contents *contents, int64_t most, eqs_image *image)
{
  eqs_status status = EQS_OK;
  image_maker maker = {.contents = contents, .image = image};
  *image = (eqs_image){0};
  EQS_TRY(eqs_catalogue_make(contents, &maker.catalogue));
  EQS_TRY(make_head(&maker));
  EQS_TRY(place_tensors(&maker, contents, most));
  EQS_TRY(put_shared_attributes(&maker, &image->extension));
  EQS_TRY(make_attributes(&maker));
  EQS_TRY(put_parameters(&maker, &image->parameters));
  EQS_TRY(put_items(&maker, &image->trainer));
  EQS_TRY(put_integrity(&maker, &image->integrity));
  image->root = image->tail.bytes.size;
  status = image->tail.bytes.status;
cleanup:
  for (int64_t k = 0; maker.attributes != NULL && k < maker.catalogue.kind.count; k++)
    eqs_bytes_free(&maker.attributes[k]);
  free(maker.attributes);
  free(maker.shared);
  free(maker.shared_attribute);
  free(maker.item_offset);
  eqs_catalogue_free(&maker.catalogue);
  return status;
}

/* The attributes of the root; `created` is the last of them in the file. */
static eqs_status put_root_attributes(eqs_image *image, const eqs_checkpoint_contents *contents, const char *created,
                                      eqs_bytes *messages)
{
  const eqs_attribute attribute[] = {
      {.name = "format", .kind = EQS_ATTRIBUTE_TEXT, .text = EQS_CHECKPOINT_FORMAT},
      {.name = "format_version", .kind = EQS_ATTRIBUTE_INTEGER, .integer = contents->version},
      {.name = "step", .kind = EQS_ATTRIBUTE_INTEGER, .integer = contents->step},
      {.name = "skipped", .kind = EQS_ATTRIBUTE_INTEGER, .integer = contents->skipped},
      {.name = "equishard_version", .kind = EQS_ATTRIBUTE_TEXT, .text = contents->equishard_version},
      {.name = "config", .kind = EQS_ATTRIBUTE_TEXT, .text = contents->config},
      {.name = "complete", .kind = EQS_ATTRIBUTE_INTEGER, .integer = 1},
      {.name = "created", .kind = EQS_ATTRIBUTE_TEXT, .text = created}};
  enum { attributes = sizeof attribute / sizeof *attribute };
  if (!fit_in_header(attributes, attribute)) return put_large_attributes(&image->tail, attributes, attribute, messages);
  eqs_bytes scratch = {0};
  add_attributes_in_header(messages);
  for (int a = 0; a < attributes; a++) add_attribute(messages, &attribute[a], NULL, &scratch);
  eqs_bytes_free(&scratch);
  return messages->status;
}

eqs_status eqs_image_finish(const eqs_checkpoint_contents *contents, const char created[EQS_CREATED_SIZE + 1],
                            eqs_image *image)
{
  enum { links_of_root = 3 };
  eqs_status status = EQS_OK;
  eqs_bytes messages = {0};
  link_list links;
  EQS_TRY(begin_links(&links, links_of_root));
  image->tail.bytes.size = image->root;
  add_link(&links, "integrity", image->integrity);
  add_link(&links, "parameters", image->parameters);
  add_link(&links, "trainer", image->trainer);
  EQS_TRY(put_links(&image->tail, &links, &messages));
  EQS_TRY(put_root_attributes(image, contents, created, &messages));
  uint64_t root = eqs_hdf5_put_object(&image->tail, &messages);
  EQS_TRY(image->tail.bytes.status);
  eqs_hdf5_make_superblock((unsigned char *)image->head.bytes, image->extension, root, eqs_image_size(image));
cleanup:
  eqs_bytes_free(&messages);
  end_links(&links);
  return status;
}

int64_t eqs_image_size(const eqs_image *image)
{
  return image->tail.base + image->tail.bytes.size;
}

void eqs_image_free(eqs_image *image)
{
  eqs_bytes_free(&image->head);
  eqs_bytes_free(&image->tail.bytes);
}

/* ----- writing ----- */

/* Write an image to an own file, all but the signature, with space for the tensors. */
static eqs_status write_image(const char *path, const eqs_image *image)
{
  eqs_status status = EQS_OK;
  int file = -1;
  EQS_TRY(eqs_file_open(path, O_WRONLY | O_CREAT | O_EXCL, &file));
  EQS_TRY(eqs_file_resize(file, path, eqs_image_size(image)));
  EQS_TRY(eqs_file_reserve(file, path, eqs_image_size(image)));
  EQS_TRY(eqs_file_write(file, path, image->head.bytes + signature_size, image->head.size - signature_size,
                         signature_size));
  EQS_TRY(eqs_file_write(file, path, image->tail.bytes.bytes, image->tail.bytes.size, image->tail.base));
  EQS_TRY(eqs_file_finish(&file, path));
cleanup:
  eqs_file_close(file);
  return status;
}

eqs_status eqs_image_create(const char *path, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  eqs_image image = {0};
  char created[32];
  time_t now = time(NULL);
  struct tm utc;
  strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
  EQS_TRY(eqs_image_make(contents, INT64_MAX / 2, &image));
  EQS_TRY(eqs_image_finish(contents, created, &image));
  EQS_TRY(write_image(path, &image));
cleanup:
  eqs_image_free(&image);
  return status;
}

eqs_status eqs_image_complete(const char *path)
{
  eqs_status status = EQS_OK;
  unsigned char superblock[EQS_HDF5_SUPERBLOCK];
  int file = -1;
  EQS_TRY(eqs_file_open(path, O_WRONLY, &file));
  EQS_TRY(eqs_file_sync(file, path)); /* what the first owner wrote before the tiles */
  eqs_hdf5_make_superblock(superblock, 0, 0, 0);
  EQS_TRY(eqs_file_write(file, path, superblock, signature_size, 0));
  EQS_TRY(eqs_file_sync(file, path));
cleanup:
  eqs_file_close(file);
  return status;
}

/* ----- reading ----- */

typedef struct {
  const char *path;
  int file;
  int64_t bytes; /* size of the file */
} image_reader;

/* What the index says; the bytes of the trainer's data are read and compared with it. EQS_DAMAGED: there is none. */
static eqs_status read_index(const image_reader *reader, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  struct {
    char mark[sizeof index_mark];
    int64_t size;
    uint64_t checksum;
  } head;
  char *index = NULL;
  uint64_t *checksum = NULL;
  EQS_TRY(eqs_file_read(reader->file, reader->path, &head, index_head, index_begin));
  if (memcmp(head.mark, index_mark, sizeof index_mark) != 0) EQS_TRY(eqs_bytes_garbled());
  int64_t at = index_begin + index_head;
  if (head.size < 0 || head.size > reader->bytes - at) EQS_TRY(eqs_bytes_garbled());
  EQS_TRY(eqs_allocate_raw(&index, head.size, 1));
  EQS_TRY(eqs_file_read(reader->file, reader->path, index, head.size, at));
  if (XXH3_64bits(index, (size_t)head.size) != head.checksum) EQS_TRY(eqs_bytes_garbled());
  eqs_bytes_left left = eqs_bytes_reader(index, head.size);
  EQS_TRY(eqs_index_take(&left, reader->bytes, contents, &checksum));
  if (left.next != left.end || contents->version != EQS_CHECKPOINT_VERSION) EQS_TRY(eqs_bytes_garbled());
  at += head.size + index_padding(contents, head.size);
  for (int i = 0; i < contents->items; i++) {
    const eqs_checkpoint_item *item = &contents->item[i];
    EQS_TRY(eqs_file_read(reader->file, reader->path, (void *)item->bytes, (int64_t)item->size, at));
    if (XXH3_64bits(item->bytes, item->size) != checksum[i]) EQS_TRY(eqs_bytes_garbled());
    at += (int64_t)item->size;
  }
cleanup:
  if (status != EQS_OK) eqs_contents_free(contents);
  free(checksum);
  free(index);
  return status;
}

/* EQS_DAMAGED: a file has other bytes from `offset` on. */
static eqs_status compare_bytes(const image_reader *reader, const eqs_bytes *expected, int64_t offset)
{
  enum { piece = 1 << 20 };
  eqs_status status = EQS_OK;
  char *bytes = NULL;
  EQS_TRY(eqs_allocate_raw(&bytes, piece, 1));
  for (int64_t at = 0; at < expected->size; at += piece) {
    int64_t size = expected->size - at < piece ? expected->size - at : piece;
    EQS_TRY(eqs_file_read(reader->file, reader->path, bytes, size, offset + at));
    if (memcmp(bytes, expected->bytes + at, (size_t)size) != 0) EQS_TRY(eqs_bytes_garbled());
  }
cleanup:
  free(bytes);
  return status;
}

/* Where in the tail the time is: the last that is like it. */
static int64_t find_created(const eqs_image *image)
{
  int64_t at = image->tail.bytes.size - EQS_CREATED_SIZE;
  while (memcmp(image->tail.bytes.bytes + at, no_time, EQS_CREATED_SIZE) != 0) at--;
  return at;
}

/* The time is a text of the file's own: the rest is compared. */
static eqs_status compare_image(const image_reader *reader, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  eqs_image image = {0};
  char created[EQS_CREATED_SIZE + 1] = "", *kept;
  EQS_TRY(eqs_image_make(contents, reader->bytes, &image));
  EQS_TRY(eqs_image_finish(contents, no_time, &image));
  if (eqs_image_size(&image) > reader->bytes) EQS_TRY(eqs_fail(EQS_DAMAGED, "cut off"));
  EQS_TRY(eqs_file_read(reader->file, reader->path, created, EQS_CREATED_SIZE, image.tail.base + find_created(&image)));
  if (strlen(created) != EQS_CREATED_SIZE) EQS_TRY(eqs_bytes_garbled());
  EQS_TRY(eqs_image_finish(contents, created, &image));
  EQS_TRY(compare_bytes(reader, &image.head, 0));
  EQS_TRY(compare_bytes(reader, &image.tail.bytes, image.tail.base));
  EQS_TRY(eqs_contents_allocate(contents, &kept, sizeof created, 1));
  memcpy(kept, created, sizeof created);
  contents->created = kept;
cleanup:
  eqs_image_free(&image);
  return status == EQS_USAGE ? eqs_bytes_garbled() : status;
}

eqs_status eqs_image_contents(const char *path, eqs_checkpoint_contents *contents, bool *as_we_write)
{
  eqs_status status = EQS_OK;
  image_reader reader = {.path = path, .file = -1};
  *contents = (eqs_checkpoint_contents){0};
  EQS_TRY(eqs_file_open_input(path, &reader.file, &reader.bytes));
  EQS_TRY(read_index(&reader, contents));
  EQS_TRY(compare_image(&reader, contents));
cleanup:
  eqs_file_close(reader.file);
  *as_we_write = status == EQS_OK;
  if (status != EQS_OK) eqs_contents_free(contents);
  return status == EQS_DAMAGED ? EQS_OK : status;
}
