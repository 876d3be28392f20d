/* Rules with options that select different ways through their code, and what each is equivariant under. */
#ifndef EQS_TESTS_VARIANTS_H
#define EQS_TESTS_VARIANTS_H

#include "equivariance/tensors.h"

typedef struct {
  int moves;          /* under which the rule is equivariant, as long as it is not centered */
  int centered_moves; /* and when it is */
  bool polar_first;   /* has that momentum */
  bool has_nu;
  bool element_wise; /* equivariant under permutations of the elements with signs; never centered */
} test_family;

typedef struct {
  const char *keys; /* of a group */
  const test_family *family;
} test_variant;

enum { test_variant_count = 21 };
extern const test_variant test_variants[test_variant_count];

/* Whether a variant can have a momentum; adamw has its own and counts as `none`. */
bool test_has_momentum(const test_variant *variant, int momentum);

#endif
