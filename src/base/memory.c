#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { alignment = 64 };

bool eqs_multiply_sizes(int64_t a, int64_t b, int64_t *product)
{
  return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, product);
}

eqs_status eqs_allocate_unset(void *pointer, int64_t count, size_t size)
{
  void *memory = NULL;
  int64_t bytes;
  if (!eqs_multiply_sizes(count, (int64_t)size, &bytes) || bytes > INT64_MAX - alignment)
    return eqs_fail(EQS_FAILED, "allocation of %lld elements of %zu bytes is too large", (long long)count, size);
  if (bytes > 0) {
    memory = aligned_alloc(alignment, ((size_t)bytes + alignment - 1) / alignment * alignment);
    if (memory == NULL)
      return eqs_fail(EQS_FAILED, "out of memory: %lld bytes could not be allocated", (long long)bytes);
  }
  memcpy(pointer, &memory, sizeof memory);
  return EQS_OK;
}

eqs_status eqs_allocate_zeroed(void *pointer, int64_t count, size_t size)
{
  eqs_status status = eqs_allocate_unset(pointer, count, size);
  if (status == EQS_OK && count > 0) {
    void *memory;
    memcpy(&memory, pointer, sizeof memory);
    memset(memory, 0, (size_t)count * size);
  }
  return status;
}

eqs_status eqs_grow_array(void *pointer, int64_t count, size_t size)
{
  if (count > 0 && (count & (count - 1)) != 0) return EQS_OK; /* there is room up to the next power of two */
  int64_t room = count == 0 ? 1 : 2 * count, bytes;
  void *memory;
  memcpy(&memory, pointer, sizeof memory);
  if (!eqs_multiply_sizes(room, (int64_t)size, &bytes))
    return eqs_fail(EQS_FAILED, "an array of %lld elements is too large", (long long)count);
  void *larger = realloc(memory, (size_t)bytes);
  if (larger == NULL) return eqs_fail(EQS_FAILED, "out of memory: %lld bytes could not be allocated", (long long)bytes);
  memset((char *)larger + (size_t)count * size, 0, (size_t)bytes - (size_t)count * size);
  memcpy(pointer, &larger, sizeof larger);
  /* cppcheck-suppress memleak */
  return EQS_OK;
}

eqs_status eqs_copy_text(char **copy, const char *text)
{
  *copy = NULL;
  if (text == NULL) return EQS_OK;
  *copy = strdup(text);
  return *copy ? EQS_OK : eqs_fail(EQS_FAILED, "out of memory");
}

eqs_status eqs_format(char **text, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  int length = vasprintf(text, format, arguments);
  va_end(arguments);
  if (length >= 0) return EQS_OK;
  *text = NULL;
  return eqs_fail(EQS_FAILED, "out of memory");
}
