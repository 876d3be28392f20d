/* Fuzzing of the reader of packed bytes: the input says what is read of it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  eqs_bytes_left from = eqs_bytes_reader(data, (int64_t)size);
  unsigned char kind;
  while (eqs_bytes_take(&from, &kind, 1) == EQS_OK) {
    const char *next = from.next;
    int64_t number;
    char *bytes = NULL;
    switch (kind % 4) {
    case 0: eqs_bytes_take_number(&from, &number); break;
    case 1:
      if (eqs_bytes_take_count(&from, kind, INT64_MAX, &number) == EQS_OK && number < 0) abort();
      break;
    case 2: eqs_bytes_take_block(&from, &bytes, &number); break;
    default: eqs_bytes_take_text(&from, &bytes); break;
    }
    if (from.next < next || from.next > from.end) abort();
    free(bytes);
  }
  return 0;
}
