/* Fuzzing of safetensors files: the header, and the values of what it names. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "weights/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a header says can be no more than the file has: else there is no room for the values. */
static void load_all(int file, size_t size, const eqs_safetensors *content)
{
  for (int64_t i = 0; i < content->tensors; i++) {
    const eqs_safetensor *tensor = &content->tensor[i];
    if (!eqs_safetensors_floats(tensor)) continue;
    if (tensor->elements < 0 || (uint64_t)tensor->elements > size) abort();
    float *values = malloc((size_t)tensor->elements * sizeof *values + 1);
    int64_t saturated = 0;
    if (values != NULL && eqs_safetensors_load(file, "fuzz", tensor, &saturated, values) != EQS_OK) abort();
    if (saturated < 0 || saturated > tensor->elements) abort();
    free(values);
  }
}

/* A header that we make of what was read names the same tensors. */
static void write_again(eqs_safetensors *content)
{
  char *head;
  int64_t length;
  if (eqs_safetensors_make_head(content, 1, &head, &length) != EQS_OK) return;
  if (length < 8 || length % 8 != 0) abort();
  free(head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  eqs_safetensors content = {0};
  int file = memfd_create("safetensors", MFD_CLOEXEC);
  if (file < 0) return 0;
  if (write(file, data, size) == (ssize_t)size &&
      eqs_safetensors_read(file, "fuzz", (int64_t)size, &content) == EQS_OK) {
    load_all(file, size, &content);
    write_again(&content);
    eqs_safetensors_free(&content);
  }
  close(file);
  return 0;
}
