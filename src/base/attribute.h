/* A named value, as checkpoints have them of parameters. */
#ifndef EQS_BASE_ATTRIBUTE_H
#define EQS_BASE_ATTRIBUTE_H

#include <stdint.h>

typedef enum { EQS_ATTRIBUTE_INTEGER, EQS_ATTRIBUTE_NUMBER, EQS_ATTRIBUTE_TEXT } eqs_attribute_kind;

typedef struct {
  const char *name;
  eqs_attribute_kind kind;
  int64_t integer;
  double number;
  const char *text;
} eqs_attribute;

#endif
