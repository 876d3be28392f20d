/* Summaries inside the room: of contents to be written, of a file to be read. */
#ifndef EQS_CHECKPOINT_SUMMARY_H
#define EQS_CHECKPOINT_SUMMARY_H

#include "checkpoint/checkpoint.h"

/*
 * What a file with these contents will have in it; offsets are 0. Names and texts of attributes stay those of the
 * contents, all else is a copy. EQS_USAGE: names, see eqs_parameter_order.
 */
eqs_status eqs_checkpoint_describe(const eqs_checkpoint_contents *contents, eqs_checkpoint_summary *summary);

/* As eqs_checkpoint_summarize, but in this process, which HDF5 can crash. */
eqs_status eqs_checkpoint_summarize_here(const char *file, eqs_checkpoint_summary *summary);

/* What HDF5 finds in a file, of any format version, in this process. */
eqs_status eqs_hdf5_summarize(const char *file, eqs_checkpoint_summary *summary);

/* An array for attributes that entries then have, zeroed; freed with the summary. */
eqs_status eqs_summary_add_attributes(eqs_checkpoint_summary *summary, int64_t count, eqs_attribute **attribute);

/* A text, allocated, is the summary's from now on. After a failure it is not. */
eqs_status eqs_summary_keep_text(eqs_checkpoint_summary *summary, char *text);

/* The steps that an entry's attributes say. */
int64_t eqs_step_of(const eqs_checkpoint_entry *entry);

/* Put attributes, tensors' names and items in alphabetical order; and entries. */
void eqs_sort_attributes(int count, eqs_attribute *attribute);
void eqs_sort_items(int count, eqs_checkpoint_item *item);

#endif
