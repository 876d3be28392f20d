#include "weights/safetensors.h"

#include <float.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/numbers.h"
#include "checkpoint/contents.h"

enum { length_bytes = 8, longest_name = 4096, most_values = 2 << 20 }; /* some 250,000 tensors */
static const char metadata_key[] = "__metadata__";

static const struct {
  const char *name;
  int bits; /* of an element */
} dtypes[] = {{"F32", 32},    {"BF16", 16}, {"F16", 16},    {"F64", 64},    {"I64", 64},    {"I32", 32}, {"I16", 16},
              {"I8", 8},      {"U64", 64},  {"U32", 32},    {"U16", 16},    {"U8", 8},      {"BOOL", 8}, {"F8_E4M3", 8},
              {"F8_E5M2", 8}, {"C64", 64},  {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4}};
enum { dtype_count = sizeof dtypes / sizeof *dtypes };

static bool has_dtype(const eqs_safetensor *tensor, const char *dtype)
{
  return strcmp(tensor->dtype, dtype) == 0;
}

const char *eqs_safetensors_dtype(eqs_dtype dtype)
{
  static const char *const names[] = {[EQS_FLOAT32] = "F32", [EQS_BFLOAT16] = "BF16", [EQS_FLOAT16] = "F16"};
  return names[dtype];
}

bool eqs_safetensors_floats(const eqs_safetensor *tensor)
{
  return has_dtype(tensor, "F32") || has_dtype(tensor, "BF16") || has_dtype(tensor, "F16") || has_dtype(tensor, "F64");
}

eqs_dtype eqs_safetensors_trainer_dtype(const eqs_safetensor *tensor)
{
  return has_dtype(tensor, "BF16") ? EQS_BFLOAT16 : has_dtype(tensor, "F16") ? EQS_FLOAT16 : EQS_FLOAT32;
}

void eqs_safetensors_free(eqs_safetensors *content)
{
  for (int64_t i = 0; i < content->tensors; i++) free(content->tensor[i].name);
  free(content->tensor);
  *content = (eqs_safetensors){0};
}

/* Product of the shape; 0 if one size is, whatever the others. False: it overflows. */
static bool count_elements(int ndim, const int64_t *shape, int64_t *elements)
{
  *elements = 1;
  for (int d = 0; d < ndim; d++)
    if (shape[d] == 0) *elements = 0;
  for (int d = 0; d < ndim; d++)
    if (!eqs_multiply_sizes(*elements, shape[d], elements)) return false;
  return true;
}

static int find_dtype(const char *name)
{
  int found = 0;
  while (found < dtype_count && (name == NULL || strcmp(name, dtypes[found].name) != 0)) found++;
  return found;
}

static eqs_status read_dtype(const json_t *value, eqs_safetensor *tensor, int *bits)
{
  int found = find_dtype(json_string_value(value));
  if (found == dtype_count)
    return eqs_fail(EQS_DAMAGED, "dtype is not one of safetensors: %.40s",
                    json_is_string(value) ? json_string_value(value) : "not a text");
  tensor->dtype = dtypes[found].name;
  *bits = dtypes[found].bits;
  return EQS_OK;
}

static eqs_status read_shape(const json_t *value, eqs_safetensor *tensor)
{
  int64_t rows, cols;
  if (!json_is_array(value)) return eqs_fail(EQS_DAMAGED, "shape is not a list");
  if (json_array_size(value) > EQS_MAX_DIMS)
    return eqs_fail(EQS_DAMAGED, "%zu dimensions; at most %d are possible", json_array_size(value), EQS_MAX_DIMS);
  tensor->ndim = (int)json_array_size(value);
  for (int d = 0; d < tensor->ndim; d++) {
    const json_t *size = json_array_get(value, (size_t)d);
    if (!json_is_integer(size) || json_integer_value(size) < 0)
      return eqs_fail(EQS_DAMAGED, "shape is not a list of whole numbers of at least 0");
    tensor->shape[d] = json_integer_value(size);
  }
  if (!count_elements(tensor->ndim, tensor->shape, &tensor->elements) ||
      !eqs_tensor_rows_cols(tensor->ndim, tensor->shape, &rows, &cols) || cols > INT_MAX)
    return eqs_fail(EQS_DAMAGED, "shape is too large");
  return EQS_OK;
}

/* `begin` is where the tensors' bytes begin, `end` where the file ends. */
static eqs_status read_offsets(const json_t *value, int64_t begin, int64_t end, int bits, eqs_safetensor *tensor)
{
  const json_t *first = json_array_get(value, 0), *last = json_array_get(value, 1);
  int64_t needed;
  if (json_array_size(value) != 2 || !json_is_integer(first) || !json_is_integer(last))
    return eqs_fail(EQS_DAMAGED, "data_offsets are not two whole numbers");
  int64_t from = json_integer_value(first), to = json_integer_value(last);
  if (from < 0 || to < from || to > end - begin) return eqs_fail(EQS_DAMAGED, "data_offsets lead out of the file");
  tensor->offset = begin + from;
  tensor->bytes = to - from;
  if (!eqs_multiply_sizes(tensor->elements, bits, &needed) || needed % CHAR_BIT != 0 ||
      needed / CHAR_BIT != tensor->bytes)
    return eqs_fail(EQS_DAMAGED, "%lld bytes, but shape and dtype ask for others", (long long)tensor->bytes);
  return EQS_OK;
}

static eqs_status read_name(const char *name, eqs_safetensor *tensor)
{
  eqs_status status = EQS_OK;
  if (strlen(name) > longest_name) return eqs_fail(EQS_DAMAGED, "a name of more than %d bytes", longest_name);
  EQS_TRY(eqs_copy_text(&tensor->name, name));
cleanup:
  return status;
}

static eqs_status read_tensor(const char *name, const json_t *value, int64_t begin, int64_t end, eqs_safetensor *tensor)
{
  eqs_status status = EQS_OK;
  int bits = 0;
  EQS_TRY(read_name(name, tensor));
  if (!json_is_object(value)) return eqs_fail(EQS_DAMAGED, "not an object");
  EQS_TRY(read_dtype(json_object_get(value, "dtype"), tensor, &bits));
  EQS_TRY(read_shape(json_object_get(value, "shape"), tensor));
  EQS_TRY(read_offsets(json_object_get(value, "data_offsets"), begin, end, bits, tensor));
cleanup:
  return status;
}

static eqs_status check_metadata(json_t *metadata)
{
  const char *key;
  json_t *value;
  if (!json_is_object(metadata)) return eqs_fail(EQS_DAMAGED, "not an object");
  json_object_foreach(metadata, key, value) if (!json_is_string(value)) return eqs_fail(EQS_DAMAGED,
                                                                                        "%.80s is not a text", key);
  return EQS_OK;
}

static int by_offset(const void *a, const void *b)
{
  const eqs_safetensor *left = a, *right = b;
  if (left->offset != right->offset) return left->offset < right->offset ? -1 : 1;
  if (left->bytes != right->bytes) return left->bytes < right->bytes ? -1 : 1;
  return strcmp(left->name, right->name);
}

/* Every byte of the file belongs to one tensor: one follows the other. */
static eqs_status check_order(eqs_safetensors *content, int64_t begin, int64_t end)
{
  int64_t next = begin;
  if (content->tensors > 0) qsort(content->tensor, (size_t)content->tensors, sizeof *content->tensor, by_offset);
  for (int64_t i = 0; i < content->tensors; i++) {
    const eqs_safetensor *tensor = &content->tensor[i];
    if (tensor->offset != next)
      return eqs_fail(EQS_DAMAGED, "%.200s: its bytes %s", tensor->name,
                      tensor->offset < next ? "overlap with another tensor's" : "follow a gap");
    next += tensor->bytes;
  }
  return next == end ? EQS_OK
                     : eqs_fail(EQS_DAMAGED, "%lld bytes at the end belong to no tensor", (long long)(end - next));
}

static eqs_status read_tensors(json_t *root, int64_t begin, int64_t end, eqs_safetensors *content)
{
  eqs_status status = EQS_OK;
  const char *name;
  json_t *value;
  if (!json_is_object(root)) return eqs_fail(EQS_DAMAGED, "the header is not an object");
  EQS_TRY(eqs_allocate(&content->tensor, (int64_t)json_object_size(root), sizeof *content->tensor));
  json_object_foreach(root, name, value)
  {
    if (strcmp(name, metadata_key) == 0)
      status = check_metadata(value);
    else
      status = read_tensor(name, value, begin, end, &content->tensor[content->tensors++]);
    if (status != EQS_OK) return eqs_fail_in(status, "%.200s", name);
  }
  EQS_TRY(check_order(content, begin, end));
cleanup:
  return status;
}

/* What torch.save writes: a zip archive, before 1.6 a pickle. */
static bool is_of_torch(const unsigned char *start)
{
  bool zip = memcmp(start, "PK\003\004", 4) == 0, pickle = start[0] == 0x80 && start[1] >= 2 && start[1] <= 5;
  return (zip || pickle) && start[length_bytes] != '{';
}

static const char *base_name(const char *path)
{
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static eqs_status refuse_torch(const char *path)
{
  const char *base = base_name(path), *dot = strrchr(base, '.');
  int length = (int)(dot && dot > base ? dot - path : (long)strlen(path));
  return eqs_fail(EQS_USAGE,
                  "%s: a file of torch.save, not of safetensors; convert it: python3 -m equishard.convert %s "
                  "%.*s.safetensors",
                  path, path, length, path);
}

/* The header's text and its length, which leaves room for the tensors in a file of `size` bytes. */
static eqs_status read_header(int file, const char *path, int64_t size, char **text, int64_t *length)
{
  eqs_status status = EQS_OK;
  unsigned char start[length_bytes + 1];
  uint64_t said = 0;
  if (size < (int64_t)sizeof start) return eqs_fail(EQS_DAMAGED, "%s: not a safetensors file (too short)", path);
  EQS_TRY(eqs_file_read(file, path, start, sizeof start, 0));
  if (is_of_torch(start)) return refuse_torch(path);
  for (int i = 0; i < length_bytes; i++) said |= (uint64_t)start[i] << CHAR_BIT * i;
  if (start[length_bytes] != '{') return eqs_fail(EQS_DAMAGED, "%s: not a safetensors file (no header in JSON)", path);
  if (said > EQS_SAFETENSORS_HEADER || (int64_t)said > size - length_bytes)
    return eqs_fail(EQS_DAMAGED, "%s: damaged: a header of %llu bytes in a file of %lld; at most %d are possible", path,
                    (unsigned long long)said, (long long)size, EQS_SAFETENSORS_HEADER);
  *length = (int64_t)said;
  EQS_TRY(eqs_allocate_raw(text, *length, 1));
  EQS_TRY(eqs_file_read(file, path, *text, *length, length_bytes));
cleanup:
  return status;
}

/* A value in memory takes a hundred times its room in a hostile text: their number is bounded before they are made. */
static eqs_status check_values(const char *text, int64_t length)
{
  int64_t values = 0;
  for (int64_t i = 0; i < length; i++) values += text[i] == ',' || text[i] == '[' || text[i] == '{';
  if (values <= most_values) return EQS_OK;
  return eqs_fail(EQS_DAMAGED, "%lld values in the header; at most %d are possible", (long long)values, most_values);
}

eqs_status eqs_safetensors_read(int file, const char *path, int64_t size, eqs_safetensors *content)
{
  eqs_status status = EQS_OK;
  char *text = NULL;
  int64_t length = 0;
  json_t *root = NULL;
  json_error_t error;
  *content = (eqs_safetensors){0};
  EQS_TRY(read_header(file, path, size, &text, &length));
  if ((status = check_values(text, length)) == EQS_OK) {
    root = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    status = root != NULL ? read_tensors(root, length_bytes + length, size, content)
                          : eqs_fail(EQS_DAMAGED, "JSON of the header: %s", error.text);
  }
  if (status != EQS_OK)
    status = eqs_fail(status, "%s: %s%s", path, status == EQS_DAMAGED ? "damaged: " : "", eqs_error_message());
cleanup:
  json_decref(root);
  free(text);
  if (status != EQS_OK) eqs_safetensors_free(content);
  return status;
}

/* Elements from `first` on to float32: what is finite stays so. */
static eqs_status from_float64(const char *path, const eqs_safetensor *tensor, int64_t first, int64_t count,
                               const double *doubles, int64_t *saturated, float *values)
{
  for (int64_t i = 0; i < count; i++) {
    values[i] = (float)doubles[i];
    if (!isinf(values[i]) || isinf(doubles[i])) continue;
    if (saturated == NULL)
      return eqs_fail(EQS_USAGE,
                      "%s: tensor %.500s: element %lld is %g, and float32 ends at 3.4e38: --saturate takes the largest "
                      "number instead, --exclude leaves the tensor out",
                      path, tensor->name, (long long)(first + i), doubles[i]);
    values[i] = copysignf(FLT_MAX, values[i]);
    ++*saturated;
  }
  return EQS_OK;
}

/* Elements from `first` on, as many as `buffer` has room for, to float32. */
static eqs_status load_some(int file, const char *path, const eqs_safetensor *tensor, int64_t first, int64_t count,
                            void *buffer, int64_t *saturated, float *values)
{
  eqs_status status = EQS_OK;
  int64_t size = tensor->bytes / tensor->elements;
  EQS_TRY(eqs_file_read(file, path, buffer, count * size, tensor->offset + first * size));
  if (has_dtype(tensor, "F64"))
    status = from_float64(path, tensor, first, count, buffer, saturated, values);
  else
    eqs_to_float(eqs_safetensors_trainer_dtype(tensor), buffer, values, count);
cleanup:
  return status;
}

eqs_status eqs_safetensors_load(int file, const char *path, const eqs_safetensor *tensor, int64_t *saturated,
                                float *values)
{
  const int64_t piece = 1 << 20;
  eqs_status status = EQS_OK;
  void *buffer = NULL;
  EQS_TRY(eqs_allocate_raw(&buffer, tensor->elements < piece ? tensor->elements : piece, sizeof(double)));
  for (int64_t first = 0; first < tensor->elements; first += piece) {
    int64_t left = tensor->elements - first;
    EQS_TRY(load_some(file, path, tensor, first, left < piece ? left : piece, buffer, saturated, values + first));
  }
cleanup:
  free(buffer);
  return status;
}

/* Places one after the other, from `offset` 0 on. */
static eqs_status place_tensors(eqs_safetensors *content)
{
  int64_t next = 0;
  for (int64_t i = 0; i < content->tensors; i++) {
    eqs_safetensor *tensor = &content->tensor[i];
    if (!count_elements(tensor->ndim, tensor->shape, &tensor->elements) ||
        !eqs_multiply_sizes(tensor->elements, dtypes[find_dtype(tensor->dtype)].bits / CHAR_BIT, &tensor->bytes) ||
        tensor->bytes > INT64_MAX - EQS_SAFETENSORS_HEADER - next)
      return eqs_fail(EQS_USAGE, "%s: too large", tensor->name);
    tensor->offset = next;
    next += tensor->bytes;
  }
  return EQS_OK;
}

/* A name that cannot be written, with bytes that are not ASCII as \\xNN. */
static eqs_status refuse_name(const char *name, const char *why)
{
  char text[512];
  size_t length = 0;
  for (; *name != '\0' && length + 5 < sizeof text; name++)
    length +=
        (size_t)snprintf(text + length, sizeof text - length, *name & 0x80 ? "\\x%02x" : "%c", (unsigned char)*name);
  text[length] = '\0';
  return eqs_fail(EQS_USAGE, "parameter \"%s\": safetensors cannot hold this name%s", text, why);
}

static eqs_status add_tensor(json_t *root, const eqs_safetensor *tensor)
{
  json_t *name = json_string(tensor->name);
  if (name == NULL) return refuse_name(tensor->name, ", which is not UTF-8");
  json_decref(name);
  if (strcmp(tensor->name, metadata_key) == 0) return refuse_name(tensor->name, "");
  json_t *shape = json_array();
  for (int d = 0; d < tensor->ndim; d++) json_array_append_new(shape, json_integer(tensor->shape[d]));
  json_t *object = json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensor->dtype, "shape", shape, "data_offsets",
                             (json_int_t)tensor->offset, (json_int_t)(tensor->offset + tensor->bytes));
  if (json_object_set_new(root, tensor->name, object) != 0) return eqs_fail(EQS_FAILED, "out of memory");
  return EQS_OK;
}

static json_t *make_metadata(int64_t step)
{
  char number[32];
  snprintf(number, sizeof number, "%lld", (long long)step);
  return json_pack("{s:s, s:s, s:s}", "format", "pt", "step", number, "equishard_version", EQS_VERSION);
}

/* The length, the text, and spaces up to a multiple of 8 bytes. */
static eqs_status pack_head(const char *text, char **head, int64_t *length)
{
  eqs_status status = EQS_OK;
  int64_t bytes = (int64_t)strlen(text), padded = (bytes + 7) / 8 * 8;
  if (padded > EQS_SAFETENSORS_HEADER)
    return eqs_fail(EQS_USAGE, "names and shapes take %lld bytes, more than the %d of a safetensors header",
                    (long long)padded, EQS_SAFETENSORS_HEADER);
  EQS_TRY(eqs_allocate_raw(head, length_bytes + padded, 1));
  for (int i = 0; i < length_bytes; i++) (*head)[i] = (char)((uint64_t)padded >> CHAR_BIT * i & 0xff);
  memcpy(*head + length_bytes, text, (size_t)bytes);
  memset(*head + length_bytes + bytes, ' ', (size_t)(padded - bytes));
  *length = length_bytes + padded;
cleanup:
  return status;
}

eqs_status eqs_safetensors_make_head(eqs_safetensors *content, int64_t step, char **head, int64_t *length)
{
  eqs_status status = EQS_OK;
  char *text = NULL;
  json_t *root = json_object();
  EQS_TRY(place_tensors(content));
  json_object_set_new(root, metadata_key, make_metadata(step));
  for (int64_t i = 0; i < content->tensors; i++) EQS_TRY(add_tensor(root, &content->tensor[i]));
  text = json_dumps(root, JSON_COMPACT);
  if (text == NULL) EQS_TRY(eqs_fail(EQS_FAILED, "out of memory"));
  EQS_TRY(pack_head(text, head, length));
  for (int64_t i = 0; i < content->tensors; i++) content->tensor[i].offset += *length;
cleanup:
  json_decref(root);
  free(text);
  return status;
}
