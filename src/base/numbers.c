#include "base/numbers.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

size_t eqs_dtype_size(eqs_dtype dtype)
{
  return dtype == EQS_FLOAT32 ? 4 : 2;
}

const char *eqs_dtype_name(eqs_dtype dtype)
{
  static const char *const names[] = {"float32", "bfloat16", "float16"};
  return names[dtype];
}

static uint32_t bits_of(float x)
{
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static float float_of(uint32_t bits)
{
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* bfloat16 is the upper half of a float32. */
static uint16_t to_bfloat16(float x)
{
  uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u); /* NaN stays NaN */
  return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* IEEE 754 binary16: 5 bits of exponent (bias 15), 10 of fraction. */
static float from_float16(uint16_t half)
{
  uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 0x1fu, fraction = half & 0x3ffu;
  if (exponent == 0x1f) return float_of(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return float_of(sign | (exponent + 112) << 23 | fraction << 13);
  float magnitude = (float)fraction * 0x1p-24f; /* subnormal */
  return sign ? -magnitude : magnitude;
}

static uint16_t to_float16(float x)
{
  uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and above round to infinity */
  if (magnitude < 0x38800000u) {
    /* below 2^-14: adding 1/2 leaves the multiple of 2^-24 in the low bits, rounded to even */
    return (uint16_t)(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u));
  }
  return (uint16_t)(sign | ((magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13));
}

void eqs_to_float(eqs_dtype dtype, const void *from, float *to, int64_t count)
{
  const uint16_t *half = from;
  if (count == 0) return; /* the pointers may be NULL */
  switch (dtype) {
  case EQS_FLOAT32: memcpy(to, from, (size_t)count * sizeof *to); break;
  case EQS_BFLOAT16:
    for (int64_t i = 0; i < count; i++) to[i] = float_of((uint32_t)half[i] << 16);
    break;
  case EQS_FLOAT16:
    for (int64_t i = 0; i < count; i++) to[i] = from_float16(half[i]);
    break;
  }
}

void eqs_from_float(eqs_dtype dtype, const float *from, void *to, int64_t count)
{
  uint16_t *half = to;
  if (count == 0) return;
  switch (dtype) {
  case EQS_FLOAT32: memcpy(to, from, (size_t)count * sizeof *from); break;
  case EQS_BFLOAT16:
    for (int64_t i = 0; i < count; i++) half[i] = to_bfloat16(from[i]);
    break;
  case EQS_FLOAT16:
    for (int64_t i = 0; i < count; i++) half[i] = to_float16(from[i]);
    break;
  }
}

float eqs_dtype_largest(eqs_dtype dtype)
{
  static const float largest[] = {[EQS_FLOAT32] = FLT_MAX, [EQS_BFLOAT16] = 0x1.fep127f, [EQS_FLOAT16] = 65504};
  return largest[dtype];
}

/* From half a unit in the last place above the largest number on, values are rounded to infinity. */
static bool is_beyond(eqs_dtype dtype, float value)
{
  static const float first[] = {[EQS_FLOAT32] = INFINITY, [EQS_BFLOAT16] = 0x1.ffp127f, [EQS_FLOAT16] = 65520};
  float magnitude = fabsf(value);
  return magnitude >= first[dtype] && magnitude < INFINITY;
}

int64_t eqs_find_beyond(eqs_dtype dtype, const float *values, int64_t count)
{
  int64_t i = 0;
  while (i < count && !is_beyond(dtype, values[i])) i++;
  return i;
}

int64_t eqs_saturate(eqs_dtype dtype, float *values, int64_t count)
{
  int64_t changed = 0;
  for (int64_t i = eqs_find_beyond(dtype, values, count); i < count; i++) {
    if (!is_beyond(dtype, values[i])) continue;
    values[i] = copysignf(eqs_dtype_largest(dtype), values[i]);
    changed++;
  }
  return changed;
}
