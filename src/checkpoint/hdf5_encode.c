#include "checkpoint/hdf5_encode.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static uint32_t rotate(uint32_t x, int by)
{
  return x << by | x >> (32 - by);
}

static uint32_t little32(const unsigned char *bytes, int64_t size)
{
  uint32_t number = 0;
  for (int64_t i = 0; i < size && i < 4; i++) number |= (uint32_t)bytes[i] << 8 * i;
  return number;
}

uint32_t eqs_hdf5_checksum(const void *bytes, int64_t size, uint32_t seed)
{
  const unsigned char *next = bytes;
  uint32_t a = 0xdeadbeef + (uint32_t)size + seed, b = a, c = a;
  for (; size > 12; size -= 12, next += 12) {
    a += little32(next, 4);
    b += little32(next + 4, 4);
    c += little32(next + 8, 4);
    a = (a - c) ^ rotate(c, 4), c += b;
    b = (b - a) ^ rotate(a, 6), a += c;
    c = (c - b) ^ rotate(b, 8), b += a;
    a = (a - c) ^ rotate(c, 16), c += b;
    b = (b - a) ^ rotate(a, 19), a += c;
    c = (c - b) ^ rotate(b, 4), b += a;
  }
  if (size == 0) return c;
  a += little32(next, size);
  if (size > 4) b += little32(next + 4, size - 4);
  if (size > 8) c += little32(next + 8, size - 8);
  c = (c ^ b) - rotate(b, 14);
  a = (a ^ c) - rotate(c, 11);
  b = (b ^ a) - rotate(a, 25);
  c = (c ^ b) - rotate(b, 16);
  a = (a ^ c) - rotate(c, 4);
  b = (b ^ a) - rotate(a, 14);
  c = (c ^ b) - rotate(b, 24);
  return c;
}

/* The checksum of what has been added since `begin`. */
static void add_checksum(eqs_bytes *to, int64_t begin)
{
  if (to->status != EQS_OK) return;
  eqs_bytes_add_little(to, eqs_hdf5_checksum(to->bytes + begin, to->size - begin, 0), 4);
}

static uint64_t address_of_next(const eqs_hdf5_piece *to)
{
  return (uint64_t)(to->base + to->bytes.size);
}

/* Signature and version 0, which most structures begin with. */
static void add_signature(eqs_bytes *to, const char *signature)
{
  eqs_bytes_add(to, signature, 4);
  eqs_bytes_add_little(to, 0, 1);
}

/* ----- messages (IV.A.2) ----- */

/* Types and values are little-endian. */
static void add_datatype(eqs_bytes *to, eqs_hdf5_type type)
{
  static const char float32[] = "\x11\x20\x1f\0\4\0\0\0"
                                "\0\0\x20\0\x17\x08\0\x17\x7f\0\0";
  static const char float64[] = "\x11\x20\x3f\0\x08\0\0\0"
                                "\0\0\x40\0\x34\x0b\0\x34\xff\3\0";
  static const char int64[] = "\x10\x08\0\0\x08\0\0\0"
                              "\0\0\x40";
  static const char uint64[] = "\x10\0\0\0\x08\0\0\0"
                               "\0\0\x40";
  static const char uint8[] = "\x10\0\0\0\1\0\0\0"
                              "\0\0\x08";
  switch (type) {
  case EQS_HDF5_FLOAT32: eqs_bytes_add(to, float32, sizeof float32); break;
  case EQS_HDF5_FLOAT64: eqs_bytes_add(to, float64, sizeof float64); break;
  case EQS_HDF5_INT64: eqs_bytes_add(to, int64, sizeof int64); break;
  case EQS_HDF5_UINT64: eqs_bytes_add(to, uint64, sizeof uint64); break;
  case EQS_HDF5_UINT8: eqs_bytes_add(to, uint8, sizeof uint8); break;
  }
}

static void add_dataspace(eqs_bytes *to, int ndim, const int64_t *shape)
{
  enum { version = 2, scalar = 0, simple = 1 };
  eqs_bytes_add(to, (const char[]){version, (char)ndim, 0, ndim > 0 ? simple : scalar}, 4);
  for (int d = 0; d < ndim; d++) eqs_bytes_add_little(to, (uint64_t)shape[d], 8);
}

void eqs_hdf5_add_attribute(eqs_bytes *to, const eqs_attribute *attribute)
{
  enum { version = 3, string_class = 0x13, utf8_padded_with_zeros = 0x11, integer_size = 12, number_size = 20 };
  bool is_text = attribute->kind == EQS_ATTRIBUTE_TEXT, is_number = attribute->kind == EQS_ATTRIBUTE_NUMBER;
  const char *text = attribute->text != NULL && attribute->text[0] != '\0' ? attribute->text : NULL;
  int64_t name_size = (int64_t)strlen(attribute->name) + 1;
  int64_t length = text != NULL ? (int64_t)strlen(text) : 1; /* HDF5 has no text of length 0 */
  uint64_t value = (uint64_t)attribute->integer;
  if (is_number) memcpy(&value, &attribute->number, sizeof value);
  eqs_bytes_add(to, (const char[]){version, 0}, 2);
  eqs_bytes_add_little(to, (uint64_t)name_size, 2);
  eqs_bytes_add_little(to, is_text ? 8 : is_number ? number_size : integer_size, 2);
  eqs_bytes_add_little(to, 4, 2); /* size of the dataspace */
  eqs_bytes_add_little(to, 0, 1); /* the name is ASCII */
  eqs_bytes_add(to, attribute->name, name_size);
  if (is_text) {
    eqs_bytes_add(to, (const char[]){string_class, utf8_padded_with_zeros, 0, 0}, 4);
    eqs_bytes_add_little(to, (uint64_t)length, 4);
  } else {
    add_datatype(to, is_number ? EQS_HDF5_FLOAT64 : EQS_HDF5_INT64);
  }
  add_dataspace(to, 0, NULL);
  if (is_text)
    eqs_bytes_add(to, text != NULL ? text : "", length);
  else
    eqs_bytes_add_little(to, value, 8);
}

static void add_message_head(eqs_bytes *to, int type, int64_t size, int flags)
{
  eqs_bytes_add_little(to, (uint64_t)type, 1);
  eqs_bytes_add_little(to, (uint64_t)size, 2);
  eqs_bytes_add_little(to, (uint64_t)flags, 1);
}

void eqs_hdf5_add_message(eqs_bytes *to, int type, const void *body, int64_t size)
{
  add_message_head(to, type, size, 0);
  eqs_bytes_add(to, body, size);
}

void eqs_hdf5_add_shared_message(eqs_bytes *to, int type, const unsigned char id[EQS_HDF5_HEAP_ID])
{
  enum { is_shared = 2, version = 3, in_heap = 1 };
  add_message_head(to, type, 2 + EQS_HDF5_HEAP_ID, is_shared);
  eqs_bytes_add(to, (const char[]){version, in_heap}, 2);
  eqs_bytes_add(to, id, EQS_HDF5_HEAP_ID);
}

void eqs_hdf5_add_dataset(eqs_bytes *to, eqs_hdf5_type type, int ndim, const int64_t *shape, uint64_t address,
                          int64_t bytes)
{
  enum { dataspace = 1, datatype = 3, fill_value = 5, layout = 8, constant = 1 };
  enum { fill_version = 3, allocated_early_never_filled = 5, layout_version = 3, contiguous = 1 };
  static const int type_size[] = {20, 20, 12, 12, 12};
  add_message_head(to, dataspace, 4 + 8 * ndim, 0);
  add_dataspace(to, ndim, shape);
  add_message_head(to, datatype, type_size[type], constant);
  add_datatype(to, type);
  add_message_head(to, fill_value, 2, constant);
  eqs_bytes_add(to, (const char[]){fill_version, allocated_early_never_filled}, 2);
  add_message_head(to, layout, 18, 0);
  eqs_bytes_add(to, (const char[]){layout_version, contiguous}, 2);
  eqs_bytes_add_little(to, bytes > 0 ? address : EQS_HDF5_NOWHERE, 8);
  eqs_bytes_add_little(to, (uint64_t)bytes, 8);
}

void eqs_hdf5_add_link(eqs_bytes *to, const char *name, uint64_t address)
{
  enum { version = 1, has_charset = 0x10, utf8 = 1 };
  int64_t length = (int64_t)strlen(name);
  int width = length < 256 ? 0 : 1; /* of the length: 1 << width bytes */
  eqs_bytes_add(to, (const char[]){version, (char)(has_charset | width), utf8}, 3);
  eqs_bytes_add_little(to, (uint64_t)length, 1 << width);
  eqs_bytes_add(to, name, length);
  eqs_bytes_add_little(to, address, 8);
}

static void add_info(eqs_bytes *to, int type, uint64_t heap, uint64_t names)
{
  add_message_head(to, type, 18, 0);
  eqs_bytes_add_zeros(to, 2); /* version, flags */
  eqs_bytes_add_little(to, heap, 8);
  eqs_bytes_add_little(to, names, 8);
}

void eqs_hdf5_add_attributes_info(eqs_bytes *to, uint64_t heap, uint64_t names)
{
  enum { attributes_info = 21 };
  add_info(to, attributes_info, heap, names);
}

void eqs_hdf5_add_group_info(eqs_bytes *to, uint64_t heap, uint64_t names)
{
  enum { link_info = 2, group_info = 10 };
  add_info(to, link_info, heap, names);
  eqs_hdf5_add_message(to, group_info, "\0", 2);
}

/* ----- object headers (IV.A.1.b) ----- */

uint64_t eqs_hdf5_put_object(eqs_hdf5_piece *to, const eqs_bytes *messages)
{
  uint64_t address = address_of_next(to);
  int64_t begin = to->bytes.size;
  int width = messages->size < 1 << 8 ? 0 : messages->size < 1 << 16 ? 1 : 2; /* of the size: 1 << width bytes */
  if (messages->status != EQS_OK) to->bytes.status = messages->status;
  eqs_bytes_add(&to->bytes, "OHDR\2", 5);
  eqs_bytes_add_little(&to->bytes, (uint64_t)width, 1);
  eqs_bytes_add_little(&to->bytes, (uint64_t)messages->size, 1 << width);
  eqs_bytes_add(&to->bytes, messages->bytes, messages->size);
  add_checksum(&to->bytes, begin);
  return address;
}

/* ----- fractal heaps (III.G): blocks of one size under a root ----- */

enum { heap_bits = 32, heap_offset = heap_bits / 8, least_block = 512, usual_block = 1 << 16 };
enum { block_head = 4 + 1 + 8 + heap_offset + 4 };

typedef struct {
  int id_size;        /* bytes of a place in the heap */
  int64_t block_size; /* a power of two */
  int64_t blocks;
  int64_t used; /* bytes of all objects */
} heap_form;

static int log2_of(int64_t power)
{
  int log2 = 0;
  while (INT64_C(1) << log2 < power) log2++;
  return log2;
}

static int length_bytes(const heap_form *form)
{
  return (log2_of(form->block_size) + 7) / 8;
}

/* The block size for some objects. */
static heap_form choose_form(int id_size, int64_t count, const eqs_hdf5_named *object)
{
  heap_form form = {.id_size = id_size, .block_size = least_block};
  int64_t largest = 0;
  for (int64_t i = 0; i < count; i++) {
    form.used += object[i].size;
    if (object[i].size > largest) largest = object[i].size;
  }
  while (form.block_size < usual_block && form.block_size < block_head + form.used) form.block_size *= 2;
  while (form.block_size < block_head + largest) form.block_size *= 2;
  return form;
}

static void put_block(eqs_hdf5_piece *to, const heap_form *form, int64_t number, uint64_t header,
                      const eqs_bytes *objects)
{
  int64_t begin = to->bytes.size, checksum_at = block_head - 4;
  add_signature(&to->bytes, "FHDB");
  eqs_bytes_add_little(&to->bytes, header, 8);
  eqs_bytes_add_little(&to->bytes, (uint64_t)(number * form->block_size), heap_offset);
  eqs_bytes_add_zeros(&to->bytes, 4); /* the checksum, for the time being */
  eqs_bytes_add(&to->bytes, objects->bytes, objects->size);
  eqs_bytes_add_zeros(&to->bytes, form->block_size - block_head - objects->size);
  if (to->bytes.status != EQS_OK) return;
  char *block = to->bytes.bytes + begin;
  uint32_t checksum = eqs_hdf5_checksum(block, form->block_size, 0);
  for (int i = 0; i < 4; i++) block[checksum_at + i] = (char)(checksum >> 8 * i & 0xff);
}

static int64_t table_width(const heap_form *form)
{
  int64_t width = 4;
  while (width < form->blocks) width *= 2;
  return width;
}

/* The root over several blocks, which follow each other from `first` on. */
static uint64_t put_root(eqs_hdf5_piece *to, const heap_form *form, uint64_t header, uint64_t first)
{
  uint64_t address = address_of_next(to);
  int64_t begin = to->bytes.size, width = table_width(form);
  add_signature(&to->bytes, "FHIB");
  eqs_bytes_add_little(&to->bytes, header, 8);
  eqs_bytes_add_zeros(&to->bytes, heap_offset);
  for (int64_t i = 0; i < width; i++)
    eqs_bytes_add_little(&to->bytes, i < form->blocks ? first + (uint64_t)(i * form->block_size) : EQS_HDF5_NOWHERE, 8);
  add_checksum(&to->bytes, begin);
  return address;
}

enum { heap_header = 146 };

static void make_heap_header(eqs_bytes *header, const heap_form *form, int64_t count, uint64_t root)
{
  enum { checksums_of_blocks = 2 };
  int64_t width = table_width(form), allocated = form->blocks * form->block_size;
  add_signature(header, "FRHP");
  eqs_bytes_add_little(header, (uint64_t)form->id_size, 2);
  eqs_bytes_add_little(header, 0, 2); /* no filters */
  eqs_bytes_add_little(header, checksums_of_blocks, 1);
  eqs_bytes_add_little(header, (uint64_t)(form->block_size - block_head), 4); /* largest object */
  eqs_bytes_add_little(header, 0, 8);
  eqs_bytes_add_little(header, EQS_HDF5_NOWHERE, 8); /* no huge objects */
  eqs_bytes_add_little(header, (uint64_t)(allocated - form->blocks * block_head - form->used), 8);
  eqs_bytes_add_little(header, EQS_HDF5_NOWHERE, 8); /* nobody manages the free space */
  eqs_bytes_add_little(header, (uint64_t)(form->blocks > 1 ? width * form->block_size : allocated), 8);
  eqs_bytes_add_little(header, (uint64_t)allocated, 8);
  eqs_bytes_add_little(header, (uint64_t)allocated, 8); /* where the next block goes */
  eqs_bytes_add_little(header, (uint64_t)count, 8);
  eqs_bytes_add_zeros(header, 4 * 8); /* huge and tiny objects: sizes and numbers */
  eqs_bytes_add_little(header, (uint64_t)width, 2);
  eqs_bytes_add_little(header, (uint64_t)form->block_size, 8);
  eqs_bytes_add_little(header, (uint64_t)form->block_size, 8); /* largest block */
  eqs_bytes_add_little(header, heap_bits, 2);
  eqs_bytes_add_little(header, 1, 2); /* rows to begin with */
  eqs_bytes_add_little(header, root, 8);
  eqs_bytes_add_little(header, form->blocks > 1, 2); /* rows */
  add_checksum(header, 0);
}

/* EQS_USAGE: more than a heap of our form can hold. `id` gets a place of id_size bytes for each object. */
static eqs_status put_heap(eqs_hdf5_piece *to, int id_size, int64_t count, const eqs_hdf5_named *object,
                           unsigned char *id, uint64_t *address)
{
  eqs_status status = EQS_OK;
  heap_form form = choose_form(id_size, count, object);
  eqs_bytes block = {0}, header = {0};
  int64_t header_at = to->bytes.size;
  *address = address_of_next(to);
  uint64_t first = *address + heap_header, root;
  if (1 + heap_offset + length_bytes(&form) > id_size || form.used > INT64_C(1) << 30)
    return eqs_fail(EQS_USAGE, "names or texts that are too long for a checkpoint");
  eqs_bytes_add_zeros(&to->bytes, heap_header); /* to be filled in */
  for (int64_t i = 0; i < count; i++) {
    if (block_head + block.size + object[i].size > form.block_size) {
      put_block(to, &form, form.blocks++, *address, &block);
      block.size = 0;
    }
    eqs_bytes place = {.bytes = (char *)id + i * id_size, .room = id_size};
    eqs_bytes_add_zeros(&place, 1); /* an object in a block */
    eqs_bytes_add_little(&place, (uint64_t)(form.blocks * form.block_size + block_head + block.size), heap_offset);
    eqs_bytes_add_little(&place, (uint64_t)object[i].size, length_bytes(&form));
    eqs_bytes_add_zeros(&place, id_size - place.size);
    eqs_bytes_add(&block, object[i].body, object[i].size);
    EQS_TRY(block.status);
  }
  put_block(to, &form, form.blocks++, *address, &block);
  root = form.blocks > 1 ? put_root(to, &form, *address, first) : first;
  make_heap_header(&header, &form, count, root);
  EQS_TRY(header.status);
  EQS_TRY(to->bytes.status);
  memcpy(to->bytes.bytes + header_at, header.bytes, heap_header);
cleanup:
  eqs_bytes_free(&header);
  eqs_bytes_free(&block);
  return status;
}

/* ----- B-trees, version 2 (III.A.2) ----- */

enum { node_size = 512, node_head = 4 + 1 + 1 + 4, most_depth = 7 };

typedef struct {
  eqs_hdf5_piece *to;
  int type, record_size;
  const unsigned char *record;      /* all, in order */
  int count_bytes;                  /* of a number of records in a node */
  int64_t capacity[most_depth + 1]; /* of a node and all below it, by depth */
  int total_bytes[most_depth + 1];  /* of such a number; of leaves none */
} tree_form;

/* Bytes for numbers up to a limit. */
static int bytes_for(int64_t limit)
{
  int bytes = 1;
  while (limit >> 8 * bytes > 0) bytes++;
  return bytes;
}

static int pointer_size(const tree_form *form, int depth)
{
  return 8 + form->count_bytes + form->total_bytes[depth - 1];
}

static void measure_tree(tree_form *form)
{
  form->capacity[0] = (node_size - node_head) / form->record_size;
  form->count_bytes = bytes_for(form->capacity[0]);
  form->total_bytes[0] = 0;
  for (int depth = 1; depth <= most_depth; depth++) {
    int pointer = pointer_size(form, depth);
    int64_t records = (node_size - node_head - pointer) / (form->record_size + pointer);
    form->capacity[depth] = (records + 1) * form->capacity[depth - 1] + records;
    form->total_bytes[depth] = bytes_for(form->capacity[depth]);
  }
}

/* A node begun; its end: the rest of its space is empty. */
static void begin_node(const tree_form *form, const char *signature)
{
  add_signature(&form->to->bytes, signature);
  eqs_bytes_add_little(&form->to->bytes, (uint64_t)form->type, 1);
}

static void end_node(const tree_form *form, int64_t begin)
{
  eqs_bytes *to = &form->to->bytes;
  add_checksum(to, begin);
  if (to->status == EQS_OK) eqs_bytes_add_zeros(to, begin + node_size - to->size);
}

typedef struct {
  uint64_t address;
  int64_t records; /* in the node itself */
} tree_node;

static tree_node put_leaf(const tree_form *form, int64_t first, int64_t count)
{
  tree_node node = {.address = address_of_next(form->to), .records = count};
  int64_t begin = form->to->bytes.size;
  begin_node(form, "BTLF");
  eqs_bytes_add(&form->to->bytes, form->record + first * form->record_size, count * form->record_size);
  end_node(form, begin);
  return node;
}

/* A node over some records with all below it: children of nearly one size, a record between each and the next. */
static tree_node put_node(const tree_form *form, int depth, int64_t first, int64_t count)
{
  if (depth == 0) return put_leaf(form, first, count);
  eqs_bytes records = {0}, pointers = {0};
  int64_t children = count / (form->capacity[depth - 1] + 1) + 1, next = first;
  int64_t below = count - (children - 1);
  for (int64_t c = 0; c < children; c++) {
    int64_t size = below / children + (c < below % children);
    tree_node child = put_node(form, depth - 1, next, size);
    eqs_bytes_add_little(&pointers, child.address, 8);
    eqs_bytes_add_little(&pointers, (uint64_t)child.records, form->count_bytes);
    eqs_bytes_add_little(&pointers, (uint64_t)size, form->total_bytes[depth - 1]);
    next += size;
    if (c + 1 < children) eqs_bytes_add(&records, form->record + next++ * form->record_size, form->record_size);
  }
  tree_node node = {.address = address_of_next(form->to), .records = children - 1};
  int64_t begin = form->to->bytes.size;
  if (records.status != EQS_OK || pointers.status != EQS_OK) form->to->bytes.status = EQS_FAILED;
  begin_node(form, "BTIN");
  eqs_bytes_add(&form->to->bytes, records.bytes, records.size);
  eqs_bytes_add(&form->to->bytes, pointers.bytes, pointers.size);
  end_node(form, begin);
  eqs_bytes_free(&records);
  eqs_bytes_free(&pointers);
  return node;
}

static uint64_t put_tree(eqs_hdf5_piece *to, int type, int record_size, int64_t count, const unsigned char *record)
{
  enum { split_percent = 100, merge_percent = 40 };
  tree_form form = {.to = to, .type = type, .record_size = record_size, .record = record};
  measure_tree(&form);
  int depth = 0;
  while (form.capacity[depth] < count) depth++;
  tree_node root = put_node(&form, depth, 0, count);
  uint64_t address = address_of_next(to);
  int64_t begin = to->bytes.size;
  add_signature(&to->bytes, "BTHD");
  eqs_bytes_add_little(&to->bytes, (uint64_t)type, 1);
  eqs_bytes_add_little(&to->bytes, node_size, 4);
  eqs_bytes_add_little(&to->bytes, (uint64_t)record_size, 2);
  eqs_bytes_add_little(&to->bytes, (uint64_t)depth, 2);
  eqs_bytes_add(&to->bytes, (const char[]){split_percent, merge_percent}, 2);
  eqs_bytes_add_little(&to->bytes, root.address, 8);
  eqs_bytes_add_little(&to->bytes, (uint64_t)root.records, 2);
  eqs_bytes_add_little(&to->bytes, (uint64_t)count, 8);
  add_checksum(&to->bytes, begin);
  return address;
}

/* ----- links and attributes outside of headers ----- */

typedef struct {
  uint32_t hash;
  int64_t number;
  const char *name;
} hashed_name;

static int by_hash(const void *a, const void *b)
{
  const hashed_name *left = a, *right = b;
  if (left->hash != right->hash) return left->hash < right->hash ? -1 : 1;
  return strcmp(left->name, right->name);
}

/* The numbers of some things in the order of their names' hashes. */
static eqs_status order_by_hash(int64_t count, const eqs_hdf5_named *named, hashed_name **order)
{
  eqs_status status = eqs_allocate(order, count, sizeof **order);
  if (status != EQS_OK) return status;
  for (int64_t i = 0; i < count; i++)
    (*order)[i] = (hashed_name){.hash = eqs_hdf5_checksum(named[i].name, (int64_t)strlen(named[i].name), 0),
                                .number = i,
                                .name = named[i].name};
  qsort(*order, (size_t)count, sizeof **order, by_hash);
  return EQS_OK;
}

/* A heap with the things, and the index of their names. */
static eqs_status put_named(eqs_hdf5_piece *to, bool links, int64_t count, const eqs_hdf5_named *named, uint64_t *heap,
                            uint64_t *names)
{
  enum { link_names = 5, attribute_names = 8, link_id = 7 };
  eqs_status status = EQS_OK;
  hashed_name *order = NULL;
  unsigned char *id = NULL;
  eqs_bytes records = {0};
  int id_size = links ? link_id : EQS_HDF5_HEAP_ID;
  EQS_TRY(eqs_allocate(&id, count * id_size, 1));
  EQS_TRY(put_heap(to, id_size, count, named, id, heap));
  EQS_TRY(order_by_hash(count, named, &order));
  for (int64_t i = 0; i < count; i++) {
    if (links) eqs_bytes_add_little(&records, order[i].hash, 4);
    eqs_bytes_add(&records, id + order[i].number * id_size, id_size);
    if (links) continue;
    eqs_bytes_add_zeros(&records, 1); /* flags */
    eqs_bytes_add_little(&records, (uint64_t)order[i].number, 4);
    eqs_bytes_add_little(&records, order[i].hash, 4);
  }
  EQS_TRY(records.status);
  *names = put_tree(to, links ? link_names : attribute_names, (int)(records.size / count), count,
                    (const unsigned char *)records.bytes);
cleanup:
  eqs_bytes_free(&records);
  free(order);
  free(id);
  return status;
}

eqs_status eqs_hdf5_put_links(eqs_hdf5_piece *to, int64_t count, const eqs_hdf5_named *link, eqs_bytes *messages)
{
  enum { most_in_header = 8, link_message = 6 };
  eqs_status status = EQS_OK;
  uint64_t heap = EQS_HDF5_NOWHERE, names = EQS_HDF5_NOWHERE;
  if (count > most_in_header) EQS_TRY(put_named(to, true, count, link, &heap, &names));
  eqs_hdf5_add_group_info(messages, heap, names);
  for (int64_t i = 0; count <= most_in_header && i < count; i++)
    eqs_hdf5_add_message(messages, link_message, link[i].body, link[i].size);
cleanup:
  return status;
}

eqs_status eqs_hdf5_put_attributes(eqs_hdf5_piece *to, int64_t count, const eqs_hdf5_named *attribute,
                                   eqs_bytes *messages)
{
  eqs_status status = EQS_OK;
  uint64_t heap, names;
  EQS_TRY(put_named(to, false, count, attribute, &heap, &names));
  eqs_hdf5_add_attributes_info(messages, heap, names);
cleanup:
  return status;
}

/* ----- shared messages (IV.A.2.p) ----- */

eqs_status eqs_hdf5_put_shared(eqs_hdf5_piece *to, int64_t count, const eqs_hdf5_named *message, const int64_t *uses,
                               unsigned char *id, uint64_t *table)
{
  enum { of_attributes = 1 << EQS_HDF5_ATTRIBUTE, least_size = 24, in_a_list = 0, in_heap = 0 };
  eqs_status status = EQS_OK;
  uint64_t heap, list;
  int64_t begin;
  EQS_TRY(put_heap(to, EQS_HDF5_HEAP_ID, count, message, id, &heap));

  list = address_of_next(to);
  begin = to->bytes.size;
  eqs_bytes_add(&to->bytes, "SMLI", 4);
  for (int64_t i = 0; i < count; i++) {
    eqs_bytes_add_little(&to->bytes, in_heap, 1);
    eqs_bytes_add_little(&to->bytes, eqs_hdf5_checksum(message[i].body, message[i].size, EQS_HDF5_ATTRIBUTE), 4);
    eqs_bytes_add_little(&to->bytes, (uint64_t)uses[i], 4);
    eqs_bytes_add(&to->bytes, id + i * EQS_HDF5_HEAP_ID, EQS_HDF5_HEAP_ID);
  }
  add_checksum(&to->bytes, begin);

  *table = address_of_next(to);
  begin = to->bytes.size;
  eqs_bytes_add(&to->bytes, "SMTB", 4);
  eqs_bytes_add_little(&to->bytes, 0, 1); /* version */
  eqs_bytes_add_little(&to->bytes, in_a_list, 1);
  eqs_bytes_add_little(&to->bytes, of_attributes, 2);
  eqs_bytes_add_little(&to->bytes, least_size, 4);
  eqs_bytes_add_little(&to->bytes, (uint64_t)count, 2); /* most that the list holds; fewest of a tree */
  eqs_bytes_add_little(&to->bytes, (uint64_t)count, 2);
  eqs_bytes_add_little(&to->bytes, (uint64_t)count, 2);
  eqs_bytes_add_little(&to->bytes, list, 8);
  eqs_bytes_add_little(&to->bytes, heap, 8);
  add_checksum(&to->bytes, begin);
  status = to->bytes.status;
cleanup:
  return status;
}

uint64_t eqs_hdf5_put_extension(eqs_hdf5_piece *to, uint64_t table)
{
  enum { shared_message_table = 15, indices = 1 };
  eqs_bytes messages = {0}, body = {0};
  eqs_bytes_add_little(&body, 0, 1); /* version */
  eqs_bytes_add_little(&body, table, 8);
  eqs_bytes_add_little(&body, indices, 1);
  eqs_hdf5_add_message(&messages, shared_message_table, body.bytes, body.size);
  uint64_t address = eqs_hdf5_put_object(to, &messages);
  eqs_bytes_free(&body);
  eqs_bytes_free(&messages);
  return address;
}

/* ----- the superblock (II.B) ----- */

void eqs_hdf5_make_superblock(unsigned char superblock[EQS_HDF5_SUPERBLOCK], uint64_t extension, uint64_t root,
                              int64_t file_size)
{
  enum { version = 2, size_of_addresses = 8, size_of_lengths = 8 };
  eqs_bytes to = {.bytes = (char *)superblock, .room = EQS_HDF5_SUPERBLOCK};
  eqs_bytes_add(&to, "\211HDF\r\n\032\n", 8);
  eqs_bytes_add(&to, (const char[]){version, size_of_addresses, size_of_lengths, 0}, 4);
  eqs_bytes_add_little(&to, 0, 8); /* base of all addresses */
  eqs_bytes_add_little(&to, extension, 8);
  eqs_bytes_add_little(&to, (uint64_t)file_size, 8);
  eqs_bytes_add_little(&to, root, 8);
  add_checksum(&to, 0);
}
