/* Fingerprints of memory: whether somebody has written to it. */
#include <xxhash.h>

#include "service/session.h"

enum { whole = 16384, piece = 64, pieces = whole / piece };

/* 256 pieces of 64 bytes, spread evenly, the first and the last bytes among them. */
static uint64_t sample(const char *bytes, size_t size)
{
  uint64_t digest = size;
  for (size_t i = 0; i < pieces; i++) {
    size_t offset = (size - piece) / (pieces - 1) * i;
    if (i == pieces - 1) offset = size - piece;
    digest = XXH3_64bits_withSeed(bytes + offset, piece, digest);
  }
  return digest;
}

eqs_status eqs_fingerprints(int64_t count, const void *const *pointers, const size_t *sizes, uint64_t *fingerprints)
{
  eqs_status status = EQS_OK;
  if (count <= 0) return EQS_OK;
  EQS_TRY(eqs_check_pointer(pointers, "eqs_fingerprints", "pointers"));
  EQS_TRY(eqs_check_pointer(sizes, "eqs_fingerprints", "sizes"));
  EQS_TRY(eqs_check_pointer(fingerprints, "eqs_fingerprints", "fingerprints"));
  for (int64_t i = 0; i < count; i++)
    fingerprints[i] = pointers[i] == NULL ? 0
                      : sizes[i] <= whole ? XXH3_64bits(pointers[i], sizes[i])
                                          : sample(pointers[i], sizes[i]);
cleanup:
  return status;
}
