/* Summaries inside the room: of contents to be written, of a file to be read. */
#ifndef EQS_CHECKPOINT_SUMMARY_H
#define EQS_CHECKPOINT_SUMMARY_H

#include "checkpoint/checkpoint.h"

/* What a file with these contents will have in it; offsets are 0. A copy. EQS_USAGE: names, see eqs_parameter_order. */
eqs_status eqs_checkpoint_describe(const eqs_checkpoint_contents *contents, eqs_checkpoint_summary *summary);

/* As eqs_checkpoint_summarize, but in this process, which HDF5 can crash. */
eqs_status eqs_checkpoint_summarize_here(const char *file, eqs_checkpoint_summary *summary);

/* Put attributes, tensors' names and items in alphabetical order; and entries. */
void eqs_sort_attributes(int count, eqs_attribute *attribute);
void eqs_sort_items(int count, eqs_checkpoint_item *item);

#endif
