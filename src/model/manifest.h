/*
 * Manifests: the parameters of a model as JSON, {"parameters": [{"name", "shape", "module_type"}, ...]}; further
 * keys are ignored. "stacked": true in an entry: the first dimension counts layers.
 *
 * Beside "parameters" may stand what a model's configuration says of its heads: "num_attention_heads",
 * "num_key_value_heads", "head_dim", ... (eqs_model_shape_keys).
 *
 * "tied_to" in an entry names another of which it is the same tensor: one parameter under two names.
 * "tie_word_embeddings": true beside "parameters" says so of model.embed_tokens.weight and lm_head.weight.
 */
#ifndef EQS_MODEL_MANIFEST_H
#define EQS_MODEL_MANIFEST_H

#include "equishard.h"
#include "model/model_shape.h"

typedef struct eqs_manifest_entry {
  char *name;
  char *module_type; /* NULL if not given */
  int ndim;
  int64_t shape[EQS_MAX_DIMS];
  int stacked; /* 0 or 1 */
  /* The parameter of which this is another name, itself not tied: the embedding, if one of them is; else NULL. */
  const struct eqs_manifest_entry *tied_to;
} eqs_manifest_entry;

typedef struct {
  int64_t count;
  eqs_manifest_entry *entries;        /* in the file's order */
  const eqs_manifest_entry **by_name; /* sorted */
  eqs_model_shape model;
} eqs_manifest;

/*
 * EQS_IO: cannot be read; EQS_USAGE: wrong form (file, line or entry in the message), a name twice, or a tie to an
 * entry that is not there, that is itself tied, or that has another shape.
 */
eqs_status eqs_manifest_read(const char *path, eqs_manifest *manifest);

/* The same from the text of a file; path is for messages. EQS_USAGE. */
eqs_status eqs_manifest_parse(const char *path, const char *text, eqs_manifest *manifest);
void eqs_manifest_free(eqs_manifest *manifest);

/*
 * The parameters: the entries that are not tied to another, in the file's order, their gradients EQS_PARTIAL.
 *
 * info  [out] allocated; names and module types are borrowed from the manifest
 */
eqs_status eqs_manifest_parameters(const eqs_manifest *manifest, eqs_parameter_info **info, int64_t *count);

/* The entry of a name, or NULL. */
const eqs_manifest_entry *eqs_manifest_find(const eqs_manifest *manifest, const char *name);

#endif
