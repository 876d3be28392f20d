/*
 * HDF5's structures as bytes (HDF5 File Format Specification, version 3.0): object headers of version 2, groups with
 * their links in the header or in a fractal heap, messages in the heap of shared messages, all with HDF5's checksums.
 * Written here rather than by the library, which takes some microseconds for each of a large model's hundred thousands
 * of attributes, and other bytes in other versions.
 *
 * Nothing fails but for lack of memory, which the buffer remembers.
 */
#ifndef EQS_CHECKPOINT_HDF5_ENCODE_H
#define EQS_CHECKPOINT_HDF5_ENCODE_H

#include <stdbool.h>

#include "base/bytes.h"
#include "checkpoint/contents.h"

#define EQS_HDF5_NOWHERE UINT64_MAX /* the undefined address */

enum {
  EQS_HDF5_SUPERBLOCK = 48, /* bytes */
  EQS_HDF5_MESSAGE = 60000, /* bytes of the largest message that we put into an object header */
  EQS_HDF5_ATTRIBUTE = 12,  /* type of attributes' messages */
  EQS_HDF5_HEAP_ID = 8      /* bytes of a message's place in a heap */
};

/* A piece of the file: what is added to it lies at base + size. */
typedef struct {
  int64_t base;
  eqs_bytes bytes;
} eqs_hdf5_piece;

/* Jenkins's lookup3, HDF5's checksum of metadata and hash of names. */
uint32_t eqs_hdf5_checksum(const void *bytes, int64_t size, uint32_t seed);

typedef enum { EQS_HDF5_FLOAT32, EQS_HDF5_FLOAT64, EQS_HDF5_INT64, EQS_HDF5_UINT64, EQS_HDF5_UINT8 } eqs_hdf5_type;

/* The body of an attribute's message. */
void eqs_hdf5_add_attribute(eqs_bytes *to, const eqs_attribute *attribute);

/* A message of an object header. `body` is what is said here, or where it is in the heap of shared messages. */
void eqs_hdf5_add_message(eqs_bytes *to, int type, const void *body, int64_t size);
void eqs_hdf5_add_shared_message(eqs_bytes *to, int type, const unsigned char id[EQS_HDF5_HEAP_ID]);

/* All messages of a dataset in one piece, its attributes aside. */
void eqs_hdf5_add_dataset(eqs_bytes *to, eqs_hdf5_type type, int ndim, const int64_t *shape, uint64_t address,
                          int64_t bytes);

/* All messages of a link to an object. */
void eqs_hdf5_add_link(eqs_bytes *to, const char *name, uint64_t address);

/* The message that goes before an object's attributes, if it has any; that of a group. */
void eqs_hdf5_add_attributes_info(eqs_bytes *to, uint64_t heap, uint64_t names);
void eqs_hdf5_add_group_info(eqs_bytes *to, uint64_t heap, uint64_t names);

/* An object header with these messages. The results of all that follow are addresses in the file. */
uint64_t eqs_hdf5_put_object(eqs_hdf5_piece *to, const eqs_bytes *messages);

/* Named things of a group or an object: its links, or its attributes, each a message's body. */
typedef struct {
  const char *name;
  const char *body;
  int64_t size;
} eqs_hdf5_named;

/* The links of a group, or the attributes of an object, outside of its header; then what its header says of them. */
eqs_status eqs_hdf5_put_links(eqs_hdf5_piece *to, int64_t count, const eqs_hdf5_named *link, eqs_bytes *messages);
eqs_status eqs_hdf5_put_attributes(eqs_hdf5_piece *to, int64_t count, const eqs_hdf5_named *attribute,
                                   eqs_bytes *messages);

/*
 * The heap of attributes that several objects have.
 *
 * body   [in]  of all, one after the other; sizes and the numbers of objects that have them
 * id     [out] of each, its place: EQS_HDF5_HEAP_ID bytes
 * table  [out] address of the table that the superblock's extension leads to
 */
enum { EQS_HDF5_SHARED = 5000 }; /* at most */
eqs_status eqs_hdf5_put_shared(eqs_hdf5_piece *to, int64_t count, const eqs_hdf5_named *message, const int64_t *uses,
                               unsigned char *id, uint64_t *table);

/* The object that the superblock calls its extension. */
uint64_t eqs_hdf5_put_extension(eqs_hdf5_piece *to, uint64_t table);

void eqs_hdf5_make_superblock(unsigned char superblock[EQS_HDF5_SUPERBLOCK], uint64_t extension, uint64_t root,
                              int64_t file_size);

#endif
